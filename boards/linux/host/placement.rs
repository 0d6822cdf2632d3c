//! Which of a model's experts stand in memory.

use crate::fault::page_size;
use crate::host::budget::{Budget, Footprint};
use crate::host::error::HostError;
use crate::host::model::Model;
use crate::reads::READERS;
use crate::{Caching, Catalogue, resident_anonymous};
use wick_core::{Options, Plan};

/// Most tokens that go through the model together where experts are read as they are wanted: the more
/// they are, the more tokens share the reading of an expert.
const STREAMING_BATCH: usize = 512;
/// Scratch of a larger batch is worth its memory if it is no more than one byte in so many.
const SCRATCH_SHARE: usize = 24;

/// Where a model's experts are to be, and what it takes.
#[derive(Debug)]
pub struct Placement {
    /// What the engine is asked to hold.
    pub options: Options,
    /// Bytes of each part.
    pub plan: Plan,
    /// Where experts are read from; `None` if all stand in memory.
    pub catalogue: Option<Catalogue>,
}

impl Placement {
    /// What a budget allows: all experts in memory if they fit, else as many slots as do. Batches
    /// become larger then, as far as their scratch stays small beside the budget. Low-bit copies of
    /// experts have their place only if they are wanted.
    ///
    /// # Errors
    /// The budget is too small, no engine can have these options, or the files have not the experts or
    /// not the copies.
    pub fn choose(
        model: &Model<'_>,
        options: Options,
        budget: Option<&Budget>,
        low_bit: bool,
    ) -> Result<Placement, HostError> {
        let Model { config, weights, files, .. } = model;
        if low_bit && model.low_bit.is_none() {
            let missing = "no low-bit copies of experts: pack the model with --low-bit";
            return Err(files.blame(missing));
        }
        let whole = Plan::new(config, weights, &options)?;
        let Some(budget) = budget.filter(|budget| whole.total() > budget.bytes()) else {
            return Ok(Placement { options, plan: whole, catalogue: None });
        };
        if files.parts().is_empty() {
            return Err(budget.shortage(whole, 0, options.context).into());
        }
        let catalogue = catalogue(model, low_bit)?;
        let slot_bytes = catalogue.slot_bytes();
        let buffers = catalogue.scratch_bytes(READERS);
        let left = budget.bytes().saturating_sub(buffers);
        let options = with_larger_batch(model, options, slot_bytes, left)?;
        match Plan::within(config, weights, &options, (slot_bytes, page_size()), left)? {
            Some(plan) => Ok(Placement { options, plan, catalogue: Some(catalogue) }),
            None => {
                let least = least(model, &options, slot_bytes)?;
                Err(budget.shortage(least, buffers, options.context).into())
            }
        }
    }
}

impl Placement {
    /// What the whole process takes with the model in it: `budget` knows what it took before, or else it
    /// is what it takes now.
    pub fn footprint(&self, budget: Option<&Budget>) -> Footprint {
        let now = || resident_anonymous().unwrap_or(0) as usize;
        let taken = budget.map_or_else(now, |budget| budget.taken);
        let buffers = self.catalogue.as_ref().map_or(0, |c| c.scratch_bytes(READERS));
        Footprint::new(&self.plan, taken, buffers)
    }
}

/// Where the experts lie, and their low-bit copies if they are wanted.
fn catalogue(model: &Model<'_>, low_bit: bool) -> Result<Catalogue, HostError> {
    let Model { weights, files, experts, checksums, .. } = model;
    let (parts, checksums) = (files.parts(), checksums.clone());
    let catalogue = Catalogue::new(weights, parts, experts, checksums, Caching::Direct)?;
    Ok(match model.low_bit.clone().filter(|_| low_bit) {
        Some(copies) => catalogue.with_low_bit(copies),
        None => catalogue,
    })
}

/// What an engine takes if only the experts of a token in one layer have slots.
fn least(model: &Model<'_>, options: &Options, slot_bytes: usize) -> Result<Plan, HostError> {
    let Model { config, weights, .. } = model;
    Ok(Plan::streaming(config, weights, options, config.active, slot_bytes)?)
}

/// `options` with the largest batch whose scratch takes a small share of the `left` bytes, and that
/// leaves enough of them for slots; or as they are.
fn with_larger_batch(
    model: &Model<'_>,
    options: Options,
    slot_bytes: usize,
    left: usize,
) -> Result<Options, HostError> {
    // Scratch for the logits of all tokens would grow with the batch.
    let largest = if options.logits < options.batch { STREAMING_BATCH } else { 0 };
    let halves = std::iter::successors(Some(largest), |batch| Some(batch / 2));
    for batch in halves.take_while(|batch| *batch > options.batch) {
        let larger = Options { batch: batch.min(options.context), ..options };
        let plan = least(model, &larger, slot_bytes)?;
        if plan.scratch <= left / SCRATCH_SHARE && plan.total() <= left {
            return Ok(larger);
        }
    }
    Ok(options)
}
