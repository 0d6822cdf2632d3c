//! `wick run`: a prompt in, text out as it is drawn.

use crate::answer::{Answer, report_load};
use crate::document::on_stdin;
use crate::engine::with_engine;
use crate::exit::{Exit, Failure};
use crate::input::{read_text, unescape, without_break};
use crate::interrupt::Interrupt;
use crate::model::{FlagArguments, GatingArguments, tokenizer};
use crate::outcome::Outcome;
use crate::report::{note, print_line};
use crate::request::RequestArguments;
use crate::screen::Screen;
use crate::template::{TemplateArguments, encode, plain};
use clap::Args;
use std::io::{self, IsTerminal};
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
///   wick run "Sum this up in a sentence:" < letter.txt
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: FlagArguments,
    #[command(flatten)]
    gating: GatingArguments,
    #[command(flatten)]
    request: RequestArguments,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Continue the prompt as it stands, without chat template; control tokens in it are parsed
    #[arg(long, conflicts_with_all = ["chat_template", "system"])]
    raw: bool,
    /// Take \n, \t, \r, \\ and \xHH in the prompt and --system for the characters that they stand for
    #[arg(short, long)]
    escape: bool,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[command(flatten)]
    template: TemplateArguments,
    /// Write one JSON object: text, why it ended, tokens, seconds, seed
    #[arg(long)]
    json: bool,
    /// The prompt, also as several words. What stdin has follows it, but for the line break at its end, unless it
    /// is a pipe of no pipeline in which nothing stands after two seconds; "-" or no prompt waits for stdin
    prompt: Vec<String>,
}

impl Arguments {
    /// A text of the command line.
    fn unescaped(&self, text: &str) -> String {
        if self.escape { unescape(text) } else { text.into() }
    }
}

pub(crate) fn run(
    arguments: &Arguments,
    interrupt: &Interrupt,
    verbose: bool,
) -> Result<(), Failure> {
    let (text, lacks_document) = prompt(arguments)?;
    let start = Instant::now();

    let files = arguments.model.open()?;
    let model = files.model(arguments.gating.overrides())?;
    let tokenizer = tokenizer(&files, model.metadata())?;
    let ids = if arguments.raw {
        raw_ids(&tokenizer, text)?
    } else {
        let system = arguments.system.as_deref().map(|text| arguments.unescaped(text));
        let system = system.map(|text| Message::new("system", text));
        let said: Vec<Message> = system.into_iter().chain([Message::new("user", text)]).collect();
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
        interrupt.busy();
        let done = answer.prefill(&ids, arguments.request.n).and_then(|()| {
            if arguments.json {
                draw_json(&mut answer, drawing.sampling.seed)
            } else {
                draw(&mut answer)
            }
        });
        if done.is_ok() && lacks_document {
            log::info!("stdin is empty; the prompt is the argument alone");
        }
        if done.is_ok() && answer.ended == Some(Ended::Length) {
            note(&format!("the answer was ended after {} tokens (--tokens)", arguments.request.n));
        }
        if verbose {
            report_load(loaded)?;
            answer.figures.report()?;
        }
        done
    })
}

/// Writes the answer as it is drawn.
fn draw(answer: &mut Answer<'_, '_>) -> Result<(), Failure> {
    let mut screen = Screen::open();
    let done = answer.decode(|text| screen.write_now(text));
    screen.write_now("\n")?;
    done
}

/// Writes the answer as one JSON object, also one that is broken off.
fn draw_json(answer: &mut Answer<'_, '_>, seed: u64) -> Result<(), Failure> {
    let mut text = String::new();
    let done = answer.decode(|piece| {
        text.push_str(piece);
        Ok(())
    });
    if matches!(&done, Err(failure) if failure.exit != Exit::Interrupted) {
        return done;
    }
    print_line(&Outcome::new(&text, answer.ended, &answer.figures, seed))?;
    done
}

/// The prompt: words of the command line, what stdin has, or the one before the other; and whether there is nothing
/// in the document that the words are about.
fn prompt(arguments: &Arguments) -> Result<(String, bool), Failure> {
    let (words, is_awaited) = match &arguments.prompt[..] {
        [file, ..] if file.ends_with(".gguf") && arguments.model.is_built_in() => {
            let message = format_args!(
                "{file} is taken for the prompt; to run that model: wick run -m {file} \"…\""
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        [words @ .., last] if last == "-" => (words, true),
        words => (words, words.is_empty()),
    };
    if words.is_empty() && arguments.prompt.is_empty() && io::stdin().is_terminal() {
        let hint = "a prompt expected: wick run \"dim the kitchen light to 40 percent\"";
        return Err(Failure::new(Exit::Usage, hint));
    }
    let words = arguments.unescaped(&words.join(" "));
    let document = if is_awaited { Some(read_text()?) } else { on_stdin()? };
    let lacks_document = !words.is_empty() && document.as_ref().is_some_and(String::is_empty);
    let document = document.unwrap_or_default();
    let document = if arguments.raw { document } else { without_break(document) };
    let text = match (words.is_empty(), document.is_empty()) {
        (_, true) => words,
        (true, _) => document,
        _ => format!("{words}\n\n{document}"),
    };
    if text.trim().is_empty() && !arguments.raw {
        return Err(Failure::new(Exit::Input, "the prompt is empty"));
    }
    Ok((text, lacks_document))
}

/// The ids of a prompt that is continued as it stands. Whoever has control tokens in it is told.
fn raw_ids(tokenizer: &Tokenizer, text: String) -> Result<Vec<u32>, Failure> {
    // An empty one begins with a control token that nobody wrote.
    let is_written = !text.is_empty();
    let ids = encode(tokenizer, &Prompt::trusted(text))?;
    let prefix = usize::from(tokenizer.prefix().is_some());
    let control = ids.iter().skip(prefix).filter(|&&id| tokenizer.is_control(id)).count();
    if is_written && control > 0 {
        note(&format!("--raw: control tokens in the prompt are parsed: {control}"));
    }
    Ok(ids)
}
