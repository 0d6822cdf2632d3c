//! A byte-level BPE vocabulary of any size, as GGUF stores it.

use crate::metadata::Metadata;
use crate::random::Random;
use std::collections::HashSet;
use wick_text::{Kind, stored_char};

/// The end of a text, the beginning and the end of a turn. In a vocabulary of the published size
/// they have the published ids, 151643 to 151645.
const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// Every byte and the special tokens.
pub(crate) const LEAST_ENTRIES: usize = 256 + SPECIALS.len();
/// Merges of the published vocabulary.
const MOST_MERGES: usize = 151_387;
/// Characters of the longest tokens.
const LONGEST: usize = 12;
/// ChatML.
const CHAT_TEMPLATE: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Tokens in the order of their ids: the bytes, the merges' results, the special tokens, padding.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    /// "left right".
    merges: Vec<String>,
}

impl Vocabulary {
    /// A vocabulary of `entries` tokens, [`LEAST_ENTRIES`] or more. The merges make strings of
    /// letters, some behind a space, whose lengths are like those of a trained vocabulary's.
    pub(crate) fn new(entries: usize, seed: u64) -> Vocabulary {
        let mut tokens: Vec<String> = (0..=255).map(|b| stored_char(b).into()).collect();
        let merges = merges((entries - LEAST_ENTRIES).min(MOST_MERGES), seed, &mut tokens);
        let mut kinds = vec![Kind::Normal as i32; tokens.len()];
        tokens.extend(SPECIALS.map(String::from));
        kinds.resize(tokens.len(), Kind::Control as i32);
        tokens.extend((tokens.len()..entries).map(|id| format!("[PAD{id}]")));
        kinds.resize(entries, Kind::Unused as i32);
        Vocabulary { tokens, kinds, merges }
    }

    /// Adds the tokenizer's keys, with those that the published files have.
    pub(crate) fn describe(&self, metadata: &mut Metadata) {
        let [text, _, turn] = [0, 1, 2].map(|i| (256 + self.merges.len() + i) as u32);
        metadata
            .str("tokenizer.ggml.model", "gpt2")
            .str("tokenizer.ggml.pre", "qwen2")
            .strings("tokenizer.ggml.tokens", &self.tokens)
            .integers("tokenizer.ggml.token_type", &self.kinds)
            .strings("tokenizer.ggml.merges", &self.merges)
            .u32("tokenizer.ggml.bos_token_id", text)
            .u32("tokenizer.ggml.eos_token_id", turn)
            .u32("tokenizer.ggml.padding_token_id", text)
            .bool("tokenizer.ggml.add_bos_token", false)
            .str("tokenizer.chat_template", CHAT_TEMPLATE);
    }
}

/// Draws merges and adds what they make to `tokens`, each new as training would have it.
fn merges(count: usize, seed: u64, tokens: &mut Vec<String>) -> Vec<String> {
    let letters = || ('a'..='z').map(String::from);
    let mut heads: Vec<String> = letters().chain(('A'..='Z').map(String::from)).collect();
    heads.push(stored_char(b' ').into());
    let mut tails: Vec<String> = letters().collect();
    let (mut merges, mut known) = (Vec::with_capacity(count), HashSet::new());
    let mut random = Random::new(&[seed, 0]);
    while merges.len() < count {
        let (head, tail) = (early(&heads, &mut random), early(&tails, &mut random));
        let token = format!("{head}{tail}");
        if token.chars().count() > LONGEST || !known.insert(token.clone()) {
            continue;
        }
        merges.push(format!("{head} {tail}"));
        if token.starts_with(|c: char| c.is_ascii_lowercase()) {
            tails.push(token.clone());
        }
        heads.push(token.clone());
        tokens.push(token);
    }
    merges
}

/// One of `pool`, more likely one of the first, which are short.
fn early<'p>(pool: &'p [String], random: &mut Random) -> &'p str {
    &pool[(random.unit().powi(2) * pool.len() as f64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use wick_text::{Special, Tokenizer};

    fn tokenizer(vocabulary: &Vocabulary) -> Tokenizer {
        let bytes = |list: &'static [String]| list.iter().map(String::as_bytes);
        let kept = |list: &Vec<String>| bytes(Vec::leak(list.clone()));
        let parts = wick_text::Vocabulary::new(kept(&vocabulary.tokens), kept(&vocabulary.merges));
        Tokenizer::new(parts).unwrap()
    }

    #[test]
    fn every_size_is_a_tokenizer() {
        for entries in [LEAST_ENTRIES, 300, 5000] {
            let vocabulary = Vocabulary::new(entries, 1);
            assert_eq!((vocabulary.tokens.len(), vocabulary.kinds.len()), (entries, entries));
            let tokenizer = tokenizer(&vocabulary);
            let text = "There is a lamp, <|im_end|> naïve";
            let mut ids = Vec::new();
            tokenizer.encode(text, Special::Parse, &mut ids);
            let back: Vec<u8> =
                ids.iter().flat_map(|id| tokenizer.token_bytes(*id).unwrap()).copied().collect();
            assert_eq!(String::from_utf8(back).unwrap(), text);
            assert_eq!(tokenizer.id_of("<|im_end|>"), Some(entries as u32 - 1));
        }
    }

    #[test]
    fn the_published_size_has_the_published_ids() {
        let vocabulary = Vocabulary::new(151_936, 1);
        assert_eq!(vocabulary.merges.len(), MOST_MERGES);
        assert_eq!(vocabulary.tokens[151_643..151_646], SPECIALS);
        assert_eq!(vocabulary.tokens[151_646], "[PAD151646]");
    }
}
