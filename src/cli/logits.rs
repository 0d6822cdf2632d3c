//! `wick logits`: the logits that follow each token of a text.

use crate::detokenize::parse_ids;
use crate::engine::{ComputeArguments, with_setup};
use crate::exit::{Exit, Failure, OrExit};
use crate::model::{ModelArguments, tokenizer};
use clap::Args;
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use wick_core::{Engine, HeadRows, KvFormat, Logits, Options, Token};
use wick_linux::ModelFile;
use wick_linux::host::{Files, Model};
use wick_prepare::{NewFile, refuse_input};
use wick_text::Tokenizer;

/// Tokens whose logits are computed together; with 151,936 entries each takes 0.6 MB.
const BATCH: usize = 32;
/// Entries shown for each position.
const TOP: usize = 5;

/// Show the logits that follow each of some tokens
///
/// With --out they are written as 32-bit little-endian floats, a row of the whole vocabulary for
/// each position; without, the five largest of each position as a line of JSON, with their text if
/// the file has a tokenizer.
///
///   wick logits model.gguf --ids "1 2 3" --out logits.f32
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Token ids, separated by spaces or commas
    #[arg(long)]
    ids: String,
    /// File to write all logits to
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeArguments,
}

/// The largest logits of a position.
#[derive(Serialize)]
struct Line {
    position: usize,
    id: u32,
    top: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    id: u32,
    logit: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let ids = parse_ids(&arguments.ids)?;
    if ids.is_empty() {
        return Err(Failure::new(Exit::Input, "--ids: at least one token id expected"));
    }
    let files = arguments.model.open()?;
    let model = files.model(arguments.model.overrides())?;

    let batch = BATCH.min(ids.len());
    let (head_rows, kv) = (HeadRows::Exact, KvFormat::default());
    let options = Options { context: ids.len(), sequences: 1, batch, logits: batch, head_rows, kv };
    let options = arguments.compute.apply(options);
    let setup = arguments.compute.setup(Some(ids.len()));
    let row = model.config.vocab * size_of::<f32>();
    let create = |out| create(out, &files, row as u64 * ids.len() as u64);
    let file = arguments.out.as_deref().map(create).transpose()?;
    with_setup(&model, options, &setup, |engine, _| match file {
        Some(file) => write(engine, &ids, file),
        None => show(engine, &ids, &Names::read(&model)),
    })
}

/// A file of so many bytes that is none of those that are read.
fn create(path: &Path, files: &Files, bytes: u64) -> Result<NewFile, Failure> {
    refuse_input(path, files.parts().iter().map(ModelFile::path))?;
    Ok(NewFile::create(path, bytes)?)
}

/// Writes the logits that follow each of `ids`.
fn write(engine: Engine<'_>, ids: &[u32], file: NewFile) -> Result<(), Failure> {
    let mut out = BufWriter::new(file);
    step_through(engine, ids, |_, _, logits| {
        let mut bytes = logits.iter().map(|logit| logit.to_le_bytes());
        let written = bytes.try_for_each(|bytes| out.write_all(&bytes));
        written.map_err(|e| out.get_ref().blame(e).into())
    })?;
    out.flush().map_err(|e| out.get_ref().blame(e))?;
    Ok(out.into_parts().0.finish()?)
}

/// Shows the largest of the logits that follow each of `ids`.
fn show(engine: Engine<'_>, ids: &[u32], names: &Names) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    step_through(engine, ids, |position, id, logits| {
        Ok(writeln!(out, "{}", line(names, position, id, logits)?)?)
    })?;
    Ok(out.flush()?)
}

/// Steps through `ids` and hands on the position and the id of each, and what follows it.
fn step_through(
    mut engine: Engine<'_>,
    ids: &[u32],
    mut each: impl FnMut(usize, u32, &[f32]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let batch = engine.options().batch;
    for (chunk, first) in ids.chunks(batch).zip((0..).step_by(batch)) {
        let token = |id: &u32| Token::new(*id, 0, Logits::All);
        engine.step(&chunk.iter().map(token).collect::<Vec<Token>>())?;
        for (i, id) in chunk.iter().enumerate() {
            each(first + i, *id, engine.logits(i).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// The text of tokens, where it is wanted and the file tells.
struct Names(Option<Tokenizer>);

impl Names {
    fn read(model: &Model<'_>) -> Names {
        let tokenizer = tokenizer(model.files, model.metadata());
        Names(tokenizer.inspect_err(|e| log::info!("no tokenizer: {e}")).ok())
    }

    fn text(&self, id: u32) -> Option<String> {
        let bytes = self.0.as_ref()?.token_bytes(id)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// One position as JSON.
fn line(names: &Names, position: usize, id: u32, logits: &[f32]) -> Result<String, Failure> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    let entry = |id: &u32| Entry { id: *id, logit: logits[*id as usize], text: names.text(*id) };
    let line = Line { position, id, top: order.iter().take(TOP).map(entry).collect() };
    serde_json::to_string(&line).or_exit(Exit::Failed)
}
