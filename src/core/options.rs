//! What an engine is asked to hold.

use crate::head_rows::HeadRows;
use core::fmt;
use half::f16;

/// What an engine is asked to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Positions of each sequence.
    pub context: usize,
    /// Sequences side by side.
    pub sequences: usize,
    /// Most tokens of one step, of all sequences together.
    pub batch: usize,
    /// Most tokens of one step whose logits are wanted.
    pub logits: usize,
    /// Which rows of the LM head are multiplied.
    pub head_rows: HeadRows,
    /// How keys and values are kept.
    pub kv: KvFormat,
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvFormat {
    /// 16 bits a value.
    #[default]
    F16,
    /// 8 bits a value and a scale for 32 values. Queries are rounded to as many bits where they are
    /// multiplied with keys.
    Q8_0,
}

/// Values that share a scale in [`KvFormat::Q8_0`].
pub(crate) const KV_BLOCK: usize = 32;

impl KvFormat {
    /// Checks that heads of this size can be kept so.
    pub fn check(self, head: usize) -> Result<(), OptionsError> {
        match self {
            KvFormat::Q8_0 if !head.is_multiple_of(KV_BLOCK) => Err(OptionsError::Head { head }),
            _ => Ok(()),
        }
    }

    /// Bytes of the key or the value of a position in one KV head.
    pub const fn bytes(self, head: usize) -> usize {
        match self {
            KvFormat::F16 => head * size_of::<f16>(),
            KvFormat::Q8_0 => head + head / KV_BLOCK * size_of::<f16>(),
        }
    }
}

/// Sequences an engine may hold.
pub const MAX_SEQUENCES: usize = 1024;
/// Tokens a step may take.
pub const MAX_BATCH: usize = 4096;

impl Options {
    /// Checks that every number is possible.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let within = |what, found, most| match found {
            n if n < 1 || n > most => Err(OptionsError::Range { what, found, most }),
            _ => Ok(()),
        };
        within("context", self.context, 1 << 24)?;
        within("sequences", self.sequences, MAX_SEQUENCES)?;
        within("batch", self.batch, MAX_BATCH)?;
        within("logits", self.logits, self.batch)
    }
}

/// [`Options`] that no engine can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// A number is out of range.
    Range {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: usize,
        /// Most that is possible; the least is 1.
        most: usize,
    },
    /// The model's heads cannot be kept as [`KvFormat::Q8_0`].
    Head {
        /// Size of a head.
        head: usize,
    },
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionsError::Range { what, found, most } => {
                write!(f, "{what}: 1 to {most} expected, {found} found")
            }
            OptionsError::Head { head } => write!(
                f,
                "KV cache in Q8_0: a head size that is a multiple of 32 expected, {head} found; keep \
                 keys and values as f16"
            ),
        }
    }
}

impl core::error::Error for OptionsError {}
