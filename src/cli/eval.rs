//! `wick eval`: how well a model knows a text, or answers questions whose answers are known.

use crate::engine::{EngineArguments, HeadRowsArguments, with_engine};
use crate::exit::{Exit, Failure, OrExit};
use crate::input::{read_text, utf8};
use crate::interrupt::Interrupt;
use crate::model::{ModelArguments, tokenizer};
use crate::number;
use crate::progress::Progress;
use crate::report::print_line;
use crate::skills::{self, Asking};
use crate::streaming::{Streamed, Streaming};
use crate::template::TemplateArguments;
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use wick_core::{Approximation, Engine, HeadRows, KvFormat, Logits, Options, Token};
use wick_linux::host::Model;
use wick_text::{Special, Tokenizer};

/// Measure a model: perplexity of a text, or exact answers to questions
///
/// --text cuts the text into windows of --context tokens and scores the second half of each, as
/// llama.cpp's perplexity tool does. --skills asks every question of a file of JSON lines
///   {"skill": "sums", "prompt": "what is 2 plus 3?", "answer": "2 + 3 = 5."}
/// (or "messages": [{"role": "user", "content": ...}, ...] in place of "prompt"), takes the
/// likeliest tokens, and counts the answers that are equal to the letter; -v shows the others. What
/// cannot be asked, since it is too long, is named by its line and left out. FILE may be -, which is stdin.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    what: What,
    /// Tokens of a window of --text, or positions for question and answer of --skills [default: 512
    /// for --text, 4096 for --skills, or the model's own if that is less]
    #[arg(short, long, value_name = "N", value_parser = number::context())]
    context: Option<usize>,
    /// Tokens of --text that go through the model together; 1 to measure options that concern drawing
    #[arg(short, long, value_name = "N", default_value = "32", value_parser = number::count)]
    batch: NonZeroUsize,
    /// Most tokens of an answer; -1 for as many as there is room for
    #[arg(
        short,
        long = "tokens",
        alias = "n",
        value_name = "N",
        default_value_t = 256,
        value_parser = number::tokens,
        allow_negative_numbers = true
    )]
    n: usize,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    head_rows: HeadRowsArguments,
    #[command(flatten)]
    template: TemplateArguments,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Text whose perplexity is measured
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// JSON lines of questions and answers
    #[arg(long, value_name = "FILE")]
    skills: Option<PathBuf>,
}

#[derive(Serialize)]
struct Perplexity {
    perplexity: f64,
    /// One standard error.
    error: f64,
    windows: usize,
    scored: usize,
    tokens: usize,
    /// What reading experts took, if they are read when they are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    streamed: Option<Streamed>,
}

pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<(), Failure> {
    let files = arguments.model.open()?;
    let model = files.model(arguments.model.overrides())?;
    let tokenizer = tokenizer(&files, model.metadata())?;
    match (&arguments.what.text, &arguments.what.skills) {
        (Some(path), _) => perplexity(arguments, &model, &tokenizer, &read(path)?.1),
        (_, Some(path)) => {
            let (name, text) = read(path)?;
            let questions = skills::questions(&name, &text)?;
            let Arguments { context, n, engine, head_rows, template, json, .. } = arguments;
            let (context, n, json) = (*context, *n, *json);
            let asking = Asking { context, n, engine, head_rows, template, json };
            skills::ask(&asking, &model, &tokenizer, (&name, &questions), interrupt)
        }
        (None, None) => Err(Failure::new(Exit::Usage, "--text or --skills expected")),
    }
}

/// What a file is called, and what is in it.
fn read(path: &Path) -> Result<(String, String), Failure> {
    if path == Path::new("-") {
        return Ok(("stdin".into(), read_text()?));
    }
    let name = path.display().to_string();
    let bytes = fs::read(path).with_context(|| name.clone()).or_exit(Exit::Input)?;
    let text = utf8(&name, bytes)?;
    Ok((name, text))
}

fn perplexity(
    arguments: &Arguments,
    model: &Model<'_>,
    tokenizer: &Tokenizer,
    text: &str,
) -> Result<(), Failure> {
    if !arguments.head_rows.is_exact() {
        return Err(Failure::new(Exit::Usage, "--text needs all logits: --output exact expected"));
    }
    let mut ids = Vec::new();
    tokenizer.encode(text, Special::Text, &mut ids);
    let context = arguments.context.unwrap_or_else(|| 512.min(model.config.context)).min(ids.len());
    if context < 4 {
        let message = format_args!("windows of at least 4 tokens expected, {context} found");
        return Err(Failure::new(Exit::Input, message));
    }
    // Half a window of logits at a time would take 300 MB of the published models' vocabulary.
    let batch = arguments.batch.get().min(context);
    let (head_rows, kv) = (HeadRows::Exact, KvFormat::default());
    let options = Options { context, sequences: 1, batch, logits: batch, head_rows, kv };
    let prefix = tokenizer.prefix();
    // A text that is read as a prompt is read as it is.
    let drawing = arguments.engine.approximation();
    let approximation = if batch == 1 { drawing } else { Approximation::NONE };
    let found = with_engine(model, options, None, &arguments.engine, |mut engine, _| {
        let (mut losses, mut done) = (Vec::new(), 0);
        let mut progress = Progress::count("reading", ids.len() / context * context, "tokens");
        for window in ids.chunks_exact(context) {
            let mut window = window.to_vec();
            window[0] = prefix.unwrap_or(window[0]);
            score(&mut engine, &window, (batch, approximation), &mut losses, |tokens| {
                done += tokens as u64;
                progress.set(done);
            })?;
        }
        let windows = ids.len() / context;
        let streamed = Streaming::of(&engine)
            .map(|streaming| streaming.since(&Streaming::default(), windows * context));
        Ok(Perplexity { streamed, ..Perplexity::new(&losses, ids.len(), windows) })
    })?;
    if arguments.json {
        return print_line(&found);
    }
    let Perplexity { perplexity, error, windows, scored, tokens, streamed } = found;
    let mut out = io::stdout().lock();
    writeln!(out, "perplexity  {perplexity:.4} ± {error:.4}")?;
    writeln!(out, "windows     {windows} of {context} tokens, {scored} of {tokens} tokens scored")?;
    for (name, figures) in streamed.iter().flat_map(Streamed::lines) {
        writeln!(out, "{name:11} {figures}")?;
    }
    Ok(())
}

/// The losses of the second half of a window, each token judged by what stands before it.
fn score(
    engine: &mut Engine<'_>,
    window: &[u32],
    (batch, approximation): (usize, Approximation),
    losses: &mut Vec<f64>,
    mut progress: impl FnMut(usize),
) -> Result<(), Failure> {
    let first = window.len() / 2;
    engine.truncate(0, 0).or_exit(Exit::Failed)?;
    for (ids, start) in window.chunks(batch).zip((0..).step_by(batch)) {
        let wanted = |at: usize| at >= first && at + 1 < window.len();
        let token = |(i, id): (usize, &u32)| {
            let logits = if wanted(start + i) { Logits::All } else { Logits::None };
            Token { approximation, ..Token::new(*id, 0, logits) }
        };
        let tokens: Vec<Token> = ids.iter().enumerate().map(token).collect();
        engine.step(&tokens)?;
        progress(tokens.len());
        let positions = (start..start + ids.len()).filter(|at| wanted(*at));
        for (row, at) in positions.enumerate() {
            losses.push(loss(engine.logits(row).unwrap_or_default(), window[at + 1]));
        }
    }
    Ok(())
}

/// −log of the probability of `id`.
fn loss(logits: &[f32], id: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    sum.ln() - f64::from(logits[id as usize] - largest)
}

impl Perplexity {
    fn new(losses: &[f64], tokens: usize, windows: usize) -> Perplexity {
        let count = losses.len() as f64;
        let mean = losses.iter().sum::<f64>() / count;
        let squares = losses.iter().map(|l| (l - mean).powi(2)).sum::<f64>();
        let deviation = (squares / (count - 1.0).max(1.0) / count).sqrt();
        let perplexity = mean.exp();
        Perplexity {
            perplexity,
            error: perplexity * deviation,
            windows,
            scored: losses.len(),
            tokens,
            streamed: None,
        }
    }
}
