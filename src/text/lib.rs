//! Byte-level BPE: text to token ids and back, as the SmallThinker models were trained.
//!
//! A [`Vocabulary`] lends the tokens and merges of a file; [`Tokenizer::new`] checks them and copies
//! what it needs into a few flat arrays, so that the file may be unmapped. [`Tokenizer::encode`] finds
//! special tokens, splits the text between them by the Qwen2 rule and merges bytes within each piece;
//! a [`Detokenizer`] turns a stream of ids back into text and never shows part of a character.
//!
//! ```
//! # use wick_text::{Control, Detokenizer, Error, Special, Tokenizer, Vocabulary};
//! # let stored: Vec<String> = (0..=255).map(|byte| wick_text::stored_char(byte).into()).collect();
//! # let tokens: Vec<&[u8]> = stored.iter().map(|s| s.as_bytes()).chain([b"hi".as_slice()]).collect();
//! # let merges: [&[u8]; 1] = [b"h i"];
//! let tokenizer = Tokenizer::new(Vocabulary::new(tokens.iter().copied(), merges.iter().copied()))?;
//! let mut ids = Vec::new();
//! tokenizer.encode("hi!", Special::Parse, &mut ids);
//! assert_eq!(ids, [256, 33]);
//!
//! let mut detokenizer = Detokenizer::new(Control::Hide);
//! let text: String = ids.iter().map(|&id| detokenizer.push(&tokenizer, id).to_owned()).collect();
//! assert_eq!(text + detokenizer.finish(), "hi!");
//! # Ok::<(), Error>(())
//! ```
//!
//! # Limits
//! - Text is not normalized. The `tokenizer.json` of Qwen2 asks for NFC; a GGUF file carries no
//!   normalizer and llama.cpp applies none, so neither does this crate.
//! - The contractions are those of the rule as written (`'[sS]` and so on), without Unicode case
//!   folding: U+017F (long s) is not an `s` here.
//! - Letters and numbers are those of the Unicode version of `unicode-properties`; a reference with older tables
//!   splits around characters assigned since.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod alphabet;
mod bpe;
mod control;
mod detokenizer;
mod error;
mod merges;
mod part;
mod special;
mod split;
mod tokenizer;
mod tokens;
mod vocabulary;
mod word;

#[cfg(test)]
mod tests;

pub use alphabet::stored_char;
pub use bpe::Scratch;
pub use control::Control;
pub use detokenizer::Detokenizer;
pub use error::Error;
pub use special::Special;
pub use split::{Pieces, split};
pub use tokenizer::{END_NAMES, Tokenizer};
pub use vocabulary::{Kind, Vocabulary};
