//! How much memory a model takes, computed before anything is taken.

use crate::arena::{ALIGNMENT, Arena};
use crate::candidates::Candidates;
use crate::config::Config;
use crate::experts::Experts;
use crate::kv::{KvCache, KvLayout};
use crate::loan::Loan;
use crate::options::{Options, OptionsError};
use crate::scratch::Scratch;
use crate::store::SlotClass;
use crate::weights::Weights;

/// Bytes of each part of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Tensors that stay in memory.
    pub weights: usize,
    /// Keys and values of all sequences.
    pub kv: usize,
    /// Activations of one step, logits included, and the tables of expert slots.
    pub scratch: usize,
    /// The candidates of samplers.
    pub sampler: usize,
    /// Slots that experts are read into, which belong to the store; none if all stand in memory.
    pub slots: usize,
    /// Spare slots, whose memory is that of keys, values and activations until these need it. They count
    /// to no sum.
    pub lent: usize,
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
        let layout = KvLayout::new(config, options);
        let most = isize::MAX as usize / 4 / layout.bytes;
        if options.sequences > most {
            return Err(OptionsError::Range { what: "sequences", found: options.sequences, most });
        }
        let sequences = options.sequences;
        let scratch =
            Arena::measure(|arena| Scratch::new(config, weights, options, arena).map(drop));
        Ok(Plan {
            weights: options.head_rows.sketch_bytes(weights),
            kv: Arena::measure(|arena| KvCache::new(layout, sequences, arena).map(drop)),
            scratch: scratch.saturating_add(Experts::bytes(config, slots)),
            sampler: Arena::measure(|arena| Candidates::new(config.vocab, arena).map(drop)),
            slots: 0,
            lent: 0,
        })
    }

    /// Bytes that an [`Arena`] for the engine and the candidates of samplers must have.
    pub fn arena(&self) -> usize {
        self.kv + self.scratch + self.sampler + ALIGNMENT
    }

    /// All bytes.
    pub fn total(&self) -> usize {
        self.weights + self.arena() + self.slots
    }

    /// The plan with as many slots as `budget` bytes have room for, at most one for each expert, and as
    /// many spare ones as have room where nothing is touched, of a memory with pages of `page` bytes;
    /// `None` if there is not even room for the experts of a token in one layer.
    pub fn within(
        config: &Config,
        weights: &Weights<'_>,
        options: &Options,
        (slot_bytes, page): (usize, usize),
        budget: usize,
    ) -> Result<Option<Plan>, OptionsError> {
        let least = Plan::streaming(config, weights, options, config.active, slot_bytes)?;
        let Some(left) = budget.checked_sub(least.total()) else { return Ok(None) };
        let all = config.layers * config.experts;
        let class = SlotClass { page, ..SlotClass::new(0, slot_bytes) };
        let lent = Loan::new(config, weights, options, class).slots(least.kv);
        let mut slots = (config.active + left / slot_bytes.max(1)).min(all);
        loop {
            let spare = lent.min(all - slots);
            let plan = Plan::streaming(config, weights, options, slots, slot_bytes)?;
            // The tables of slots take some bytes of their own.
            let tables = Experts::bytes(config, Some(slots + spare));
            let more = tables - Experts::bytes(config, Some(slots));
            let scratch = plan.scratch.saturating_add(more);
            let plan = Plan { scratch, lent: spare * slot_bytes, ..plan };
            if plan.total() <= budget {
                return Ok(Some(plan));
            }
            if slots <= config.active {
                return Ok(Some(Plan::streaming(config, weights, options, slots, slot_bytes)?));
            }
            slots -= 1;
        }
    }
}
