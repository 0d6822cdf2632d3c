//! `wick doctor`: what this machine is, how fast a model can be on it, and what to change.

mod advice;
mod file_report;
mod measured;
mod report;

use crate::board::boards;
use crate::engine::KvArguments;
use crate::exit::{Exit, Failure, OrExit};
use crate::memory::MemoryArguments;
use crate::model::FileArguments;
use crate::number;
use crate::plan;
use crate::report::print;
use advice::{Advice, Facts};
use clap::Args;
use file_report::FileReport;
use measured::Measured;
use report::{Expected, Report};
use std::path::{Path, PathBuf};
use wick_format::Overrides;
use wick_linux::board::{Board, Work};
use wick_linux::host::{Budget, Files, Model, Placement, one_sequence};
use wick_linux::machine::{Disk, Machine};

/// Show what this machine is, what to expect of it, and what to change
///
/// Looks at the board, its processors, memory, storage, heat and power, and at what the system allows; measures for
/// about three seconds how fast memory and the model's file are read; and lists what would make the most of it,
/// what helps most first. Nothing is changed.
///
///   wick doctor model.gguf
///   wick doctor model.gguf --memory 1G --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    kv: KvArguments,
    /// Positions for prompt and answer together [default: 4096, or the model's own if that is less]
    #[arg(short, long, value_name = "N", value_parser = number::context())]
    context: Option<usize>,
    /// Measure nothing
    #[arg(long)]
    no_measure: bool,
    /// Look at files of /proc and /sys below this folder, as of another machine; FILE is there where it is here, and nothing is
    /// measured
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let root = arguments.root()?;
    let files = arguments.file.open()?;
    let model = files.model(Overrides::default())?;
    let machine = Machine::read(root);
    let path = arguments.place(&files);
    let disk = path.as_deref().and_then(|path| Disk::of(root, path));
    let boards = boards().or_exit(Exit::Usage)?;
    boards.broken().for_each(|wrong| log::warn!("{wrong}"));
    let name = machine.model.as_deref().unwrap_or_default();
    let board = boards.called(name, &machine.compatible, disk.as_ref().map(|disk| disk.kind));
    let is_here = arguments.root.is_none();
    // What is planned must not find the memory taken that is read for the measurement.
    let plan = arguments.plan(&model, &machine);
    let is_measured = is_here && !arguments.no_measure;
    let measured = is_measured.then(|| Measured::of(path.as_deref())).transpose()?;
    let is_packed = model.format()?.packed().is_some();
    let file = path.map(|path| FileReport::new(&path, is_packed, is_here));
    let work = plan.as_ref().ok().map(plan::Report::work);
    let advice = Advice::all(&Facts {
        machine: &machine,
        disk: disk.as_ref(),
        file: file.as_ref(),
        reads: work.is_some_and(|work| work.storage > 0.0),
        io_uring: measured.as_ref().map(|measured| measured.io_uring.as_deref()),
        shortage: plan.as_ref().err().map(String::as_str),
        asked: arguments.memory.bytes().map(|bytes| bytes as u64),
        is_clock_behind: is_here && advice::is_clock_behind(),
    });
    let known = board.filter(|board| has_storage_of(board, disk.as_ref(), work));
    let expected = work.map(|work| expected(work, known, measured.as_ref())).unwrap_or_default();
    let (plan, shortage) = plan.map_or_else(|error| (None, Some(error)), |plan| (Some(plan), None));
    let board = board.map(|board| board.title.clone());
    let report = Report { board, machine, file, disk, measured, plan, shortage, expected, advice };
    print(&report, arguments.json, |report, out| report.write(out))
}

/// Whether the figures of a board are of the storage that experts are read from, if any are.
fn has_storage_of(board: &Board, disk: Option<&Disk>, work: Option<Work>) -> bool {
    let reads = work.is_some_and(|work| work.storage > 0.0);
    !reads || disk.is_none_or(|disk| disk.kind == board.storage.kind)
}

/// How fast a token is expected to be by what is known of the board, and by what was measured.
fn expected(work: Work, board: Option<&Board>, measured: Option<&Measured>) -> Vec<Expected> {
    let by_board = board.map(|board| Expected::new("the board's figures", board.expect(work)));
    let by_measure = measured
        .filter(|_| work.memory > CACHED)
        .and_then(|measured| measured.expect(work))
        .map(|expectation| Expected::new("what was measured", expectation));
    by_measure.into_iter().chain(by_board).collect()
}

/// Bytes that may stay in a processor's caches from token to token, so that memory bounds nothing.
const CACHED: f64 = 64e6;

impl Arguments {
    /// Below what the files of the machine lie.
    fn root(&self) -> Result<&Path, Failure> {
        let Some(root) = &self.root else { return Ok(Path::new("/")) };
        let is_machine = ["proc", "sys"].iter().any(|name| root.join(name).is_dir());
        let wrong = format_args!("{}: a folder with proc and sys in it expected", root.display());
        if is_machine { Ok(root) } else { Err(Failure::new(Exit::Usage, wrong)) }
    }

    /// Where the model's file lies; on another machine as it is called there. `None` for nano.
    fn place(&self, files: &Files) -> Option<PathBuf> {
        let path = files.parts().first()?.path();
        let here = path.canonicalize().ok();
        Some(here.filter(|_| self.root.is_none()).unwrap_or_else(|| path.to_owned()))
    }

    /// What the model takes there, or why it does not fit.
    fn plan(&self, model: &Model<'_>, machine: &Machine) -> Result<plan::Report, String> {
        let there = self.root.as_ref().and(machine.may_use).map(|bytes| bytes as usize);
        let budget = Budget::of_process(self.memory.bytes().or(there));
        let options = self.kv.apply(one_sequence(&model.config, self.context));
        Placement::choose(model, options, budget.as_ref(), false)
            .map(|placement| plan::Report::new(model, &placement, budget.as_ref(), 0, None))
            .map_err(|error| error.to_string())
    }
}
