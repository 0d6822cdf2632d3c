//! What can be wrong with a step.

use crate::damage::Damage;
use crate::store::StoreError;
use core::fmt;

/// A batch cannot be run, or not for all its sequences; those are as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// More tokens than a step takes.
    Batch {
        /// Tokens in the batch.
        found: usize,
        /// Most that a step takes.
        most: usize,
    },
    /// More tokens want logits than there is room for.
    Logits {
        /// Tokens that want logits.
        found: usize,
        /// Most that may.
        most: usize,
    },
    /// No such entry of the vocabulary.
    Id {
        /// The token's id.
        id: u32,
        /// Entries of the vocabulary.
        vocab: usize,
    },
    /// No such sequence.
    Sequence {
        /// The token's sequence.
        sequence: usize,
        /// Sequences there are.
        sequences: usize,
    },
    /// The context has no room.
    Full {
        /// The sequence.
        sequence: usize,
        /// Positions it holds.
        held: usize,
        /// Positions that were to be added.
        more: usize,
        /// Positions it has room for.
        context: usize,
    },
    /// An expert could not be read.
    Store(StoreError),
    /// The model computes what no sound model does.
    Damaged(Damage),
}

impl StepError {
    /// Whether it concerns some sequences of the batch only, which
    /// [`Engine::failure`](crate::Engine::failure) names.
    pub const fn is_of_sequences(&self) -> bool {
        matches!(self, StepError::Store(_) | StepError::Damaged(_))
    }
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> StepError {
        StepError::Store(error)
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::Batch { found, most } => {
                write!(f, "batch: at most {most} tokens expected, {found} found")
            }
            StepError::Logits { found, most } => {
                write!(f, "batch: logits of at most {most} tokens expected, of {found} wanted")
            }
            StepError::Id { id, vocab } => {
                write!(f, "token {id}: the vocabulary has {vocab} entries")
            }
            StepError::Sequence { sequence, sequences } => {
                write!(f, "sequence {sequence}: there are {sequences}")
            }
            StepError::Full { sequence, held, more, context } => write!(
                f,
                "sequence {sequence}: {held} positions held and {more} more wanted, but the context \
                 is {context}; ask for a larger context"
            ),
            StepError::Store(e) => e.fmt(f),
            StepError::Damaged(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for StepError {}
