//! A token of a step, and what it asks for.

/// One token of a batch. Its position is the next of its sequence.
///
/// What a request wants belongs to its tokens, never to the batch: a token's logits are the same bits
/// whatever else is stepped beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    /// Entry of the vocabulary.
    pub id: u32,
    /// Sequence that it is appended to.
    pub sequence: usize,
    /// Which of the logits that follow it must be right.
    pub logits: Logits,
    /// How its experts may differ from the model's.
    pub approximation: Approximation,
}

impl Token {
    /// A token that is computed as the model has it.
    pub const fn new(id: u32, sequence: usize, logits: Logits) -> Token {
        Token { id, sequence, logits, approximation: Approximation::NONE }
    }

    /// Whether logits are computed for it.
    pub const fn wants_logits(&self) -> bool {
        !matches!(self.logits, Logits::None)
    }
}

/// Which logits of a token must be right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logits {
    /// None: the token is only read.
    #[default]
    None,
    /// So many of the largest, which [`HeadRows::Coarse`](crate::HeadRows::Coarse) makes use of; others
    /// may be −∞.
    Top(usize),
    /// Those of the rows that the predictor in the file counts, if the engine has
    /// [`HeadRows::Profiler`](crate::HeadRows::Profiler); others are −∞.
    Predicted,
    /// All.
    All,
}

/// Ways to read fewer experts that change what is computed; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Approximation {
    /// How much lower the logit of an expert that has a slot may be than that of one which has none,
    /// and still be chosen before it; 0 to choose by logits alone.
    pub prefer_resident: f32,
    /// The largest weight with which a token's last expert is left out if it has no slot, the weights of
    /// the others growing to a sum of one; 0 to leave none out.
    pub skip_missing: f32,
    /// Whether low-bit copies of experts that have no slot are read in their place, where the store has
    /// them, and used for as long as they have a slot. An expert that other tokens of the step want
    /// as it is, is read as it is.
    pub low_bit: bool,
}

impl Approximation {
    /// The model as it is.
    pub const NONE: Approximation =
        Approximation { prefer_resident: 0.0, skip_missing: 0.0, low_bit: false };

    /// Whether the choice of experts may differ.
    pub(crate) fn changes_choice(&self) -> bool {
        self.prefer_resident > 0.0 || self.skip_missing > 0.0
    }
}
