//! `wick plan`: what a model takes of a board's memory, and how fast it can be there.

mod report;

use crate::answering::{DRAFTS, arrange, serving};
use crate::board::BoardParser;
use crate::engine::{HeadRowsArguments, KvArguments};
use crate::exit::Failure;
use crate::memory::MemoryArguments;
use crate::model::{ModelArguments, tokenizer};
use crate::number;
use crate::report::print;
use crate::sequences::Wanted;
use clap::Args;
use report::Bounds;
pub(crate) use report::Report;
use std::sync::Arc;
use wick_core::Options;
use wick_linux::board::Board;
use wick_linux::host::{Budget, HostError, Model, Placement, one_sequence};
use wick_serve::Room;
use wick_serve::constraint::Forms;

/// Show what a model takes of a memory, and what bounds its speed
///
/// Every part of what the process takes is computed before anything is taken. Experts that do not fit
/// are read from the file when they are wanted; how many that will be is estimated from how often
/// experts are chosen in the published model that is most like this one. Speeds are bounds, not
/// promises: decoding is at most as fast as memory and storage are read. What is expected of a board
/// takes what others have measured of its parts. Boards of your own go into /etc/wick/boards (see
/// boards/linux/profiles), or the folder that WICK_BOARDS names.
///
///   wick plan model.gguf --memory 1G --context 4096 --board pi5
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    head_rows: HeadRowsArguments,
    #[command(flatten)]
    kv: KvArguments,
    /// Positions for prompt and answer together [default: 4096, or the model's own if that is less]
    #[arg(short, long, value_name = "N", value_parser = number::context())]
    context: Option<usize>,
    /// Count what `wick serve` takes, which also chooses --context if nobody does
    #[arg(long)]
    serve: bool,
    /// Sequences side by side [default: 1, or with --serve as many as it chooses]
    #[arg(long, value_name = "N", value_parser = number::up_to(64))]
    parallel: Option<usize>,
    /// Board that the speed is expected of
    #[arg(long, value_name = "NAME", value_parser = BoardParser)]
    board: Option<Board>,
    /// Read from the model's file for two seconds, and let that bound the speed
    #[arg(long)]
    measure: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let files = arguments.model.open()?;
    let model = files.model(arguments.model.overrides())?;
    // Held while the process is measured, as it will be.
    let tokenizer = tokenizer(&files, model.metadata()).ok();
    let held = tokenizer.map(|tokenizer| Forms::new(Arc::new(tokenizer)));
    held.iter().filter(|_| arguments.serve).for_each(arrange);
    let budget = Budget::of_process(arguments.memory.bytes());
    let requests = match arguments.serve {
        true => Room::within(budget.map(|budget| budget.whole)).total(),
        false => 0,
    };
    let budget = budget.map(|budget| budget.beside(requests));
    let place = |options| Placement::choose(&model, options, budget.as_ref(), false);
    let placement = place(arguments.options(&model, place))?;
    let board = arguments.board.as_ref();
    let mut report = Report::new(&model, &placement, budget.as_ref(), requests, board);
    if arguments.measure {
        report.bounds.extend(Bounds::measured(&model, report.storage_bytes_per_token)?);
    }
    print(&report, arguments.json, |report, out| report.write(out))
}

impl Arguments {
    /// What the engine is to hold.
    fn options(
        &self,
        model: &Model<'_>,
        place: impl Fn(Options) -> Result<Placement, HostError>,
    ) -> Options {
        let one = self.head_rows.apply(one_sequence(&model.config, self.context));
        let one = self.kv.apply(one);
        let of = |sequences| Options { sequences, logits: sequences, ..one };
        match (self.serve, self.parallel) {
            (false, parallel) => of(parallel.unwrap_or(1)),
            (true, parallel) => {
                let wanted =
                    Wanted { may_shorten: self.context.is_none(), ..Wanted::of_service(parallel) };
                let with_drafts = |sequences| serving(of(sequences), DRAFTS);
                wanted.choose(with_drafts, place)
            }
        }
    }
}
