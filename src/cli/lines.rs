//! Where the lines of a conversation come from.

use crate::editor::{Edited, LineEditor, PROMPT};
use crate::exit::{Exit, Failure, OrExit};
use crate::input::{no_utf8, utf8, without_break};
use crate::interrupt::Interrupt;
use crate::report::note;
use anyhow::Context;
use std::env;
use std::io::{self, BufRead, IsTerminal, Write};

/// Terminals that cannot be drawn on.
const DUMB: [&str; 3] = ["dumb", "cons25", "emacs"];

/// Where messages come from.
pub(crate) enum Lines {
    /// A person at a terminal.
    Editor(Box<LineEditor>),
    /// A person at one where the system edits lines.
    Dumb,
    Pipe,
}

/// What came.
pub(crate) enum Line {
    Text(String),
    /// A line that is no text.
    Wrong(Failure),
    End,
}

impl Lines {
    /// A line editor if a person sits at both ends, or else plain lines.
    pub(crate) fn open(with_history: bool) -> Result<Lines, Failure> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(Lines::Pipe);
        }
        match env::var("TERM") {
            Ok(name) if DUMB.contains(&&*name) => Ok(Lines::Dumb),
            _ => Ok(Lines::Editor(Box::new(LineEditor::open(with_history)?))),
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        !matches!(self, Lines::Pipe)
    }

    /// Waits for the next line, and gives it without its break. A signal may come meanwhile; of ctrl-C, the line
    /// editor wants two.
    pub(crate) fn next(&mut self, interrupt: &Interrupt) -> Result<Line, Failure> {
        if self.is_terminal() {
            // What was pressed before the end of an answer was meant for the answer.
            interrupt.answering();
        }
        match self {
            Lines::Editor(editor) => edited(editor),
            Lines::Dumb => {
                interrupt.idle()?;
                let mut out = io::stdout();
                out.write_all(PROMPT.as_bytes())?;
                out.flush()?;
                plain()
            }
            Lines::Pipe => {
                interrupt.idle()?;
                plain()
            }
        }
    }
}

/// The next line of a person.
fn edited(editor: &mut LineEditor) -> Result<Line, Failure> {
    loop {
        match editor.line()? {
            Edited::Line(text) => return Ok(Line::Text(text)),
            Edited::NotUtf8(at) => return Ok(Line::Wrong(no_utf8("the message", at))),
            Edited::End => return Ok(Line::End),
            Edited::Pressed(1) => note("ctrl-C once more ends the conversation, as /quit does"),
            Edited::Pressed(_) => return Err(Failure::ended_by_signal(Exit::Interrupted)),
        }
    }
}

/// The next line of stdin.
fn plain() -> Result<Line, Failure> {
    let mut bytes = Vec::new();
    let mut stdin = io::stdin().lock();
    match stdin.read_until(b'\n', &mut bytes).context("stdin").or_exit(Exit::Failed)? {
        0 => Ok(Line::End),
        _ => Ok(match utf8("the message", bytes) {
            Ok(text) => Line::Text(without_break(text)),
            Err(failure) => Line::Wrong(failure),
        }),
    }
}
