//! `wick logits`: the logits that follow each token of a text.

use crate::detokenize::parse_ids;
use crate::engine::{ComputeArguments, with_setup};
use crate::exit::{Exit, Failure, OrExit};
use crate::model::{ModelArguments, tokenizer};
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use wick_core::{Engine, HeadRows, KvFormat, Logits, Options, Token};
use wick_linux::host::Model;
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
    with_setup(&model, options, &setup, |engine, _| {
        write(engine, &ids, arguments.out.as_deref(), || Names::read(&model))
    })
}

/// Steps through `ids` and writes what follows each.
fn write(
    mut engine: Engine<'_>,
    ids: &[u32],
    out: Option<&Path>,
    names: impl FnOnce() -> Names,
) -> Result<(), Failure> {
    let batch = engine.options().batch;
    let mut file = out.map(create).transpose()?;
    let names = if file.is_none() { names() } else { Names(None) };
    let mut stdout = BufWriter::new(io::stdout().lock());
    for (chunk, first) in ids.chunks(batch).zip((0..).step_by(batch)) {
        step(&mut engine, chunk)?;
        for (i, id) in chunk.iter().enumerate() {
            let logits = engine.logits(i).unwrap_or_default();
            match &mut file {
                Some(file) => write_row(file, logits)?,
                None => writeln!(stdout, "{}", line(&names, first + i, *id, logits)?)?,
            }
        }
    }
    file.map_or(Ok(()), |mut file| file.flush())?;
    stdout.flush()?;
    Ok(())
}

fn create(path: &Path) -> Result<BufWriter<File>, Failure> {
    let file = File::create(path).with_context(|| path.display().to_string());
    file.or_exit(Exit::Failed).map(BufWriter::new)
}

fn step(engine: &mut Engine<'_>, ids: &[u32]) -> Result<(), Failure> {
    let token = |id: &u32| Token::new(*id, 0, Logits::All);
    let batch: Vec<Token> = ids.iter().map(token).collect();
    Ok(engine.step(&batch)?)
}

fn write_row(out: &mut impl Write, logits: &[f32]) -> io::Result<()> {
    logits.iter().try_for_each(|logit| out.write_all(&logit.to_le_bytes()))
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
