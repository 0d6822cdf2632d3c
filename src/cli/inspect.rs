//! `wick inspect`: what is in a file, how it would run, and how it differs from another one.

mod differences;
mod fits;
mod report;
mod shape;
mod sizes;
mod template;
mod tokenizer;
mod value;

use crate::board::BoardParser;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::model::{FileArguments, open};
use crate::number;
use crate::report::print;
use clap::Args;
use report::Report;
use std::path::PathBuf;
use wick_linux::board::Board;

/// Show what is in a model's file, and how it would run, or why it cannot; or how two files differ
///
/// Of one file, only metadata and the table of tensors are read, however large it is. What is expected of boards is
/// what wick plan --board says for each memory. Of two files, tensors are compared by their bytes, and where these
/// differ by their weights, whatever types they have: wick inspect f16.gguf q4_0.gguf tells what rounding has cost.
/// The last line is "same", or how many keys and tensors differ; the exit code is 0 either way. Of a packed file bytes
/// alone are compared; wick unpack gives back what was packed.
///
///   wick inspect model.gguf --board pi5
///   wick inspect model.gguf --template > template.jinja
///   wick inspect model.gguf other.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    /// Another file, the first one if it is split: show how the two differ
    #[arg(value_name = "OTHER", requires = "file", conflicts_with_all = ["context", "boards", "template"])]
    other: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Positions for prompt and answer together [default: 4096, or the model's own if that is less]
    #[arg(short, long, value_name = "N", value_parser = number::context())]
    context: Option<usize>,
    /// Board that speeds are expected of; may be repeated [default: this one if it is known, and a few]
    #[arg(long = "board", value_name = "NAME", value_parser = BoardParser)]
    boards: Vec<Board>,
    /// Write the chat template alone, or the one of a name
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "default",
        conflicts_with_all = ["context", "boards"]
    )]
    template: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<(), Failure> {
    let files = arguments.file.open()?;
    if let Some(other) = &arguments.other {
        return differences::show(&files, &open(Some(other))?, arguments.json, interrupt);
    }
    if let Some(name) = &arguments.template {
        return template::show(&files, name, arguments.json);
    }
    let parts = files.parse()?;
    let boards = || match arguments.boards.is_empty() {
        true => fits::usual_boards(arguments.file.path()),
        false => arguments.boards.clone(),
    };
    let report = Report::of(&files, &parts, arguments.context, boards)?;
    print(&report, arguments.json, |report, out| report.write(out))
}
