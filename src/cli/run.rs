//! `wick run`: a prompt in, text out as it is drawn.

use crate::answer::{Answer, Figures};
use crate::chat::{self, Message};
use crate::exit::{Exit, Failure, OrExit};
use crate::model::{Model, ModelArguments, tokenizer};
use crate::session::{Mib, OutputArguments, ThreadArguments, conversation, with_engine};
use anyhow::Context;
use clap::Args;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wick_core::Sampling;
use wick_text::{Special, Tokenizer};

/// Answer a prompt: text goes to stdout as it is drawn
///
/// The prompt is given to the model as a user's message, by the chat template in the model's file.
/// With --raw it is continued as it stands.
///
///   wick run "dim the kitchen light to 40 percent"
///   wick run -m model.gguf --temperature 0 -n 100 "Why is the sky blue?"
///   wick run --raw "Once upon a time"
///   cat question.txt | wick run -m model.gguf -v
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Most tokens to draw
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    n: usize,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    threads: ThreadArguments,
    #[command(flatten)]
    output: OutputArguments,
    /// Positions for prompt and answer together [default: 4096, or the model's own if that is less]
    #[arg(short, long, value_name = "N")]
    context: Option<usize>,
    /// Continue the prompt as it stands, without chat template
    #[arg(long)]
    raw: bool,
    /// The prompt; "-" or nothing reads it from stdin, but for the line break at its end
    prompt: Option<String>,
}

/// How tokens are drawn.
#[derive(Args, Clone)]
struct SamplingArguments {
    /// Spread of the choice; 0 takes the likeliest token always
    #[arg(long, value_name = "T", default_value_t = 0.6, value_parser = at_least_zero)]
    temperature: f32,
    /// Choose among the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 20)]
    top_k: usize,
    /// Choose among the likeliest tokens that together reach this probability; 1 for all
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = probability)]
    top_p: f32,
    /// Leave out tokens less probable than this, relative to the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    min_p: f32,
    /// Weaken tokens among the last 64; 1 does nothing
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = above_zero)]
    repeat_penalty: f32,
    /// Seed of the random choice [default: a new one each time]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

fn number(text: &str, expected: &str, right: impl Fn(f32) -> bool) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if right(value) => Ok(value),
        _ => Err(format!("{expected} expected")),
    }
}

fn at_least_zero(text: &str) -> Result<f32, String> {
    number(text, "a number of 0 or more", |v| v >= 0.0 && v.is_finite())
}

fn above_zero(text: &str) -> Result<f32, String> {
    number(text, "a number above 0", |v| v > 0.0 && v.is_finite())
}

fn probability(text: &str) -> Result<f32, String> {
    number(text, "a number from 0 to 1", |v| (0.0..=1.0).contains(&v))
}

impl SamplingArguments {
    fn sampling(&self) -> Sampling {
        let SamplingArguments { temperature, top_k, top_p, min_p, repeat_penalty, seed } = *self;
        let seed = seed.unwrap_or_else(clock_seed);
        Sampling { temperature, top_k, top_p, min_p, repeat_penalty, seed }
    }
}

/// A seed that differs from run to run.
fn clock_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_nanos() as u64) ^ u64::from(std::process::id()) << 32
}

pub(crate) fn run(arguments: &Arguments, verbose: bool) -> Result<(), Failure> {
    let text = prompt(arguments)?;
    let interrupted = on_interrupt()?;
    let start = Instant::now();

    let files = arguments.model.file.open()?;
    let parts = files.parse()?;
    let model = Model::read(&files, &parts, arguments.model.overrides())?;
    let tokenizer = tokenizer(&files, &parts)?;
    let text = if arguments.raw { text } else { template(&model, &tokenizer, text)? };
    let ids = encode(&tokenizer, &text)?;

    let options = arguments.output.apply(conversation(&model.config, arguments.context));
    let context = options.context;
    if ids.len() > context {
        let message = format_args!(
            "the prompt has {} tokens and the context {context}; shorten it or ask for a larger \
             --context",
            ids.len()
        );
        return Err(Failure::new(Exit::Input, message));
    }
    with_engine(&model, options, &arguments.threads, |engine, arena| {
        let mut answer =
            Answer::new(engine, arguments.sampling.sampling(), &tokenizer, &interrupted, arena)?;
        if context > model.config.context {
            log::warn!("the model was made for {} positions, not {context}", model.config.context);
        }
        let loaded = start.elapsed();
        let mut out = io::stdout().lock();
        let done = answer.prefill(&ids).and_then(|()| answer.decode(arguments.n, &mut out));
        if verbose {
            report(&answer.figures, loaded)?;
        }
        done
    })
}

/// The prompt from the command line or from stdin.
fn prompt(arguments: &Arguments) -> Result<String, Failure> {
    match arguments.prompt.as_deref() {
        Some(text) if text != "-" => Ok(text.to_owned()),
        None if io::stdin().is_terminal() => {
            let hint = "a prompt expected: wick run \"dim the kitchen light to 40 percent\"";
            Err(Failure::new(Exit::Usage, hint))
        }
        _ => read_text().map(|text| without_last_break(text, arguments.raw)),
    }
}

/// A message without the line break that ends most files; raw text stays as it is.
fn without_last_break(mut text: String, raw: bool) -> String {
    if !raw && text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// All of stdin, which must be UTF-8.
pub(crate) fn read_text() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::new(Exit::Input, format_args!("stdin: UTF-8 expected, byte {at} is not"))
    })
}

/// Set once ctrl-C is pressed; a second time ends the process at once.
pub(crate) fn on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let handler = move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
    };
    ctrlc::set_handler(handler).or_exit(Exit::Failed)?;
    Ok(flag)
}

/// The prompt as the model was trained to read a user's message; as it is, if the file has no
/// template.
fn template(model: &Model<'_>, tokenizer: &Tokenizer, text: String) -> Result<String, Failure> {
    let Some(template) = model.chat_template else {
        log::info!("the file has no chat template; the prompt is continued as it stands");
        return Ok(text);
    };
    let messages = [Message { role: "user".into(), content: text }];
    chat::render(template, &messages, tokenizer)
        .context("the file's chat template (try --raw)")
        .or_exit(Exit::Model)
}

/// The ids of a prompt. An empty one begins like a document, after an end of text.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Failure> {
    let mut ids = Vec::from_iter(tokenizer.prefix());
    tokenizer.encode(text, Special::Parse, &mut ids);
    if ids.is_empty() {
        ids.extend(tokenizer.id_of("<|endoftext|>").or(tokenizer.bos()).or(tokenizer.eos()));
    }
    if ids.is_empty() {
        return Err(Failure::new(Exit::Input, "the prompt is empty"));
    }
    Ok(ids)
}

/// Figures for people, on stderr.
fn report(figures: &Figures, loaded: Duration) -> io::Result<()> {
    let mut err = io::stderr().lock();
    let rate = |tokens: usize, time: Duration| {
        format!("{tokens} tokens, {:.2} tokens/s", tokens as f64 / time.as_secs_f64().max(1e-9))
    };
    writeln!(err, "load:    {:.3} s", loaded.as_secs_f64())?;
    writeln!(err, "prefill: {}", rate(figures.prompt, figures.prefill))?;
    writeln!(err, "decode:  {}", rate(figures.steps, figures.decode))?;
    writeln!(err, "drawn:   {} tokens", figures.drawn)?;
    if let Some(bytes) = wick_linux::peak_resident() {
        writeln!(err, "memory:  {} resident at most", Mib(bytes as usize))?;
    }
    Ok(())
}
