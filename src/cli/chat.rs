//! `wick chat`: a conversation, line by line.

use crate::answer::{Answer, report_load, write_now};
use crate::engine::with_engine;
use crate::exit::{Exit, Failure, OrExit};
use crate::input::{unescape, utf8, without_break};
use crate::interrupt::Interrupt;
use crate::model::{ModelArguments, tokenizer};
use crate::report::say;
use crate::request::RequestArguments;
use crate::template::{ChatTemplate, TemplateArguments, encode};
use anyhow::Context;
use clap::Args;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler, KeyEvent,
    Movement, RepeatCount,
};
use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Instant;
use wick_serve::{ChatError, Message};
use wick_text::Tokenizer;

const HELP: &str = "\
/new     begin a new conversation
/help    this text
/quit    end, as ctrl-D does
ctrl-C   stop an answer; clear the line; end where the line is empty
";

/// Talk with the model: a line is a message
///
/// In a terminal, lines can be edited and recalled. From a pipe, each line is a message and stdout
/// gets the answers alone; what is wrong with a message then ends the conversation.
///
/// What no longer fits into the context is forgotten, oldest first; the system message stays.
/// In the conversation, /new begins a new one, /help tells more, /quit or ctrl-D ends it.
///
///   wick chat
///   wick chat model.gguf --system "You answer in one sentence."
///   printf 'turn on the light\nthe kitchen\n' | wick chat
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Take \n, \t, \r, \\ and \xHH in --system for the characters that they stand for
    #[arg(short, long)]
    escape: bool,
    #[command(flatten)]
    template: TemplateArguments,
    #[command(flatten)]
    request: RequestArguments,
}

pub(crate) fn run(
    arguments: &Arguments,
    interrupt: &Interrupt,
    verbose: bool,
) -> Result<(), Failure> {
    let start = Instant::now();

    let files = arguments.model.open()?;
    let model = files.model(arguments.model.overrides())?;
    let tokenizer = tokenizer(&files, model.metadata())?;
    let template = arguments.template.open(&model, &tokenizer)?.ok_or_else(|| {
        let hint = "--chat-template takes another, wick run --raw continues a text without";
        files.blame(format!("{}; {hint}", ChatError::Missing))
    })?;
    let system = arguments.system.as_deref();
    let system = system.map(|text| if arguments.escape { unescape(text) } else { text.into() });

    let options = arguments.request.options(&model.config);
    with_engine(&model, options, None, &arguments.request.engine, |engine, arena| {
        let drawing = arguments.request.drawing();
        let mut chat = Chat {
            answer: Answer::new(engine, drawing, &tokenizer, interrupt, arena)?,
            conversation: Conversation::new(
                template,
                &tokenizer,
                options.context,
                arguments.request.n,
                system,
            ),
            most: arguments.request.n,
            verbose,
        };
        if verbose {
            report_load(start.elapsed())?;
        }
        let mut input = Input::open()?;
        if input.is_terminal() {
            writeln!(io::stdout(), "{}; /help tells what can be done", files.name())?;
        }
        chat.talk(&mut input, interrupt)
    })
}

/// A model in conversation.
struct Chat<'a, 'e> {
    answer: Answer<'a, 'e>,
    conversation: Conversation<'a>,
    /// Most tokens of an answer.
    most: usize,
    verbose: bool,
}

impl Chat<'_, '_> {
    /// Answers until the input ends. In a terminal, neither a wrong message nor an interrupted
    /// answer is the end.
    fn talk(&mut self, input: &mut Input, interrupt: &Interrupt) -> Result<(), Failure> {
        loop {
            match interrupt.idle() {
                Err(failure) if input.is_terminal() && failure.leaves_model_ready() => {}
                done => done?,
            }
            let Some(line) = input.line()? else { return Ok(()) };
            if input.is_terminal() {
                interrupt.answering()
            } else {
                interrupt.busy()
            }
            let done = match line.trim() {
                "" => Ok(()),
                "/new" => {
                    self.conversation.forget();
                    Ok(())
                }
                "/help" => write_now(&mut io::stdout(), HELP).map_err(Failure::from),
                "/quit" => return Ok(()),
                word if word.starts_with('/') && !word.contains(char::is_whitespace) => {
                    let message = format_args!("no command {word}; /help lists them");
                    Err(Failure::new(Exit::Input, message))
                }
                _ => self.turn(line),
            };
            match done {
                Err(failure) if input.is_terminal() && failure.leaves_model_ready() => {
                    failure.report();
                }
                done => done?,
            }
        }
    }

    /// Answers a message. What was said until an interruption stays in the conversation.
    fn turn(&mut self, message: String) -> Result<(), Failure> {
        self.conversation.push("user", message);
        let mut text = String::new();
        let done = self.say(&mut text);
        if done.is_err() && text.is_empty() {
            self.conversation.messages.pop();
        } else {
            self.conversation.push("assistant", text);
        }
        done
    }

    /// Draws the answer to the last message.
    fn say(&mut self, text: &mut String) -> Result<(), Failure> {
        let ids = self.conversation.fit()?;
        self.answer.prefill(&ids, self.most)?;
        let mut out = io::stdout().lock();
        let done = self.answer.decode(|piece| {
            text.push_str(piece);
            write_now(&mut out, piece)
        });
        writeln!(out)?;
        if self.verbose {
            self.answer.figures.report()?;
        }
        done
    }
}

/// What was said, and how the model reads it.
struct Conversation<'a> {
    template: ChatTemplate,
    tokenizer: &'a Tokenizer,
    /// Positions that the model has, and those of them that are kept free for an answer.
    context: usize,
    kept_free: usize,
    system: Option<Message>,
    /// Those of user and assistant in turn.
    messages: Vec<Message>,
    /// Whether messages were dropped, of which the user is told once.
    has_dropped: bool,
}

impl<'a> Conversation<'a> {
    /// A conversation in which nothing was said yet. An answer has room for `most` tokens, or for a
    /// quarter of the context if that is less.
    fn new(
        template: ChatTemplate,
        tokenizer: &'a Tokenizer,
        context: usize,
        most: usize,
        system: Option<String>,
    ) -> Conversation<'a> {
        Conversation {
            template,
            tokenizer,
            context,
            kept_free: most.min(context / 4),
            system: system.map(|content| Message::new("system", content)),
            messages: Vec::new(),
            has_dropped: false,
        }
    }

    fn push(&mut self, role: &str, content: String) {
        self.messages.push(Message::new(role, content));
    }

    fn forget(&mut self) {
        self.messages.clear();
        self.has_dropped = false;
    }

    /// The ids of the conversation. Where it does not fit, the oldest messages are dropped, each
    /// with its answer; if the last one does not fit even alone, nothing is.
    fn fit(&mut self) -> Result<Vec<u32>, Failure> {
        let room = self.context - self.kept_free;
        let mut ids = self.ids(0)?;
        let mut first = 0;
        while ids.len() > room {
            first += 2;
            if first >= self.messages.len() {
                return Err(self.too_long(ids.len()));
            }
            ids = self.ids(first)?;
        }
        if first > 0 && !self.has_dropped {
            self.has_dropped = true;
            let context = self.context;
            say(&format!("the context of {context} is full; the oldest messages are forgotten"))?;
        }
        self.messages.drain(..first);
        Ok(ids)
    }

    /// The ids of the system message and of the messages from `first` on.
    fn ids(&self, first: usize) -> Result<Vec<u32>, Failure> {
        let messages = self.system.iter().chain(&self.messages[first..]);
        encode(self.tokenizer, &self.template.prompt(messages)?)
    }

    fn too_long(&self, found: usize) -> Failure {
        let Conversation { context, kept_free, .. } = self;
        let with = if self.system.is_some() { ", with the system message," } else { "" };
        Failure::new(
            Exit::Input,
            format_args!(
                "the message{with} has {found} tokens and the context {context}, of which {kept_free} \
                 are for the answer; shorten it or ask for a larger --context"
            ),
        )
    }
}

/// Where messages come from.
enum Input {
    Terminal(Box<Editor<(), MemHistory>>),
    Pipe(io::StdinLock<'static>),
}

impl Input {
    /// A line editor if a person sits at both ends, or else plain lines.
    fn open() -> Result<Input, Failure> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(Input::Pipe(io::stdin().lock()));
        }
        let config = Config::builder().auto_add_history(true).build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history).or_exit(Exit::Failed)?;
        let clear = EventHandler::Conditional(Box::new(ClearLine));
        editor.bind_sequence(KeyEvent::ctrl('c'), clear);
        Ok(Input::Terminal(Box::new(editor)))
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal(_))
    }

    /// The next line without its break; `None` at the end.
    fn line(&mut self) -> Result<Option<String>, Failure> {
        match self {
            Input::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => Ok(Some(line)),
                Err(ReadlineError::Eof) => Ok(None),
                Err(ReadlineError::Interrupted) => Err(Failure::ended_by_signal(Exit::Interrupted)),
                Err(error) => Err(error).or_exit(Exit::Failed),
            },
            Input::Pipe(stdin) => {
                let mut bytes = Vec::new();
                match stdin.read_until(b'\n', &mut bytes).context("stdin").or_exit(Exit::Failed)? {
                    0 => Ok(None),
                    _ => utf8("the message", bytes).map(without_break).map(Some),
                }
            }
        }
    }
}

/// Ctrl-C clears a line that is not empty; otherwise it does what it always does.
struct ClearLine;

impl ConditionalEventHandler for ClearLine {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        (!context.line().is_empty()).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
}
