//! An engine for a model, on the threads and in the memory of this machine.

use crate::arrange::will_need;
use crate::cpu::Affinity;
use crate::host::error::HostError;
use crate::host::model::Model;
use crate::host::placement::Placement;
use crate::host::setup::{BATCH, LoadProgress, Setup};
use crate::memory::huge_pages;
use crate::reads::Throttle;
use crate::{
    ArrangedMemory, Arranging, Catalogue, Cpus, FileStore, Memory, Mib, ModelFile, Pool, SlotCounts,
};
use log::{info, warn};
use std::io;
use std::path::Path;
use wick_core::{
    Arena, Arrangement, Arranger, Config, Decaying, Engine, ExpertStore, HeadRows, HeadRowsError,
    Options, Parallel, Plan, Policy, Section, Weights, arranged_bytes,
};

/// Tokens of a prompt that is read sooner with weights as they lie in the file than with arranged ones,
/// if these must be arranged first: half a batch.
const SHORT: usize = BATCH / 2;

/// Sets an engine up for `model` and hands it to `work`, with an arena that has room for a sampler.
///
/// It is a loan, since an engine borrows all that it stands on: the weights, the threads, the store, the
/// arena's memory. When `work` is done, all of it is given back, and another model may have its turn on
/// the same thread. The thread that calls is one of those that compute; until then it is bound to its
/// processor.
///
/// # Errors
/// What the machine, the control group or the [budget](Setup::memory) cannot hold is refused, with
/// numbers, before it is taken; so is what does not go with the model. Other errors are those of `work`.
pub fn with_engine<R, E: From<HostError>>(
    model: &Model<'_>,
    options: Options,
    setup: &Setup,
    work: impl for<'e> FnOnce(Engine<'e>, &mut Arena<'e>) -> Result<R, E>,
) -> Result<R, E> {
    let Model { config, weights, files, .. } = model;
    check_head_rows(model, options.head_rows)?;
    // Pages of the file's tables are not needed any more.
    files.release();
    let placement = Placement::choose(model, options, setup.budget().as_ref(), setup.low_bit)?;
    let Placement { options, plan, catalogue } = placement;
    tell(config, &options, &plan);
    let _affinity = Affinity::keep();
    // The store's threads inherit what its maker is bound to: it comes before the pool.
    let mut store = catalogue.map(|catalogue| store(catalogue, &plan, setup)).transpose()?;
    let pool = pool(setup);
    let kernels = crate::kernels();
    info!("{} threads, {} kernels", pool.threads(), kernels.name());
    let (head_rows, experts) = (options.head_rows, store.is_none());
    let what = Arrangement { head_rows, experts, moved: false, section: Section::Whole };
    let is_arranged = arranged_bytes(weights, what) == 0;
    let (mut arranged, what) = arranged_memory(model, what)?;
    let mut arranging = Arranging::new(weights, what, &mut arranged, files.parts(), &pool);
    // What only has to be moved is moved between steps.
    if !is_arranged && (!experts || setup.prompt.is_none_or(|tokens| tokens > SHORT)) {
        arrange_all(&mut arranging, &setup.loading);
    }
    read_ahead(arranging.weights(), head_rows, files.parts());
    let mut memory = arena_memory(&plan)?;
    let mut arena = Arena::new(memory.as_mut_slice());
    let policy = Decaying::default();
    let engine = match &mut store {
        None => Engine::new(*config, weights, options, &mut arena, kernels, &pool),
        Some(store) => {
            let experts = (store as &mut dyn ExpertStore, &policy as &dyn Policy);
            Engine::streaming(*config, weights, options, experts, &mut arena, kernels, &pool)
        }
    };
    let mut engine = engine.map_err(HostError::Engine)?;
    engine.arrange_with(&mut arranging);
    work(engine, &mut arena)
}

/// Memory for what is arranged, and what that is. Where all experts stand in memory, matrices that a file has arranged
/// already are moved to huge pages, if there are any: their rows lie too far apart for a processor to find its way through
/// small ones at memory's speed.
fn arranged_memory(
    model: &Model<'_>,
    what: Arrangement,
) -> Result<(ArrangedMemory, Arrangement), HostError> {
    let memory = |what| Ok((ArrangedMemory::new(&model.weights, what)?, what));
    let has_huge_pages = huge_pages(Path::new("/")).is_some_and(|given| given != "never");
    let moved = what.experts && !model.files.parts().is_empty() && has_huge_pages;
    // The system may not have the memory twice, if but as addresses.
    let all: io::Result<_> = memory(Arrangement { moved, ..what });
    all.or_else(|_| memory(what)).map_err(HostError::Weights)
}

/// Refuses rows of the LM head that the file has no predictor for, or is not packed for.
fn check_head_rows(model: &Model<'_>, wanted: HeadRows) -> Result<(), HostError> {
    let files = model.files;
    match wanted.check(&model.weights) {
        Ok(()) => Ok(()),
        Err(HeadRowsError::Arranged { found, .. }) => {
            let all = [HeadRows::Exact, HeadRows::Profiler, HeadRows::Coarse];
            let packed = all.into_iter().find(|head_rows| head_rows.layout() == found);
            let (file, packed) = (files.name().into(), packed.unwrap_or_default());
            Err(HostError::Packed { file, packed, wanted })
        }
        Err(error) => Err(files.blame(error)),
    }
}

/// Logs what the engine takes.
fn tell(config: &Config, options: &Options, plan: &Plan) {
    let Plan { weights, kv, scratch, sampler, slots, lent } = *plan;
    info!(
        "memory: weights {}, KV cache {}, scratch {}, sampler {}, expert slots {}, at first {} more",
        Mib(weights),
        Mib(kv),
        Mib(scratch),
        Mib(sampler),
        Mib(slots),
        Mib(lent)
    );
    if options.context > config.context {
        warn!("the model was made for {} positions, not {}", config.context, options.context);
    }
}

/// A store with the slots of a plan.
fn store(catalogue: Catalogue, plan: &Plan, setup: &Setup) -> Result<FileStore, HostError> {
    let count = |bytes| bytes / catalogue.slot_bytes();
    let slots = SlotCounts { lasting: count(plan.slots), spare: count(plan.lent) };
    let store =
        FileStore::with_reads(catalogue, slots, setup.reading(), |reads| match setup.emulate {
            None => reads,
            Some(device) => Box::new(Throttle::new(reads, device)),
        });
    store.map_err(HostError::Slots)
}

/// The pool, with the calling thread bound to its processor.
fn pool(setup: &Setup) -> Pool {
    let cpus = Cpus::detect();
    let pool = Pool::with_limit(setup.thread_count(&cpus), &cpus, setup.thread_limit.clone());
    pool.pin_caller();
    pool
}

/// Arranges the weights part by part, and tells how far that is.
fn arrange_all(arranging: &mut Arranging<'_>, loading: &LoadProgress) {
    let all = arranging.arrange(0);
    while arranging.arrange(0) > 0 {
        let left = arranging.arrange(1);
        loading.tell(all - left, all);
    }
}

/// Has what stays in the files' pages read now, not page by page when it is first used.
fn read_ahead(weights: &Weights<'_>, head_rows: HeadRows, files: &[ModelFile]) {
    weights.dense().for_each(|matrix| will_need(files, matrix.bytes()));
    head_rows.sketch(weights).into_iter().for_each(|sketch| will_need(files, sketch));
}

/// Memory for an arena, taken from the system page by page as it is touched.
fn arena_memory(plan: &Plan) -> Result<Memory, HostError> {
    Memory::with_spare(0, plan.arena()).map_err(HostError::Arena)
}
