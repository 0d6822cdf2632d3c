//! `wick pack` and `wick unpack`: weights arranged for the kernels in a file, and back.

use crate::engine::HeadRowsArgument;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::making::{InputArguments, MakerThreads, with_progress};
use crate::memory::Mib;
use crate::model::open;
use crate::report::report_written;
use crate::screen;
use clap::Args;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use wick_format::Model;
use wick_linux::ModelFile;
use wick_prepare::{Pack, Unpack, refuse_input, verify};

/// Arrange a model's weights for the kernels in a file that starts at once and streams
///
/// The packed file has the same weights, to the bit: dense tensors are used in place from the mapped
/// file, and each expert is one piece that can be read by itself. It is still a GGUF file, but for
/// wick alone; wick unpack gives back what was packed. A split model becomes one file.
///
///   wick pack model.gguf -o model.wick.gguf
///   wick pack model.powerinfer.gguf --output profiler -o model.wick.gguf
///   wick pack --verify model.wick.gguf
#[derive(Args)]
#[command(verbatim_doc_comment, mut_arg("file", |file| file.required_unless_present("verify")))]
pub(crate) struct PackArguments {
    #[command(flatten)]
    input: InputArguments,
    /// File to write
    #[arg(short, long, value_name = "OUT", required_unless_present = "verify")]
    out: Option<PathBuf>,
    /// Rows of the LM head that a token will be multiplied with
    #[arg(long = "output", value_name = "HOW", default_value = "exact")]
    head_rows: HeadRowsArgument,
    /// Add copies of all experts with two bits a weight, which are read in their place with run --low-bit;
    /// the file grows by 5/9 of the experts
    #[arg(long)]
    low_bit: bool,
    #[command(flatten)]
    threads: MakerThreads,
    /// Another spelling of --low-bit
    #[arg(long, hide = true, value_name = "BITS", value_parser = clap::value_parser!(u32).range(2..=2))]
    tier: Option<u32>,
    /// Check structure and checksums of a packed file, and name all that is damaged
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "model", "out", "head_rows", "low_bit", "tier", "threads"])]
    verify: Option<PathBuf>,
}

/// Give back the file that was packed: the same tensors to the bit, in the same order
#[derive(Args)]
pub(crate) struct UnpackArguments {
    #[command(flatten)]
    input: InputArguments,
    /// File to write
    #[arg(short, long, value_name = "OUT")]
    out: PathBuf,
}

pub(crate) fn pack(arguments: &PackArguments, interrupt: &Interrupt) -> Result<(), Failure> {
    if let Some(file) = &arguments.verify {
        return check(file, interrupt);
    }
    let Some(out) = &arguments.out else {
        return Err(Failure::new(Exit::Usage, "-o OUT expected: the file that is written"));
    };
    let files = arguments.input.open()?;
    refuse_input(out, files.parts().iter().map(ModelFile::path))?;
    let parts = files.parse()?;
    let model = Model::new(&parts).map_err(|e| files.blame(e))?;
    let mut pack = Pack::new(model, arguments.head_rows.into()).map_err(|e| files.blame(e))?;
    if arguments.low_bit || arguments.tier.is_some() {
        pack = pack.with_low_bit().map_err(|e| files.blame(e))?;
    }
    let pool = arguments.threads.pool();
    let pack = pack.with_threads(&pool);
    let start = Instant::now();
    let bytes =
        with_progress("packing", &files, pack.bytes(), interrupt, |done| pack.write(out, done))?;
    let experts = pack.config().layers * pack.config().experts;
    let (size, time) = (Mib(bytes as usize), start.elapsed().as_secs_f64());
    let dense = pack.dense_tensors();
    report_written(
        out,
        format_args!("{dense} dense tensors and {experts} experts, {size} in {time:.1} s"),
    )
}

pub(crate) fn unpack(arguments: &UnpackArguments, interrupt: &Interrupt) -> Result<(), Failure> {
    let UnpackArguments { input, out } = arguments;
    let files = input.open()?;
    refuse_input(out, files.parts().iter().map(ModelFile::path))?;
    let parts = files.parse()?;
    let model = Model::new(&parts).map_err(|e| files.blame(e))?;
    let unpack = Unpack::new(model).map_err(|e| files.blame(e))?;
    let start = Instant::now();
    let bytes = with_progress("unpacking", &files, unpack.bytes(), interrupt, |done| {
        unpack.write(out, done)
    })?;
    let (size, time) = (Mib(bytes as usize), start.elapsed().as_secs_f64());
    report_written(out, format_args!("{size} in {time:.1} s"))
}

/// Names everything that is damaged on stdout.
fn check(path: &Path, interrupt: &Interrupt) -> Result<(), Failure> {
    let files = open(Some(path))?;
    let parts = files.parse()?;
    let model = Model::new(&parts).map_err(|e| files.blame(e))?;
    let (start, total) = (Instant::now(), model.bytes() as u64);
    let mut damages = Vec::new();
    let found = |damage| damages.push(damage);
    let bytes =
        with_progress("checking", &files, total, interrupt, |done| verify(model, found, done))?;
    let mut out = io::stdout().lock();
    for damage in &damages {
        writeln!(out, "{}", screen::line(&damage.to_string()))?;
    }
    if !damages.is_empty() {
        let message = format_args!("damaged in {} place(s)", damages.len());
        return Err(files.blame(message).into());
    }
    let (size, time) = (Mib(bytes as usize), start.elapsed().as_secs_f64());
    let but = match model.packed().map(|packed| packed.version()) {
        Some(1) => " but for metadata, of which version 1 has no checksum (pack it again)",
        _ => "",
    };
    let name = screen::line(&path.display().to_string());
    writeln!(out, "{name}: as it was packed{but}, {size} checked in {time:.1} s")?;
    Ok(())
}
