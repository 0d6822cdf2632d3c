//! A model's tokens as llguidance sees them.

use super::error::FormError;
use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use std::sync::Arc;
use wick_text::{Special, Tokenizer};

/// The tokens as a trie of their bytes; control tokens have none there, so that no form allows them.
pub(super) struct Vocabulary {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

impl Vocabulary {
    /// The vocabulary of a tokenizer.
    ///
    /// # Errors
    /// It has no token that ends a text.
    pub(super) fn new(tokenizer: &Arc<Tokenizer>) -> Result<Vocabulary, FormError> {
        let ids = 0..tokenizer.len() as u32;
        let ends: Vec<u32> = ids.clone().filter(|id| tokenizer.is_end(*id)).collect();
        let Some(end) = ends.first() else {
            return Err(FormError::new("the vocabulary has no token that ends a text"));
        };
        let words: Vec<Vec<u8>> = ids.map(|id| word(tokenizer, id).to_vec()).collect();
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, *end), &words);
        let trie = if ends.len() > 1 { trie.with_eos_tokens(&ends) } else { trie };
        Ok(Vocabulary { trie, tokenizer: Arc::clone(tokenizer) })
    }
}

/// The bytes of a token that is text.
fn word(tokenizer: &Tokenizer, id: u32) -> &[u8] {
    let mut is_text = !tokenizer.is_control(id) && !tokenizer.is_end(id);
    is_text &= tokenizer.kind(id) != Some(wick_text::Kind::Unused);
    let bytes = tokenizer.token_bytes(id).filter(|_| is_text).unwrap_or_default();
    // Such tokens are special ones to llguidance. No UTF-8 has this byte.
    if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) { &[] } else { bytes }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let mut ids = Vec::new();
            self.tokenizer.encode(text, Special::Text, &mut ids);
            ids
        })
    }
}
