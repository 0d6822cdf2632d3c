//! `wick synth`: a model of a published shape with random weights.

use crate::engine::{ComputeArguments, with_setup};
use crate::exit::Failure;
use crate::format::format;
use crate::interrupt::Interrupt;
use crate::memory::Mib;
use crate::number;
use crate::progress::Progress;
use crate::report::report_written;
use crate::trial::Trial;
use clap::{Args, ValueEnum};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;
use wick_format::Overrides;
use wick_kernels::Format;
use wick_linux::host::{Files, Setup, one_sequence};
use wick_linux::{Cpus, Pool};
use wick_prepare::{Error, Shape, Statistics, Synthetic};

/// Write a model of a published shape with random weights, and show the statistics it reaches
///
/// The file has every key and tensor of a published one, and a tokenizer with as many entries; what
/// the model says is random. With --like report its neurons stay at zero and its experts are chosen
/// as often as those of the published model (technical report, figures 4 to 6; Wiki dataset).
///
/// SHAPE is 4b, 21b or tiny, and after it any sizes that differ, of: layers, hidden, heads, kv-heads,
/// head, experts, active, width (of an expert), vocab, context, window (0: none).
///
///   wick synth --shape 4b --like report -o 4b.gguf
///   wick synth --shape 4b,layers=4,vocab=32000 -o slice.gguf
///   wick synth --shape 21b --output-type q6_k --no-run -o 21b.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Sizes of the model: a name, then sizes that differ from it
    #[arg(long, value_name = "SHAPE[,NAME=SIZE]...")]
    shape: Shape,
    /// Layers, as layers=N in SHAPE
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// Entries of the vocabulary, as vocab=N in SHAPE
    #[arg(long, value_name = "N")]
    vocab: Option<u32>,
    /// File to write
    #[arg(short, long, alias = "output", value_name = "OUT")]
    out: PathBuf,
    /// Seed of the weights
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// What the activations are to be like [default: half of the neurons at zero, all experts
    /// chosen equally often]
    #[arg(long, value_name = "MODEL")]
    like: Option<Like>,
    /// Type of all matrices but the router, which is F32
    #[arg(long = "type", value_name = "TYPE", default_value = "q4_0", value_parser = format)]
    format: Format,
    /// Type of the LM head, which the model then has [default: --type]
    #[arg(long, value_name = "TYPE", value_parser = format, conflicts_with = "tied")]
    output_type: Option<Format>,
    /// Use the embedding as LM head too [default: as the published model: 4b, tiny]
    #[arg(long, conflicts_with = "untied")]
    tied: bool,
    /// Have an LM head of its own [default: as the published model: 21b]
    #[arg(long)]
    untied: bool,
    /// Tokens to run: three quarters random, the rest drawn by the model
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value = "64",
        value_parser = number::count,
        conflicts_with = "no_run"
    )]
    tokens: NonZeroUsize,
    /// Write the file only
    #[arg(long)]
    no_run: bool,
    #[command(flatten)]
    compute: ComputeArguments,
}

/// A model whose statistics are wanted.
#[derive(Clone, Copy, ValueEnum)]
enum Like {
    /// The published one, as the technical report describes it
    Report,
}

impl Arguments {
    /// The shape, with what other options say of it.
    fn shape(&self) -> Shape {
        let mut shape = self.shape;
        let sizes = &mut shape.config;
        sizes.layers = self.layers.map_or(sizes.layers, |n| n as usize);
        sizes.vocab = self.vocab.map_or(sizes.vocab, |n| n as usize);
        let own_output = self.untied || self.output_type.is_some();
        shape.tied = self.tied || shape.tied && !own_output;
        shape
    }

    fn model(&self) -> Result<Synthetic, Error> {
        let shape = self.shape();
        // Statistics are made only for shapes that make sense.
        shape.config.validate()?;
        let statistics = match self.like {
            Some(Like::Report) => Statistics::report(&shape.config),
            None => Statistics::even(&shape.config),
        };
        let output = self.output_type.unwrap_or(self.format);
        Synthetic::new(&shape, statistics, self.format, output, self.seed)
    }
}

pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<(), Failure> {
    let synthetic = arguments.model()?;
    let setup = arguments.compute.setup(None);
    interrupt.busy();
    write(&arguments.out, &synthetic, &setup, interrupt)?;
    interrupt.idle()?;
    if arguments.no_run {
        return Ok(());
    }
    let files = Files::open(&arguments.out)?;
    let model = files.model(Overrides::default())?;
    let tokens = arguments.tokens.get();
    let options = arguments.compute.apply(one_sequence(&model.config, Some(tokens)));
    with_setup(&model, options, &setup, |engine, arena| {
        let mut trial = Trial::new(engine, arguments.seed, interrupt, arena)?;
        interrupt.busy();
        trial.run(tokens)?;
        trial.report(&synthetic)?;
        Ok(())
    })
}

/// Writes the file and says how long that took.
fn write(
    path: &Path,
    synthetic: &Synthetic,
    setup: &Setup,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let (start, cpus) = (Instant::now(), Cpus::detect());
    let pool = Pool::new(setup.thread_count(&cpus), &cpus);
    let (mut progress, mut done) = (Progress::bytes("writing", synthetic.bytes()), 0);
    let written = synthetic.write(path, &pool, |bytes| {
        done += bytes;
        progress.set(done);
        match interrupt.check() {
            Err(_) => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
        }
    });
    drop(progress);
    if let Err(Error::Interrupted) = written {
        interrupt.check()?;
    }
    written?;
    let (size, time) = (Mib(synthetic.bytes() as usize), start.elapsed().as_secs_f64());
    report_written(path, format_args!("{size} in {time:.1} s"))
}
