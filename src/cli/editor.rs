//! The line editor of a conversation.
//!
//! The terminal is raw while a line is edited, and otherwise as it was found, so that ctrl-C stops an answer. What
//! comes with the end of a line is kept by the editor for the next one, but only if the line does not end with an
//! error: that is why ctrl-C is a line that is accepted, and marked.

use crate::exit::{Exit, Failure, OrExit};
use crate::history::History;
use crate::terminal::skip_line;
use rustyline::completion::Completer;
use rustyline::error::{ReadlineError, Signal};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler,
    Helper, KeyEvent, Movement, RepeatCount,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a person is asked with.
pub(crate) const PROMPT: &str = "> ";

/// Lines that can be recalled.
const MOST_LINES: usize = 1000;

/// What came of editing a line.
pub(crate) enum Edited {
    Line(String),
    /// The byte at this place belongs to no character.
    NotUtf8(usize),
    /// Ctrl-C on an empty line, this many times with nothing between.
    Pressed(usize),
    End,
}

/// A line editor that remembers lines.
pub(crate) struct LineEditor {
    editor: Editor<Watch, FileHistory>,
    typed: Arc<Typed>,
    history: Option<History>,
}

impl LineEditor {
    /// An editor at this terminal, with lines of earlier conversations if they are wanted and can be had.
    pub(crate) fn open(with_history: bool) -> Result<LineEditor, Failure> {
        let config = Config::builder().max_history_size(MOST_LINES).or_exit(Exit::Failed)?;
        // Without colours nobody is asked to highlight, and that is how typing is noticed.
        let config = config.color_mode(ColorMode::Forced).build();
        let mut editor = Editor::with_config(config).or_exit(Exit::Failed)?;
        let typed = Arc::new(Typed::default());
        editor.set_helper(Some(Watch(Arc::clone(&typed))));
        let press = EventHandler::Conditional(Box::new(Press(Arc::clone(&typed))));
        editor.bind_sequence(KeyEvent::ctrl('c'), press);
        editor.bind_sequence(KeyEvent::ctrl('@'), EventHandler::Conditional(Box::new(End)));
        let history = with_history.then(History::find).flatten();
        history.iter().for_each(|history| history.load(&mut editor));
        Ok(LineEditor { editor, typed, history })
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> Result<Edited, Failure> {
        self.typed.at.store(0, Ordering::SeqCst);
        match self.editor.readline(PROMPT) {
            Ok(_) if self.typed.is_pressed.swap(false, Ordering::SeqCst) => Ok(self.typed.press()),
            Ok(line) => {
                self.typed.presses.store(0, Ordering::SeqCst);
                self.remember(&line);
                Ok(Edited::Line(line))
            }
            Err(ReadlineError::Eof) => Ok(Edited::End),
            Err(ReadlineError::Signal(Signal::Interrupt)) => Ok(self.typed.press()),
            Err(ReadlineError::Signal(_)) => self.line(),
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                skip_line();
                Ok(Edited::NotUtf8(self.typed.at.load(Ordering::SeqCst)))
            }
            Err(error) => Err(error).or_exit(Exit::Failed),
        }
    }

    fn remember(&mut self, line: &str) {
        let is_new = self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(history) = self.history.as_ref().filter(|_| is_new) {
            history.append(&mut self.editor);
        }
    }
}

/// What the keys do that are no text.
#[derive(Default)]
struct Typed {
    /// Where in the line the last one was, in bytes.
    at: AtomicUsize,
    /// The line is no line but ctrl-C.
    is_pressed: AtomicBool,
    /// Times that it was pressed with nothing between.
    presses: AtomicUsize,
}

impl Typed {
    fn press(&self) -> Edited {
        Edited::Pressed(self.presses.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// Ctrl-C clears a line, and is a line of its own where there is none.
struct Press(Arc<Typed>);

impl ConditionalEventHandler for Press {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        if !context.line().is_empty() {
            return Some(Cmd::Kill(Movement::WholeBuffer));
        }
        self.0.is_pressed.store(true, Ordering::SeqCst);
        Some(Cmd::AcceptLine)
    }
}

/// A ctrl-D that came while the terminal was not raw is a zero byte afterwards.
struct End;

impl ConditionalEventHandler for End {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        Some(if context.line().is_empty() { Cmd::EndOfFile } else { Cmd::Noop })
    }
}

/// Notices typing, as the editor asks after each key whether to highlight something.
struct Watch(Arc<Typed>);

impl Highlighter for Watch {
    fn highlight_char(&self, line: &str, at: usize, _: CmdKind) -> bool {
        self.0.at.store(at, Ordering::SeqCst);
        if !line.is_empty() {
            self.0.presses.store(0, Ordering::SeqCst);
        }
        false
    }
}

impl Completer for Watch {
    type Candidate = String;
}

impl Hinter for Watch {
    type Hint = String;
}

impl Validator for Watch {}
impl Helper for Watch {}
