//! How likely tokens were, in OpenAI's two forms.

use serde_json::{Value, json};
use wick_session::LogProbability;
use wick_text::{Control, Detokenizer, Tokenizer};

/// Probabilities too small for a number.
const LEAST: f32 = -9999.0;

/// For chat: each token with its bytes and those that were likelier or nearly as likely.
pub(super) fn of_chat(tokenizer: &Tokenizer, tokens: &[LogProbability]) -> Value {
    let token = |id: u32, value: f32| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        json!({"token": String::from_utf8_lossy(bytes), "logprob": value.max(LEAST), "bytes": bytes})
    };
    let content = tokens.iter().map(|LogProbability { id, value, top }| {
        let mut entry = token(*id, *value);
        entry["top_logprobs"] = top.iter().map(|(id, value)| token(*id, *value)).collect();
        entry
    });
    json!({"content": content.collect::<Vec<_>>(), "refusal": null})
}

/// How far a text is, in characters.
#[derive(Debug)]
pub(super) struct Offset {
    detokenizer: Detokenizer,
    characters: usize,
}

impl Offset {
    /// At its beginning.
    pub(super) fn new() -> Offset {
        Offset { detokenizer: Detokenizer::new(Control::Hide), characters: 0 }
    }

    /// Where a token stands that comes now.
    fn of(&mut self, tokenizer: &Tokenizer, id: u32) -> usize {
        let before = self.characters;
        self.characters += self.detokenizer.push(tokenizer, id).chars().count();
        before
    }
}

/// For completions: lists side by side, for tokens that come at `offset`.
pub(super) fn of_completion(
    tokenizer: &Tokenizer,
    tokens: &[LogProbability],
    offset: &mut Offset,
) -> Value {
    let name = |id: u32| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    let (mut names, mut values, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    for LogProbability { id, value, top } in tokens {
        let token = name(*id);
        let top = top.iter().map(|(id, value)| (name(*id), json!(value.max(LEAST))));
        tops.push(Value::Object(top.collect()));
        values.push(value.max(LEAST));
        offsets.push(offset.of(tokenizer, *id));
        names.push(token);
    }
    json!({"tokens": names, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets})
}
