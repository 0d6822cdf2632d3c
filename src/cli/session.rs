//! Setting an engine up: threads, memory, plan.

use crate::answer::BATCH;
use crate::exit::{Exit, Failure, OrExit};
use crate::model::Model;
use anyhow::Context;
use clap::{Args, ValueEnum};
use log::{info, warn};
use std::num::NonZeroUsize;
use wick_core::{Arena, Config, Engine, Options, Output, OutputError, Parallel, Plan};
use wick_linux::{ArrangedMemory, Cpus, MemoryLimit, Pool, memory_limit};

/// How many threads compute.
#[derive(Args, Clone)]
pub(crate) struct ThreadArguments {
    /// Threads that compute [default: one for each big core, within the control group's quota]
    #[arg(short, long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl ThreadArguments {
    /// How many threads.
    pub(crate) fn count(&self, cpus: &Cpus) -> usize {
        self.threads.map_or(cpus.threads(), NonZeroUsize::get)
    }

    /// The pool, with the calling thread bound to its processor.
    fn pool(&self) -> Pool {
        let cpus = Cpus::detect();
        let pool = Pool::new(self.count(&cpus), &cpus);
        pool.pin_caller();
        pool
    }
}

/// How much of the output matrix is multiplied.
#[derive(Args, Clone)]
pub(crate) struct OutputArguments {
    /// Rows of the output matrix that a token is multiplied with
    #[arg(long, value_name = "HOW", default_value = "exact")]
    output: OutputArgument,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputArgument {
    /// All
    Exact,
    /// Those that the predictor in PowerInfer's files counts
    Profiler,
}

impl OutputArguments {
    /// `options` with this output.
    pub(crate) fn apply(&self, options: Options) -> Options {
        Options { output: self.output(), ..options }
    }

    /// Which rows are.
    pub(crate) fn output(&self) -> Output {
        match self.output {
            OutputArgument::Exact => Output::Exact,
            OutputArgument::Profiler => Output::Profiler,
        }
    }

    /// Whether all rows are.
    pub(crate) fn is_exact(&self) -> bool {
        self.output == OutputArgument::Exact
    }
}

/// Room for one conversation of `context` positions; where nothing is asked for, 4096 or what the
/// model was made for, whichever is less.
pub(crate) fn conversation(config: &Config, context: Option<usize>) -> Options {
    let context = context.unwrap_or_else(|| 4096.min(config.context));
    let output = Output::Exact;
    Options { context, sequences: 1, batch: BATCH.min(context), outputs: 1, output }
}

/// Sets an engine up for `model` and hands it to `work`, with an arena that has room for a sampler.
/// Refuses, with numbers, what the machine or the control group cannot hold.
pub(crate) fn with_engine<R>(
    model: &Model<'_>,
    options: Options,
    threads: &ThreadArguments,
    work: impl for<'e> FnOnce(Engine<'e>, &mut Arena<'e>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let Model { config, weights, .. } = model;
    check_output(model, options.output)?;
    let plan = Plan::new(config, weights, &options).or_exit(Exit::Usage)?;
    let limit = memory_limit();
    check(&plan, options.context, limit)?;
    let pool = threads.pool();
    let kernels = wick_linux::kernels();
    info!("{} threads, {} kernels", pool.threads(), kernels.name());
    let needed = (plan.arena() + wick_core::arranged_bytes(weights, options.output)) as u64;
    let fits = limit.is_none_or(|limit| needed <= limit.bytes);
    let arranged;
    let weights = if fits {
        arranged =
            ArrangedMemory::new(weights, options.output, model.files.parts(), pool.threads())
                .context("memory for the weights")
                .or_exit(Exit::Memory)?;
        &wick_core::arranged(weights, options.output, arranged.bytes())
    } else {
        warn!(
            "the model does not fit into memory: weights are read from the file when they are used"
        );
        weights
    };
    let mut memory = arena_memory(&plan)?;
    let mut arena = Arena::new(&mut memory);
    let engine = Engine::new(*config, weights, options, &mut arena, kernels, &pool);
    let engine = engine.or_exit(Exit::Model)?;
    if options.context > config.context {
        warn!("the model was made for {} positions, not {}", config.context, options.context);
    }
    work(engine, &mut arena)
}

/// Refuses an output that the file has no predictor for, or that it is not packed for.
fn check_output(model: &Model<'_>, output: Output) -> Result<(), Failure> {
    let error = match output.check(&model.weights) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    Err(match (error, output) {
        (OutputError::Arranged { .. }, Output::Exact) => model.files.blame(
            "the file is packed for --output profiler: run it with that, or pack it again without",
        ),
        (OutputError::Arranged { .. }, Output::Profiler) => model.files.blame(
            "the file is packed for exact output: run it without --output profiler, or pack it \
             again with --output profiler",
        ),
        (error, _) => model.files.blame(error),
    })
}

/// Refuses a plan that cannot be held. Weights are mapped: pages of theirs that do not fit are read
/// again, so only what is written must fit.
fn check(plan: &Plan, context: usize, limit: Option<MemoryLimit>) -> Result<(), Failure> {
    let Plan { weights, kv, scratch, sampler } = *plan;
    info!(
        "memory: weights {}, KV cache {}, scratch {}, sampler {}",
        Mib(weights),
        Mib(kv),
        Mib(scratch),
        Mib(sampler)
    );
    match limit {
        Some(limit) if plan.arena() as u64 > limit.bytes => Err(Failure::new(
            Exit::Memory,
            format_args!(
                "KV cache and scratch for a context of {context} take {}, but the {} is {}; ask for \
                 a smaller --context",
                Mib(plan.arena()),
                limit.source,
                Mib(limit.bytes as usize)
            ),
        )),
        _ => Ok(()),
    }
}

/// Memory for an arena, taken from the system page by page as it is touched.
fn arena_memory(plan: &Plan) -> Result<Vec<u8>, Failure> {
    let bytes = plan.arena();
    let mut probe = Vec::<u8>::new();
    let refused = probe.try_reserve_exact(bytes).is_err();
    drop(probe);
    if refused {
        return Err(Failure::new(Exit::Memory, format_args!("the system refuses {}", Mib(bytes))));
    }
    // Zeroed by the system when touched, unlike memory that is reserved and then filled.
    Ok(vec![0; bytes])
}

/// Bytes, shown in MiB.
pub(crate) struct Mib(pub(crate) usize);

impl std::fmt::Display for Mib {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}
