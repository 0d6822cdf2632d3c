//! Why a vocabulary was refused.

use core::fmt;

/// What is wrong with a vocabulary, where, and what was expected.
///
/// Refused is whatever would leave ids or text ambiguous. Harmless oddities of real files pass: empty tokens,
/// unused entries of any text, tokens that no merge can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// More tokens than ids or more bytes than offsets of 32 bits can name.
    TooLarge {
        /// Tokens read before the limit was met.
        tokens: usize,
    },
    /// The memory for the tables could not be had.
    OutOfMemory {
        /// Bytes of the request that was refused.
        bytes: usize,
    },
    /// As many types as tokens are expected.
    KindCount {
        /// Number of tokens.
        tokens: usize,
        /// Number of types, counted up to one past the tokens.
        found: usize,
    },
    /// A token type other than 1 to 6.
    UnknownKind {
        /// The token's id.
        token: usize,
        /// The type found.
        found: i32,
    },
    /// The stored text of a token is not UTF-8.
    TokenNotUtf8 {
        /// The token's id.
        token: usize,
        /// Bytes before the first that does not fit.
        valid: usize,
    },
    /// A normal token holds a character that stands for no byte.
    TokenCharacter {
        /// The token's id.
        token: usize,
        /// The character.
        found: char,
    },
    /// Two tokens that would be found by the same text.
    RepeatedToken {
        /// The later token.
        token: usize,
        /// The earlier one.
        first: usize,
    },
    /// Texts of tokens that all hash alike, as only a crafted file has them.
    HashFlood {
        /// The token at which the table was given up.
        token: usize,
    },
    /// A byte that no token stands for: text with it could not be encoded.
    MissingByte {
        /// The byte.
        byte: u8,
    },
    /// A merge that is not two stored tokens with one space between them.
    MergeForm {
        /// The merge's index.
        merge: usize,
    },
    /// A merge whose left, right or joined text is no token.
    MergeToken {
        /// The merge's index.
        merge: usize,
        /// "left part", "right part" or "result".
        part: &'static str,
    },
    /// Two merges of the same pair.
    RepeatedMerge {
        /// The later merge.
        merge: usize,
        /// The earlier one.
        first: usize,
    },
    /// A special id beyond the tokens, which every sequence is to begin with.
    SpecialId {
        /// "bos", "eos" or "eot".
        name: &'static str,
        /// The id found.
        id: u32,
        /// Number of tokens.
        tokens: usize,
    },
    /// Every sequence is to begin with the bos token, but there is none.
    NoBos,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::TooLarge { tokens } => {
                write!(
                    f,
                    "vocabulary too large: 32-bit ids and offsets exhausted after {tokens} tokens"
                )
            }
            Error::OutOfMemory { bytes } => {
                write!(f, "no memory for the tokenizer: {bytes} bytes refused")
            }
            Error::KindCount { tokens, found } if found > tokens => {
                write!(f, "token types: {tokens} expected, one for each token, more found")
            }
            Error::KindCount { tokens, found } => {
                write!(f, "token types: {tokens} expected, one for each token, {found} found")
            }
            Error::UnknownKind { token, found } => {
                write!(f, "token {token}: type 1 to 6 expected, {found} found")
            }
            Error::TokenNotUtf8 { token, valid } => {
                write!(f, "token {token}: UTF-8 expected, invalid byte found after {valid}")
            }
            Error::TokenCharacter { token, found } => write!(
                f,
                "token {token}: characters of the byte alphabet expected, U+{:04X} found",
                found as u32
            ),
            Error::RepeatedToken { token, first } => {
                write!(
                    f,
                    "token {token}: text of its own expected, the text of token {first} found"
                )
            }
            Error::HashFlood { token } => {
                write!(f, "token {token}: texts that hash apart expected, crafted collisions found")
            }
            Error::MissingByte { byte } => {
                write!(f, "a token for each byte expected, none found for {byte:#04x}")
            }
            Error::MergeForm { merge } => {
                write!(f, "merge {merge}: two stored tokens with a space between them expected")
            }
            Error::MergeToken { merge, part } => {
                write!(f, "merge {merge}: a token expected, the {part} is none")
            }
            Error::RepeatedMerge { merge, first } => {
                write!(
                    f,
                    "merge {merge}: a pair of its own expected, the pair of merge {first} found"
                )
            }
            Error::SpecialId { name, id, tokens } => {
                write!(f, "{name} token id: below {tokens} expected, {id} found")
            }
            Error::NoBos => f.write_str("a bos token is to be added, but the file names none"),
        }
    }
}

impl core::error::Error for Error {}
