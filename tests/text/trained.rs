//! The trained vocabulary, from its `tokenizer.json` to a [`Tokenizer`] of wick.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use wick_text::{Tokenizer, Vocabulary};

/// Text of the `tokenizer.json`.
pub(crate) const JSON: &str = include_str!("vocabulary.json");

/// The tokenizer of wick, built once.
pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    static BUILT: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    BUILT.get_or_init(|| Arc::new(build())).clone()
}

fn build() -> Tokenizer {
    let json: Value = serde_json::from_str(JSON).expect("vocabulary.json is JSON");
    let (tokens, kinds) = tokens(&json);
    let merges: Vec<String> = list(&json["model"]["merges"]).iter().map(merge).collect();
    let id = |text: &str| tokens.iter().position(|token| token == text).map(|id| id as u32);
    Tokenizer::new(Vocabulary {
        tokens: tokens.iter().map(String::as_bytes),
        merges: merges.iter().map(String::as_bytes),
        kinds: Some(kinds.iter().copied()),
        bos: None,
        eos: id("<|im_end|>"),
        eot: None,
        add_bos: false,
    })
    .expect("the trained vocabulary is good")
}

/// Tokens by id and their types: 1 for the model's, 3 or 4 for the added ones.
fn tokens(json: &Value) -> (Vec<String>, Vec<i32>) {
    let vocabulary = json["model"]["vocab"].as_object().expect("a table of tokens");
    let mut entries: Vec<(u64, &str, i32)> = vocabulary
        .iter()
        .map(|(text, id)| (id.as_u64().expect("an id"), text.as_str(), 1))
        .collect();
    for added in list(&json["added_tokens"]) {
        let id = added["id"].as_u64().expect("an id");
        let kind = if added["special"] == true { 3 } else { 4 };
        entries.push((id, added["content"].as_str().expect("text"), kind));
    }
    entries.sort_unstable();
    assert!(entries.iter().enumerate().all(|(at, entry)| at as u64 == entry.0), "ids without gaps");
    entries.into_iter().map(|(_, text, kind)| (text.to_owned(), kind)).unzip()
}

fn merge(pair: &Value) -> String {
    let part = |at: usize| pair[at].as_str().expect("a merge is two strings");
    format!("{} {}", part(0), part(1))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}
