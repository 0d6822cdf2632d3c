//! `wick run`: a prompt in, text out as it is drawn.

use crate::answer::{Answer, report_load, write_now};
use crate::engine::with_engine;
use crate::exit::{Exit, Failure};
use crate::input::{read_text, unescape, without_break};
use crate::interrupt::Interrupt;
use crate::model::{FlagArguments, GatingArguments, tokenizer};
use crate::report::say;
use crate::request::RequestArguments;
use crate::template::{TemplateArguments, encode, plain};
use clap::Args;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;
use wick_serve::{Message, Prompt};
use wick_session::Ended;
use wick_text::Tokenizer;

/// Answer a prompt: text goes to stdout as it is drawn
///
/// The prompt is given to the model as a user's message, by the chat template in the model's file, and
/// nothing in it is taken for a control token. With --raw it is continued as it stands, and what
/// looks like a control token (<|im_end|>) is one.
///
///   wick run "dim the kitchen light to 40 percent"
///   wick run -m model.gguf --temperature 0 -n 100 "Why is the sky blue?"
///   wick run --raw "Once upon a time"
///   cat question.txt | wick run -m model.gguf -v
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: FlagArguments,
    #[command(flatten)]
    gating: GatingArguments,
    #[command(flatten)]
    request: RequestArguments,
    /// Continue the prompt as it stands, without chat template; control tokens in it are parsed
    #[arg(long, conflicts_with = "chat_template")]
    raw: bool,
    /// Take \n, \t, \r, \\ and \xHH in the argument for the characters that they stand for
    #[arg(short, long)]
    escape: bool,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[command(flatten)]
    template: TemplateArguments,
    /// The prompt, also as several words; "-" or nothing reads it from stdin, but for the line break at its
    /// end
    prompt: Vec<String>,
}

pub(crate) fn run(
    arguments: &Arguments,
    interrupt: &Interrupt,
    verbose: bool,
) -> Result<(), Failure> {
    let text = prompt(arguments)?;
    let start = Instant::now();

    let files = arguments.model.open()?;
    let model = files.model(arguments.gating.overrides())?;
    let tokenizer = tokenizer(&files, model.metadata())?;
    let ids = if arguments.raw {
        raw_ids(&tokenizer, text)?
    } else {
        let said = [Message::new("user", text)];
        let prompt = match arguments.template.open(&model, &tokenizer)? {
            Some(template) => template.prompt(&said)?,
            None => {
                log::info!("the file has no chat template; the prompt is continued as it stands");
                plain(&said)
            }
        };
        encode(&tokenizer, &prompt)?
    };

    let options = arguments.request.options(&model.config);
    let context = options.context;
    if ids.len() > context {
        let message = format_args!(
            "the prompt has {} tokens and the context {context}; shorten it or ask for a larger \
             --context",
            ids.len()
        );
        return Err(Failure::new(Exit::Input, message));
    }
    with_engine(&model, options, Some(ids.len()), &arguments.request.engine, |engine, arena| {
        let drawing = arguments.request.drawing();
        let mut answer = Answer::new(engine, drawing, &tokenizer, interrupt, arena)?;
        answer.stop.clone_from(&arguments.stop);
        let loaded = start.elapsed();
        let mut out = io::stdout().lock();
        interrupt.busy();
        let done = answer.prefill(&ids, arguments.request.n).and_then(|()| {
            let done = answer.decode(|text| write_now(&mut out, text));
            writeln!(out)?;
            done
        });
        if answer.ended == Some(Ended::Length) {
            say(&format!("the answer was ended after {} tokens (--tokens)", arguments.request.n))?;
        }
        if verbose {
            report_load(loaded)?;
            answer.figures.report()?;
        }
        done
    })
}

/// The prompt from the command line or from stdin.
fn prompt(arguments: &Arguments) -> Result<String, Failure> {
    match &arguments.prompt[..] {
        [file, ..] if file.ends_with(".gguf") && arguments.model.is_built_in() => {
            let message = format_args!(
                "{file} is taken for the prompt; to run that model: wick run -m {file} \"…\""
            );
            Err(Failure::new(Exit::Usage, message))
        }
        words @ [first, ..] if first != "-" || words.len() > 1 => {
            let text = words.join(" ");
            Ok(if arguments.escape { unescape(&text) } else { text })
        }
        [] if io::stdin().is_terminal() => {
            let hint = "a prompt expected: wick run \"dim the kitchen light to 40 percent\"";
            Err(Failure::new(Exit::Usage, hint))
        }
        _ if arguments.raw => read_text(),
        _ => read_text().map(without_break),
    }
}

/// The ids of a prompt that is continued as it stands. Whoever has control tokens in it is told.
fn raw_ids(tokenizer: &Tokenizer, text: String) -> Result<Vec<u32>, Failure> {
    // An empty one begins with a control token that nobody wrote.
    let is_written = !text.is_empty();
    let ids = encode(tokenizer, &Prompt::trusted(text))?;
    let prefix = usize::from(tokenizer.prefix().is_some());
    let control = ids.iter().skip(prefix).filter(|&&id| tokenizer.is_control(id)).count();
    if is_written && control > 0 {
        say(&format!("--raw: control tokens in the prompt are parsed: {control}"))?;
    }
    Ok(ids)
}
