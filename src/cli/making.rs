//! What the verbs that make a file of another one share.

use crate::engine::available;
use crate::exit::{Exit, Failure};
use crate::format::format;
use crate::interrupt::Interrupt;
use crate::memory::Mib;
use crate::model::open;
use crate::number;
use crate::progress::Progress;
use crate::report::report_written;
use clap::Args;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;
use wick_core::HeadRows;
use wick_kernels::Format;
use wick_linux::host::Files;
use wick_linux::{Cpus, Pool};
use wick_prepare::{Error, NewModel, Pack};

/// Bytes of the input that stay in memory, about.
const HELD: usize = 16 << 20;

/// What is read.
#[derive(Args)]
pub(crate) struct InputArguments {
    /// GGUF file of the model, the first one if it is split
    #[arg(value_name = "IN", required_unless_present = "model")]
    file: Option<PathBuf>,
    /// The same as IN
    #[arg(short, long, value_name = "IN", conflicts_with = "file")]
    model: Option<PathBuf>,
}

impl InputArguments {
    pub(crate) fn open(&self) -> Result<Files, Failure> {
        match self.file.as_deref().or(self.model.as_deref()) {
            Some(path) => open(Some(path)),
            None => Err(Failure::new(Exit::Usage, "IN expected: the file that is read")),
        }
    }
}

/// Which type the LM head gets.
#[derive(Args)]
pub(crate) struct LmHeadArguments {
    /// Type of the LM head, or of the embedding that does its work [default: q6_k if --type is q4_0, else --type]
    #[arg(long, value_name = "TYPE", value_parser = format, conflicts_with = "is_pure")]
    pub(crate) output_type: Option<Format>,
    /// The LM head gets --type, too
    #[arg(long = "pure")]
    pub(crate) is_pure: bool,
}

/// Who does the work.
#[derive(Args)]
pub(crate) struct MakerThreads {
    /// Threads that do it [default: one for each big core, within the control group's quota]
    #[arg(short, long, value_name = "N", value_parser = number::count)]
    threads: Option<NonZeroUsize>,
}

impl MakerThreads {
    pub(crate) fn pool(&self) -> Pool {
        let cpus = Cpus::detect();
        let threads = available(self.threads).map_or(cpus.threads(), NonZeroUsize::get);
        Pool::new(threads, &cpus)
    }
}

/// Does `work` on `files` with a bar for `bytes` on stderr, if that is a terminal, which says what is being done. What `work` has
/// done with is given back to the system; a signal breaks it off.
pub(crate) fn with_progress<'m, R>(
    doing: &str,
    files: &'m Files,
    bytes: u64,
    interrupt: &Interrupt,
    work: impl FnOnce(&mut dyn FnMut(&'m [u8]) -> ControlFlow<()>) -> Result<R, Error>,
) -> Result<R, Failure> {
    interrupt.busy();
    let mut progress = Progress::bytes(doing, bytes);
    let (mut done_with, mut held) = (0, 0);
    let result = work(&mut |done| {
        done_with += done.len() as u64;
        progress.set(done_with);
        held += done.len();
        if held > HELD {
            files.release();
            held = 0;
        }
        match (interrupt.check(), files.check()) {
            (Ok(()), Ok(())) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    });
    drop(progress);
    if let Err(Error::Interrupted) = result {
        interrupt.check()?;
    }
    // What was read of a file that has changed is not what was to be packed, nor damage.
    files.check()?;
    result.map_err(|error| match error {
        Error::Input { .. } | Error::Weight { .. } => files.blame(error).into(),
        error => error.into(),
    })
}

/// How a new file is written.
#[derive(Args)]
pub(crate) struct WritingArguments {
    /// File to write
    #[arg(short, long, value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Pack it at once, as wick pack does
    #[arg(long)]
    pack: bool,
    #[command(flatten)]
    threads: MakerThreads,
}

impl WritingArguments {
    /// Writes a model that is made of `files`, and says what its file is like.
    pub(crate) fn write<'m>(
        &self,
        doing: &str,
        new: NewModel<'m>,
        files: &'m Files,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        let (start, pool, out) = (Instant::now(), self.threads.pool(), self.out.as_path());
        let (tensors, source) = (new.tensors(), new.source_bytes());
        let bits = new.bytes() as f64 * 8.0 / new.weights() as f64;
        let bytes = if self.pack {
            let pack = Pack::of(new, HeadRows::Exact).map_err(|e| files.blame(e))?;
            let pack = pack.with_threads(&pool);
            with_progress(doing, files, source, interrupt, |done| pack.write(out, done))?
        } else {
            with_progress(doing, files, source, interrupt, |done| new.write(out, &pool, done))?
        };
        let (size, time) = (Mib(bytes as usize), start.elapsed().as_secs_f64());
        report_written(
            out,
            format_args!("{tensors} tensors, {bits:.2} bits a weight, {size} in {time:.1} s"),
        )
    }
}
