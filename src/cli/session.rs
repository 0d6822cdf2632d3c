//! Setting an engine up: threads, memory, plan.

use crate::answer::{BATCH, Drawing};
use crate::exit::{Exit, Failure, OrExit};
use crate::memory::{MemoryArguments, Mib};
use crate::model::Model;
use crate::plan::Placement;
use crate::streaming::StreamingArguments;
use anyhow::Context;
use clap::{Args, ValueEnum};
use log::{info, warn};
use std::num::NonZeroUsize;
use wick_core::{
    Approximation, Arena, Arrangement, Arranger, Config, Decaying, Engine, ExpertStore, KvFormat,
    Options, Output, OutputError, Parallel, Plan, Policy, Sampling, Section,
};
use wick_linux::{ArrangedMemory, Arranging, Cpus, Pool};

/// Tokens of a prompt that is read sooner with weights as they lie in the file than with arranged ones,
/// if these must be arranged first: half a batch.
const SHORT: usize = BATCH / 2;

/// What every verb that computes lets its user choose.
#[derive(Args, Clone)]
pub(crate) struct EngineArguments {
    /// Threads that compute [default: one for each big core, within the control group's quota]
    #[arg(short, long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    kv: KvArguments,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    streaming: StreamingArguments,
}

impl EngineArguments {
    /// How many threads.
    pub(crate) fn count(&self, cpus: &Cpus) -> usize {
        self.threads.map_or(cpus.threads(), NonZeroUsize::get)
    }

    /// What may be computed in another way to read less.
    pub(crate) fn approximation(&self) -> Approximation {
        self.streaming.approximation()
    }

    /// How an answer is drawn.
    pub(crate) fn drawing(&self, sampling: Sampling, output: &OutputArguments) -> Drawing {
        let (output, approximation) = (output.output(), self.approximation());
        Drawing { sampling, output, approximation }
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
    /// Those that can be among the --top-k likeliest, as a sketch of all rows tells
    Coarse,
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
            OutputArgument::Coarse => Output::Coarse,
        }
    }

    /// Whether all rows are.
    pub(crate) fn is_exact(&self) -> bool {
        self.output == OutputArgument::Exact
    }
}

/// How keys and values are kept.
#[derive(Args, Clone)]
pub(crate) struct KvArguments {
    /// How keys and values are kept in memory
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv: KvArgument,
}

#[derive(Clone, Copy, ValueEnum)]
enum KvArgument {
    /// 16 bits a value
    #[value(name = "f16")]
    F16,
    /// 8 bits and a share of a scale, a little less exact
    #[value(name = "q8_0")]
    Q8_0,
}

impl KvArguments {
    /// `options` with keys and values kept so.
    pub(crate) fn apply(&self, options: Options) -> Options {
        let kv = match self.kv {
            KvArgument::F16 => KvFormat::F16,
            KvArgument::Q8_0 => KvFormat::Q8_0,
        };
        Options { kv, ..options }
    }
}

/// Room for one conversation of `context` positions; where nothing is asked for, 4096 or what the
/// model was made for, whichever is less.
pub(crate) fn conversation(config: &Config, context: Option<usize>) -> Options {
    let context = context.unwrap_or_else(|| 4096.min(config.context));
    let (output, kv) = (Output::Exact, KvFormat::F16);
    Options { context, sequences: 1, batch: BATCH.min(context), outputs: 1, output, kv }
}

/// Sets an engine up for `model` and hands it to `work`, with an arena that has room for a sampler.
/// How keys and values are kept is up to the `arguments`. If the engine first reads a `prompt` of so
/// many tokens, and that is short, weights are not arranged yet ([`Engine::arrange`]).
/// Refuses, with numbers, what the machine, the control group or the user's `--memory` cannot hold.
pub(crate) fn with_engine<R>(
    model: &Model<'_>,
    options: Options,
    prompt: Option<usize>,
    arguments: &EngineArguments,
    work: impl for<'e> FnOnce(Engine<'e>, &mut Arena<'e>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let Model { config, weights, files, .. } = model;
    let options = arguments.kv.apply(options);
    check_output(model, options.output)?;
    // Pages of the file's tables are not needed any more.
    files.parts().iter().for_each(|file| file.release(file));
    let budget = arguments.memory.budget();
    let Placement { options, plan, catalogue } =
        Placement::choose(model, options, budget.as_ref(), arguments.streaming.is_low_bit())?;
    report(&plan);
    if options.context > config.context {
        warn!("the model was made for {} positions, not {}", config.context, options.context);
    }
    // The store's threads inherit what its maker is bound to: it comes before the pool.
    let mut store =
        catalogue.map(|catalogue| arguments.streaming.store(catalogue, &plan)).transpose()?;
    let pool = arguments.pool();
    let kernels = wick_linux::kernels();
    info!("{} threads, {} kernels", pool.threads(), kernels.name());
    let (output, experts) = (options.output, store.is_none());
    let what = Arrangement { output, experts, section: Section::Whole };
    let mut arranged = ArrangedMemory::new(weights, what)
        .context("memory for the weights")
        .or_exit(Exit::Memory)?;
    let mut arranging = Arranging::new(weights, what, &mut arranged, files.parts(), &pool);
    if !experts || prompt.is_none_or(|tokens| tokens > SHORT) {
        arranging.arrange(usize::MAX);
    }
    // What stays in the file's pages is read now, not page by page when it is first used.
    let dense = arranging.weights().dense();
    for (matrix, file) in dense.flat_map(|m| files.parts().iter().map(move |f| (m, f))) {
        file.will_need(matrix.bytes());
    }
    let mut memory = arena_memory(&plan)?;
    let mut arena = Arena::new(&mut memory);
    let policy = Decaying::default();
    let engine = match &mut store {
        None => Engine::new(*config, weights, options, &mut arena, kernels, &pool),
        Some(store) => {
            let experts = (store as &mut dyn ExpertStore, &policy as &dyn Policy);
            Engine::streaming(*config, weights, options, experts, &mut arena, kernels, &pool)
        }
    };
    let mut engine = engine.or_exit(Exit::Model)?;
    engine.arrange_with(&mut arranging);
    work(engine, &mut arena).map_err(|failure| files.blame_unread(failure))
}

/// Refuses an output that the file has no predictor for, or that it is not packed for.
fn check_output(model: &Model<'_>, output: Output) -> Result<(), Failure> {
    let error = match output.check(&model.weights) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let OutputError::Arranged { found, .. } = error else { return Err(model.files.blame(error)) };
    let name = |output| match output {
        Output::Exact => "exact",
        Output::Profiler => "profiler",
        Output::Coarse => "coarse",
    };
    let all = [Output::Exact, Output::Profiler, Output::Coarse];
    let packed = all.into_iter().find(|output| output.layout() == found).unwrap_or_default();
    let (packed, wanted) = (name(packed), name(output));
    Err(model.files.blame(format_args!(
        "the file is packed for --output {packed}: run it with that, or pack it again with --output {wanted}"
    )))
}

fn report(plan: &Plan) {
    let Plan { weights, kv, scratch, sampler, slots } = *plan;
    info!(
        "memory: weights {}, KV cache {}, scratch {}, sampler {}, expert slots {}",
        Mib(weights),
        Mib(kv),
        Mib(scratch),
        Mib(sampler),
        Mib(slots)
    );
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
