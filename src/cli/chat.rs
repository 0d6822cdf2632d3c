//! `wick chat`: a conversation, line by line.

use crate::answer::{Answer, report_load};
use crate::command::{Command, HELP};
use crate::conversation::Conversation;
use crate::engine::with_engine;
use crate::exit::{Exit, Failure};
use crate::input::{stdin_file, unescape};
use crate::interrupt::Interrupt;
use crate::lines::{Line, Lines};
use crate::model::{ModelArguments, tokenizer};
use crate::outcome::Outcome;
use crate::report::{note, print_line};
use crate::request::RequestArguments;
use crate::screen::Screen;
use crate::template::TemplateArguments;
use clap::Args;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;
use wick_linux::ModelFile;
use wick_linux::host::Files;
use wick_prepare::refuse_input;
use wick_serve::{ChatError, Message};

/// Talk with the model: a line is a message
///
/// In a terminal, lines can be edited and recalled. From a pipe, each line is a message, and stdout gets the
/// answers alone, each with an empty line behind it; what is wrong with a line is said on stderr, and the exit
/// code at the end is that of the first one.
///
/// What no longer fits into the context is forgotten, oldest first; the system message stays. In the
/// conversation, /help lists what else can be done, such as /undo, /retry, /save and /load.
///
///   wick chat
///   wick chat model.gguf --system "You answer in one sentence."
///   printf 'turn on the light\nthe kitchen\n' | wick chat --json
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
    /// Write a JSON object for each message: text, why it ended, tokens, seconds; or what is wrong
    #[arg(long)]
    json: bool,
    /// Do not remember lines for the next conversation in a terminal
    #[arg(long)]
    no_history: bool,
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

    let (options, most) = (arguments.request.options(&model.config), arguments.request.n);
    let mut conversation = Conversation::new(template, &tokenizer, options.context, most);
    let system = arguments.system.as_deref();
    conversation
        .tell(system.map(|text| if arguments.escape { unescape(text) } else { text.into() }));
    with_engine(&model, options, None, &arguments.request.engine, |engine, arena| {
        let drawing = arguments.request.drawing();
        let answer = Answer::new(engine, drawing, &tokenizer, interrupt, arena)?;
        if verbose {
            report_load(start.elapsed())?;
        }
        let lines = Lines::open(!arguments.no_history)?;
        let (files, seed) = (&files, drawing.sampling.seed);
        let failed = None;
        let mut chat = Chat {
            answer,
            conversation,
            files,
            arguments,
            lines,
            interrupt,
            seed,
            verbose,
            failed,
        };
        if chat.lines.is_terminal() {
            chat.tell_people(&format!("{}; /help tells what can be done\n", files.name()))?;
        }
        chat.talk()
    })
}

/// A model in conversation.
struct Chat<'a, 'e> {
    answer: Answer<'a, 'e>,
    conversation: Conversation<'a>,
    files: &'a Files,
    arguments: &'a Arguments,
    lines: Lines,
    interrupt: &'a Interrupt,
    /// With which all answers are drawn.
    seed: u64,
    verbose: bool,
    /// The exit code of the first line with which something was wrong.
    failed: Option<Exit>,
}

/// So many messages.
fn counted(messages: usize) -> String {
    format!("{messages} message{}", if messages == 1 { "" } else { "s" })
}

impl Chat<'_, '_> {
    /// Answers until the input ends. What is wrong with a line is no end, and in a terminal ctrl-C is none either
    /// unless it is pressed twice on an empty line.
    fn talk(&mut self) -> Result<(), Failure> {
        loop {
            let command = match self.lines.next(self.interrupt)? {
                Line::End => break,
                Line::Wrong(failure) => Err(failure),
                Line::Text(line) => Command::of(line),
            };
            let done = match command {
                Ok(Command::Quit) => break,
                command => command.and_then(|command| self.obey(command)),
            };
            match done {
                Err(failure) if self.ends_with(&failure) => return Err(failure),
                Err(failure) => self.tell(&failure)?,
                Ok(()) => {}
            }
        }
        match self.failed.filter(|_| !self.lines.is_terminal()) {
            Some(exit) => Err(Failure::told(exit)),
            None => Ok(()),
        }
    }

    /// Whether the conversation cannot go on after that.
    fn ends_with(&self, failure: &Failure) -> bool {
        let is_stopped = failure.exit == Exit::Interrupted;
        is_stopped && !self.lines.is_terminal() || !failure.leaves_model_ready()
    }

    /// Says what is wrong, and goes on.
    fn tell(&mut self, failure: &Failure) -> Result<(), Failure> {
        self.failed.get_or_insert(failure.exit);
        if self.arguments.json && failure.exit != Exit::Interrupted {
            print_line(&serde_json::json!({ "error": failure.to_string() }))?;
        }
        failure.report();
        Ok(())
    }

    /// Says in a terminal what was done.
    fn tell_done(&self, what: &str) {
        if self.lines.is_terminal() {
            note(what);
        }
    }

    /// Writes what no program reads: beside the objects, if there are to be some.
    fn tell_people(&self, text: &str) -> Result<(), Failure> {
        if self.arguments.json {
            let _nobody_listens = io::stderr().write_all(text.as_bytes());
            return Ok(());
        }
        Ok(Screen::open().write_now(text)?)
    }

    fn obey(&mut self, command: Command) -> Result<(), Failure> {
        if self.lines.is_terminal() {
            self.interrupt.answering();
        } else {
            self.interrupt.busy();
        }
        match command {
            Command::Nothing | Command::Quit => Ok(()),
            Command::Message(text) => {
                let before = self.conversation.messages.clone();
                self.turn(text, before)
            }
            Command::Help => self.tell_people(HELP),
            Command::New => {
                self.conversation.forget();
                self.tell_done("a new conversation");
                Ok(())
            }
            Command::System(text) => {
                self.system(text);
                Ok(())
            }
            Command::Undo => {
                let message = self.conversation.undo()?;
                self.tell_done(&format!("taken back: {message}"));
                Ok(())
            }
            Command::Retry => self.retry(),
            Command::Save(path) => self.save(&path),
            Command::Load(path) => {
                let messages = self.conversation.load(&path)?;
                note(&format!("{}: {}", path.display(), counted(messages)));
                Ok(())
            }
        }
    }

    /// Shows the system message, or takes another; `-` for none.
    fn system(&mut self, text: Option<String>) {
        match (text, &self.conversation.system) {
            (None, Some(message)) => note(&format!("the system message is: {}", message.content)),
            (None, None) => note("there is no system message"),
            (Some(text), _) if text == "-" => {
                self.conversation.tell(None);
                self.tell_done("there is no system message any more");
            }
            (text, _) => {
                self.conversation.tell(text);
                self.tell_done("the model is told that from the next message on");
            }
        }
    }

    /// Writes the conversation into a file that is none of those that are read. One that cannot be written is no
    /// end.
    fn save(&mut self, path: &Path) -> Result<(), Failure> {
        let model = self.files.parts().iter().map(ModelFile::path);
        let inputs = model.chain(self.arguments.template.file()).chain(stdin_file());
        refuse_input(path, inputs).map_err(|error| Failure::from(error).into_input())?;
        match self.conversation.save(path) {
            Err(failure) => self.tell(&failure)?,
            Ok(messages) => {
                self.tell_done(&format!("{}: {} saved", path.display(), counted(messages)));
            }
        }
        Ok(())
    }

    /// Answers the last message again; the random choice goes on from where it was.
    fn retry(&mut self) -> Result<(), Failure> {
        let before = self.conversation.messages.clone();
        let message = self.conversation.undo()?;
        self.turn(message, before)
    }

    /// Answers a message. What was said until an interruption stays in the conversation, which is as it was
    /// `before` if that was nothing.
    fn turn(&mut self, message: String, before: Vec<Message>) -> Result<(), Failure> {
        self.conversation.push("user", message);
        let mut text = String::new();
        let done = self.say(&mut text);
        if done.is_err() && text.is_empty() {
            self.conversation.messages = before;
        } else {
            self.conversation.push("assistant", text);
        }
        done
    }

    /// Draws the answer to the last message.
    fn say(&mut self, text: &mut String) -> Result<(), Failure> {
        let ids = self.conversation.fit()?;
        self.answer.prefill(&ids, self.arguments.request.n)?;
        let mut screen = (!self.arguments.json).then(Screen::open);
        let done = self.answer.decode(|piece| {
            text.push_str(piece);
            screen.as_mut().map_or(Ok(()), |screen| screen.write_now(piece))
        });
        let is_drawn = matches!(&done, Err(failure) if failure.exit == Exit::Interrupted);
        match &mut screen {
            Some(screen) if self.lines.is_terminal() => screen.write_now("\n")?,
            Some(screen) => screen.write_now("\n\n")?,
            None if done.is_ok() || is_drawn => {
                let outcome =
                    Outcome::new(text, self.answer.ended, &self.answer.figures, self.seed);
                print_line(&outcome)?;
            }
            None => {}
        }
        drop(screen);
        if self.verbose {
            self.answer.figures.report()?;
        }
        done
    }
}
