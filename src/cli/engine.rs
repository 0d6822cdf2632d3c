//! What an engine is to have, as the command line says.

use crate::answer::Drawing;
use crate::exit::Failure;
use crate::memory::MemoryArguments;
use crate::streaming::StreamingArguments;
use clap::{Args, ValueEnum};
use std::num::NonZeroUsize;
use wick_core::{Approximation, Arena, Engine, KvFormat, Options, Output, Sampling};
use wick_linux::host::{self, Model, Setup};

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
    /// What may be computed in another way to read less.
    pub(crate) fn approximation(&self) -> Approximation {
        self.streaming.approximation()
    }

    /// How an answer is drawn.
    pub(crate) fn drawing(&self, sampling: Sampling, output: &OutputArguments) -> Drawing {
        let (output, approximation) = (output.output(), self.approximation());
        Drawing { sampling, output, approximation }
    }

    /// What the engine is to have, if it first reads a prompt of so many tokens.
    pub(crate) fn setup(&self, prompt: Option<usize>) -> Setup {
        let (threads, memory) = (self.threads, self.memory.bytes());
        self.streaming.apply(Setup { threads, memory, prompt, ..Setup::default() })
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

/// Sets an engine up for `model` and hands it to `work`, with an arena that has room for a sampler.
/// How keys and values are kept is up to the `arguments`. `prompt` is how many tokens the engine reads
/// first, if that is known.
pub(crate) fn with_engine<R>(
    model: &Model<'_>,
    options: Options,
    prompt: Option<usize>,
    arguments: &EngineArguments,
    work: impl for<'e> FnOnce(Engine<'e>, &mut Arena<'e>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let options = arguments.kv.apply(options);
    let done = host::with_engine(model, options, &arguments.setup(prompt), work);
    done.map_err(|failure| match failure.unread() {
        Some(error) => model.files.unread(*error).into(),
        None => failure,
    })
}
