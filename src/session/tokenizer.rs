//! The tokenizer of a model, from the metadata of its file.

use core::fmt;
use wick_format::{Found, Gguf};
use wick_text::{Tokenizer, Vocabulary};

/// The one kind of tokenizer that there is, by the keys that name it.
const KIND: [(&str, &str); 2] = [("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "qwen2")];

/// Reads the tokenizer of a model from the metadata of its first file.
///
/// # Errors
/// It is of another kind, or something of it is missing or contradicts itself.
pub fn tokenizer<'m>(gguf: &Gguf<'m>) -> Result<Tokenizer, TokenizerError<'m>> {
    for (key, expected) in KIND {
        let found = gguf.get(key).map(|entry| entry.str()).transpose()?;
        if let Some(found) = found.filter(|found| *found != expected) {
            return Err(TokenizerError::Kind { key, expected, found });
        }
    }
    // Some writers have -1 for a token that there is none of.
    let id = |key| -> Result<Option<u32>, wick_format::Error<'m>> {
        let id = gguf.get(key).map(|entry| entry.u32()).transpose()?;
        Ok(id.filter(|&id| id != u32::MAX))
    };
    let kinds = gguf.get("tokenizer.ggml.token_type").map(|entry| entry.integers()).transpose()?;
    let add_bos = gguf.get("tokenizer.ggml.add_bos_token").map(|entry| entry.bool()).transpose()?;
    let vocabulary = Vocabulary {
        tokens: gguf.need("tokenizer.ggml.tokens")?.strings()?,
        merges: gguf.need("tokenizer.ggml.merges")?.strings()?,
        // A type that fits no 32 bits is as unknown as any other unknown one.
        kinds: kinds.map(|kinds| kinds.map(|kind| i32::try_from(kind).unwrap_or(i32::MAX))),
        bos: id("tokenizer.ggml.bos_token_id")?,
        eos: id("tokenizer.ggml.eos_token_id")?,
        eot: id("tokenizer.ggml.eot_token_id")?,
        add_bos: add_bos.unwrap_or(false),
    };
    Tokenizer::new(vocabulary).map_err(TokenizerError::Vocabulary)
}

/// A model's file has no tokenizer that can be used.
#[derive(Debug)]
pub enum TokenizerError<'m> {
    /// The metadata cannot be read.
    Metadata(wick_format::Error<'m>),
    /// A key names another kind of tokenizer.
    Kind {
        /// The key.
        key: &'static str,
        /// What it should name.
        expected: &'static str,
        /// What it names.
        found: &'m str,
    },
    /// The vocabulary is not consistent.
    Vocabulary(wick_text::Error),
}

impl fmt::Display for TokenizerError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenizerError::Metadata(error) => error.fmt(f),
            // The file's own text may be long, and steer a terminal.
            TokenizerError::Kind { key, expected, found } => {
                write!(f, "{key}: {expected} expected, {} found", Found::Text(found))
            }
            TokenizerError::Vocabulary(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for TokenizerError<'_> {}

impl<'m> From<wick_format::Error<'m>> for TokenizerError<'m> {
    fn from(error: wick_format::Error<'m>) -> TokenizerError<'m> {
        TokenizerError::Metadata(error)
    }
}
