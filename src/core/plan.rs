//! How much memory a model takes, computed before anything is taken.

use crate::arena::{ALIGNMENT, Arena};
use crate::config::Config;
use crate::experts::Experts;
use crate::kv::{KvCache, KvFormat, Layout};
use crate::output::Output;
use crate::sampler::Sampler;
use crate::scratch::Sizes;
use crate::weights::Weights;
use core::fmt;

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
    pub outputs: usize,
    /// Which rows of the output matrix are multiplied.
    pub output: Output,
    /// How keys and values are kept.
    pub kv: KvFormat,
}

/// Sequences an engine may hold.
pub const MAX_SEQUENCES: usize = 1024;
/// Tokens a step may take.
pub const MAX_BATCH: usize = 4096;

/// Bytes of each part of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Tensors that stay in memory.
    pub weights: usize,
    /// Keys and values of all sequences.
    pub kv: usize,
    /// Activations of one step, logits included, and the tables of expert slots.
    pub scratch: usize,
    /// The sampler's candidates.
    pub sampler: usize,
    /// Slots that experts are read into, which belong to the store; none if all stand in memory.
    pub slots: usize,
}

impl Plan {
    /// The plan for a model under these options, with all experts in memory.
    pub fn new(
        config: &Config,
        weights: &Weights<'_>,
        options: &Options,
    ) -> Result<Plan, OptionsError> {
        let resident = Plan::of_arena(config, weights, options, None)?;
        Ok(Plan { weights: weights.bytes() + resident.weights, ..resident })
    }

    /// The plan for a model whose experts are read into some slots of `slot_bytes` each, at least
    /// [`Weights::slot_bytes`].
    pub fn streaming(
        config: &Config,
        weights: &Weights<'_>,
        options: &Options,
        slots: usize,
        slot_bytes: usize,
    ) -> Result<Plan, OptionsError> {
        let streaming = Plan::of_arena(config, weights, options, Some(slots))?;
        let slots = slots.saturating_mul(slot_bytes);
        let weights = weights.dense_bytes() + streaming.weights;
        Ok(Plan { weights, slots, ..streaming })
    }

    /// The plan without the weights of the file.
    fn of_arena(
        config: &Config,
        weights: &Weights<'_>,
        options: &Options,
        slots: Option<usize>,
    ) -> Result<Plan, OptionsError> {
        options.validate()?;
        options.kv.check(config.head)?;
        let layout = Layout::new(config, options);
        let most = isize::MAX as usize / 4 / layout.bytes;
        if options.sequences > most {
            return Err(OptionsError::Range { what: "sequences", found: options.sequences, most });
        }
        Ok(Plan {
            weights: options.output.sketch_bytes(weights),
            kv: KvCache::bytes(&layout, options.sequences),
            scratch: Sizes::new(config, weights, options).bytes() + Experts::bytes(config, slots),
            sampler: Sampler::bytes(config.vocab),
            slots: 0,
        })
    }

    /// Bytes that an [`Arena`] for the engine and one sampler must have.
    pub fn arena(&self) -> usize {
        self.kv + self.scratch + self.sampler + ALIGNMENT
    }

    /// All bytes.
    pub fn total(&self) -> usize {
        self.weights + self.arena() + self.slots
    }

    /// The plan with as many slots as `budget` bytes have room for, at most one for each expert;
    /// `None` if there is not even room for the experts of a token in one layer.
    pub fn within(
        config: &Config,
        weights: &Weights<'_>,
        options: &Options,
        slot_bytes: usize,
        budget: usize,
    ) -> Result<Option<Plan>, OptionsError> {
        let least = Plan::streaming(config, weights, options, config.active, slot_bytes)?;
        let Some(left) = budget.checked_sub(least.total()) else { return Ok(None) };
        let all = config.layers * config.experts;
        let mut slots = (config.active + left / slot_bytes.max(1)).min(all);
        loop {
            let plan = Plan::streaming(config, weights, options, slots, slot_bytes)?;
            // The table of slots takes some bytes of its own.
            if slots <= config.active || plan.total() <= budget {
                return Ok(Some(plan));
            }
            slots -= 1;
        }
    }
}

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
        within("outputs", self.outputs, self.batch)
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

/// Bytes that [`Arena::take`] uses for `len` values of `f32`.
pub(crate) const fn floats(len: usize) -> usize {
    Arena::bytes_for::<f32>(len)
}
