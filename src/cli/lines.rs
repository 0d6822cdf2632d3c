//! Where the lines of a conversation come from.

use crate::exit::{Exit, Failure, OrExit};
use crate::input::{utf8, without_break};
use anyhow::Context;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler, KeyEvent,
    Movement, RepeatCount,
};
use std::env;
use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

/// Lines that are remembered from one conversation to the next.
const REMEMBERED: usize = 1000;

/// Where messages come from.
pub(crate) enum Lines {
    Terminal { editor: Box<Editor<(), FileHistory>>, history: Option<PathBuf> },
    Pipe(io::StdinLock<'static>),
}

/// What came.
pub(crate) enum Line {
    Text(String),
    /// A line that is no text.
    Wrong(Failure),
    /// Ctrl-C was pressed on an empty line.
    Interrupted,
    End,
}

impl Lines {
    /// A line editor if a person sits at both ends, or else plain lines.
    pub(crate) fn open(with_history: bool) -> Result<Lines, Failure> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(Lines::Pipe(io::stdin().lock()));
        }
        let config = Config::builder().auto_add_history(true);
        let config = config.max_history_size(REMEMBERED).or_exit(Exit::Failed)?.build();
        let mut editor = Editor::with_config(config).or_exit(Exit::Failed)?;
        let clear = EventHandler::Conditional(Box::new(ClearLine));
        editor.bind_sequence(KeyEvent::ctrl('c'), clear);
        let history = history_file().filter(|_| with_history);
        if let Some(Err(error)) = history.as_ref().map(|path| editor.load_history(path)) {
            log::debug!("no history: {error}");
        }
        Ok(Lines::Terminal { editor: Box::new(editor), history })
    }

    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Lines::Terminal { .. })
    }

    /// The next line without its break.
    pub(crate) fn next(&mut self) -> Result<Line, Failure> {
        match self {
            Lines::Terminal { editor, history } => match editor.readline("> ") {
                Ok(line) => {
                    let saved = history.as_ref().map(|path| editor.append_history(path));
                    if let Some(Err(error)) = saved {
                        log::debug!("no history: {error}");
                        *history = None;
                    }
                    Ok(Line::Text(line))
                }
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(ReadlineError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
                    let message = "the message: UTF-8 expected; what came with it is left out";
                    Ok(Line::Wrong(Failure::new(Exit::Input, message)))
                }
                Err(error) => Err(error).or_exit(Exit::Failed),
            },
            Lines::Pipe(stdin) => {
                let mut bytes = Vec::new();
                match stdin.read_until(b'\n', &mut bytes).context("stdin").or_exit(Exit::Failed)? {
                    0 => Ok(Line::End),
                    _ => Ok(match utf8("the message", bytes) {
                        Ok(text) => Line::Text(without_break(text)),
                        Err(failure) => Line::Wrong(failure),
                    }),
                }
            }
        }
    }
}

/// Where lines are remembered, in a folder that is there: state of the user's, by the XDG Base Directory
/// Specification.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or(absolute("HOME").map(|h| h.join(".local/state")))?;
    let folder = state.join("wick");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// Ctrl-C clears a line that is not empty; otherwise it does what it always does.
struct ClearLine;

impl ConditionalEventHandler for ClearLine {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        (!context.line().is_empty()).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
}
