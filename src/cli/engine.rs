//! What an engine is to have, as the command line says.

use crate::answer::Drawing;
use crate::board::DeviceParser;
use crate::exit::Failure;
use crate::memory::{MEMORY, MemoryArguments};
use crate::number;
use crate::progress::Progress;
use clap::{Args, ValueEnum};
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::time::Duration;
use wick_core::{Approximation, Arena, Engine, HeadRows, KvFormat, Options, Sampling};
use wick_linux::host::{self, Budget, HostError, LoadProgress, Model, Placement, Setup};
use wick_linux::reads::Device;
use wick_linux::{Cpus, ThreadLimit};

/// Where `--help` lists what changes a text to make it cheaper.
const APPROXIMATIONS: &str = "Approximations";

/// What every verb that computes lets its user choose.
#[derive(Args, Clone)]
pub(crate) struct ComputeArguments {
    /// Threads that compute [default: one for each big core, within the control group's quota]
    #[arg(short, long, value_name = "N", value_parser = number::count)]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    kv: KvArguments,
}

impl ComputeArguments {
    /// What the engine is to have, if it first reads a prompt of so many tokens.
    pub(crate) fn setup(&self, prompt: Option<usize>) -> Setup {
        let (threads, memory) = (available(self.threads), self.memory.bytes());
        Setup { threads, memory, prompt, ..Setup::default() }
    }

    /// `options` with keys and values kept as asked.
    pub(crate) fn apply(&self, options: Options) -> Options {
        self.kv.apply(options)
    }
}

/// As many threads as were asked for, but no more than there are processors: others would only take turns.
pub(crate) fn available(threads: Option<NonZeroUsize>) -> Option<NonZeroUsize> {
    let (asked, most) = (threads?, NonZeroUsize::new(Cpus::detect().numbers.len())?);
    if asked > most {
        log::warn!("--threads {asked}: this process has {most} processors; {most} threads compute");
    }
    Some(asked.min(most))
}

/// What verbs that draw tokens let their user choose besides.
#[derive(Args, Clone)]
pub(crate) struct EngineArguments {
    #[command(flatten)]
    compute: ComputeArguments,
    #[command(flatten)]
    reads: ReadArguments,
    #[command(flatten)]
    approximations: ApproximationArguments,
    /// Bytes that something beside the engine will take.
    #[arg(skip)]
    beside: usize,
    /// Bytes that the process had before its first model, if this is for another one.
    #[arg(skip)]
    first_taken: Option<usize>,
    /// How many threads compute at the moment.
    #[arg(skip)]
    pub(crate) thread_limit: ThreadLimit,
}

impl EngineArguments {
    /// What may be computed in another way to read less.
    pub(crate) fn approximation(&self) -> Approximation {
        let ApproximationArguments { prefer_resident, skip_missing, low_bit } = self.approximations;
        Approximation { prefer_resident, skip_missing, low_bit }
    }

    /// What the process may take, if somebody knows.
    pub(crate) fn budget(&self) -> Option<Budget> {
        let EngineArguments { beside, first_taken, .. } = *self;
        let memory = self.compute.memory.bytes();
        Setup { memory, beside, first_taken, ..Setup::default() }.budget()
    }

    /// The same with so many bytes for something beside the engine.
    pub(crate) fn beside(&self, bytes: usize) -> EngineArguments {
        EngineArguments { beside: bytes, ..self.clone() }
    }

    /// The same where the process had `taken` bytes before its first model.
    pub(crate) fn again(&self, taken: Option<usize>) -> EngineArguments {
        EngineArguments { first_taken: taken, ..self.clone() }
    }

    /// What stands where, if an engine is to hold this.
    pub(crate) fn place(
        &self,
        model: &Model<'_>,
        options: Options,
    ) -> Result<Placement, HostError> {
        let (options, low_bit) = (self.compute.apply(options), self.approximations.low_bit);
        Placement::choose(model, options, self.budget().as_ref(), low_bit)
    }

    /// How an answer is drawn.
    pub(crate) fn drawing(&self, sampling: Sampling, head_rows: &HeadRowsArguments) -> Drawing {
        let (head_rows, approximation) = (head_rows.head_rows(), self.approximation());
        Drawing { sampling, head_rows, approximation }
    }

    fn setup(&self, prompt: Option<usize>) -> Setup {
        let ReadArguments { depth, read_timeout, emulate } = self.reads;
        let read_timeout = read_timeout.map(|seconds| Duration::from_secs(seconds as u64));
        let low_bit = self.approximations.low_bit;
        let depth = depth.and_then(NonZeroUsize::new);
        let EngineArguments { beside, first_taken, .. } = *self;
        let thread_limit = self.thread_limit.clone();
        let computed = self.compute.setup(prompt);
        Setup {
            depth,
            read_timeout,
            emulate,
            low_bit,
            beside,
            first_taken,
            thread_limit,
            ..computed
        }
    }

    /// Threads that compute unless there is a limit.
    pub(crate) fn threads(&self) -> usize {
        let cpus = Cpus::detect();
        self.compute.threads.map_or(cpus.threads(), |n| n.get().min(cpus.numbers.len()))
    }
}

/// How experts that are not in memory are read.
#[derive(Args, Clone)]
struct ReadArguments {
    /// Reads that the device is given at once, such as `wick plan --measure` finds best [default: 64]
    #[arg(long, value_name = "N", value_parser = number::up_to(4096), help_heading = MEMORY)]
    depth: Option<usize>,
    /// Give a read up when the device has completed none for so long [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = number::up_to(86400), help_heading = MEMORY)]
    read_timeout: Option<usize>,
    /// Read experts as slowly as such a device does, or the storage of such a board (see wick plan)
    #[arg(long, value_name = "DEVICE", value_parser = DeviceParser, help_heading = MEMORY)]
    emulate: Option<Device>,
}

/// What may be computed in another way to read less.
#[derive(Args, Clone, Copy)]
struct ApproximationArguments {
    /// Choose an expert in memory before one that is not if its router logit is lower by no more than
    /// this; other text, fewer reads [default: 0]
    #[arg(
        long,
        value_name = "MARGIN",
        value_parser = number::spread,
        default_value_t = 0.0,
        hide_default_value = true,
        help_heading = APPROXIMATIONS
    )]
    prefer_resident: f32,
    /// Leave a token's last expert out if it is not in memory and its weight is no more than this;
    /// other text, fewer reads [default: 0]
    #[arg(
        long,
        value_name = "WEIGHT",
        value_parser = number::share,
        default_value_t = 0.0,
        hide_default_value = true,
        help_heading = APPROXIMATIONS
    )]
    skip_missing: f32,
    /// Read the low-bit copy of an expert that is not in memory (wick pack --low-bit); other text, fewer
    /// bytes
    #[arg(long, help_heading = APPROXIMATIONS)]
    low_bit: bool,
}

/// How much of the LM head is multiplied.
#[derive(Args, Clone)]
pub(crate) struct HeadRowsArguments {
    /// Rows of the LM head that a token is multiplied with
    #[arg(long = "output", value_name = "HOW", default_value = "exact", help_heading = APPROXIMATIONS)]
    head_rows: HeadRowsArgument,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HeadRowsArgument {
    /// All
    Exact,
    /// Those that the predictor in PowerInfer's files counts
    Profiler,
    /// Those that can be among the --top-k likeliest, as a sketch of all rows tells
    Coarse,
}

impl HeadRowsArguments {
    /// `options` with these rows.
    pub(crate) fn apply(&self, options: Options) -> Options {
        Options { head_rows: self.head_rows(), ..options }
    }

    /// Which rows are.
    pub(crate) fn head_rows(&self) -> HeadRows {
        self.head_rows.into()
    }

    /// Whether all rows are.
    pub(crate) fn is_exact(&self) -> bool {
        self.head_rows == HeadRowsArgument::Exact
    }
}

impl From<HeadRowsArgument> for HeadRows {
    fn from(argument: HeadRowsArgument) -> HeadRows {
        match argument {
            HeadRowsArgument::Exact => HeadRows::Exact,
            HeadRowsArgument::Profiler => HeadRows::Profiler,
            HeadRowsArgument::Coarse => HeadRows::Coarse,
        }
    }
}

/// How keys and values are kept.
#[derive(Args, Clone)]
pub(crate) struct KvArguments {
    /// How keys and values are kept in memory
    #[arg(long, value_name = "TYPE", default_value = "f16", help_heading = MEMORY)]
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
    let options = arguments.compute.apply(options);
    let setup = Setup { loading: progress(), ..arguments.setup(prompt) };
    with_setup(model, options, &setup, work)
}

/// Shows on a terminal how far loading is.
fn progress() -> LoadProgress {
    let progress = RefCell::new(None);
    LoadProgress::telling(move |done, all| {
        wick_linux::advance();
        let mut shown = progress.borrow_mut();
        shown.get_or_insert_with(|| Progress::count("loading", all, "parts")).set(done as u64);
        if done == all {
            *shown = None;
        }
    })
}

/// The same for an engine that is to have what `setup` says.
pub(crate) fn with_setup<R>(
    model: &Model<'_>,
    options: Options,
    setup: &Setup,
    work: impl for<'e> FnOnce(Engine<'e>, &mut Arena<'e>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    host::with_engine(model, options, setup, work).map_err(|failure: Failure| {
        match (failure.unread(), failure.damage()) {
            (Some(error), _) => model.files.unread(*error).into(),
            (None, Some(damage)) => model.files.blame(damage).into(),
            (None, None) => failure,
        }
    })
}
