//! What a file says of its tokenizer, before any of it is believed.

use core::iter::Empty;

/// The parts of a byte-level BPE tokenizer, borrowed from wherever they are stored.
///
/// `T` yields the tokens and `M` the merges ("left right") as stored bytes, `K` the token types. The iterators
/// are walked more than once, so they are cheap to clone: array readers, not owned lists.
///
/// The GGUF keys, all below `tokenizer.ggml.`, stand at the fields.
#[derive(Clone, Debug)]
pub struct Vocabulary<T, M, K = Empty<i32>> {
    /// `tokens`: one entry for each id.
    pub tokens: T,
    /// `merges`: the earlier a merge stands, the sooner it is applied.
    pub merges: M,
    /// `token_type`: one entry for each token; see [`Kind`]. Without types every token is normal, but for
    /// the ids below, the end tokens of the family and whatever is written `<|…|>`, which are control tokens.
    pub kinds: Option<K>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `eot_token_id`: the end of a turn, where it differs from the end of a sequence.
    pub eot: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: bool,
}

impl<T, M> Vocabulary<T, M> {
    /// A vocabulary without types and special ids.
    pub fn new(tokens: T, merges: M) -> Self {
        Vocabulary { tokens, merges, kinds: None, bos: None, eos: None, eot: None, add_bos: false }
    }
}

/// What a token is for, with the number that GGUF gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A piece of text, stored in GPT-2's printable alphabet.
    Normal = 1,
    /// Stands for what has no token; treated as [`Kind::Control`].
    Unknown = 2,
    /// Steers the model (`<|im_start|>`); stored as it is written, never part of the text that is shown.
    Control = 3,
    /// Stored as it is written, always found in the input and shown in the output (`<tool_call>`).
    UserDefined = 4,
    /// Fills the table up (`[PAD151700]`); never produced, yields no text.
    Unused = 5,
    /// A single byte; stored and treated as [`Kind::Normal`].
    Byte = 6,
}

impl Kind {
    /// The kind with GGUF's number `number`.
    pub(crate) fn from_number(number: i32) -> Option<Kind> {
        Some(match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }

    /// Whether the token is stored in the printable alphabet.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Kind::Normal | Kind::Byte)
    }

    /// Whether merging bytes may make the token. Control tokens never come out of plain text.
    pub(crate) fn is_mergeable(self) -> bool {
        self.is_text() || self == Kind::UserDefined
    }

    /// Whether the token is found in the input by its literal text.
    pub(crate) fn is_literal(self) -> bool {
        self.is_control() || self == Kind::UserDefined
    }

    /// Whether the token is a sign to the model rather than text.
    pub(crate) fn is_control(self) -> bool {
        matches!(self, Kind::Control | Kind::Unknown)
    }
}
