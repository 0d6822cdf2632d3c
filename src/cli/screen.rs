//! Text from elsewhere on a terminal, to which control characters are commands.

use log::Level;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, StdoutLock, Write};
use std::sync::LazyLock;

/// The text with control characters but line breaks and tabs as escapes, such as `\x1b`.
pub(crate) fn tame(text: &str) -> String {
    escape(text, |c| c != '\n' && c != '\t' && !is_turn(c))
}

/// The text on one line, with all control characters as escapes, and those that turn the direction of writing.
pub(crate) fn line(text: &str) -> String {
    escape(text, |_| true)
}

/// What a line on stderr begins with: its priority, where the journal reads it (sd-daemon(3)), and who says it.
pub(crate) fn prefix(level: Level) -> &'static str {
    if !is_journal() {
        return "wick: ";
    }
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// Whether stderr goes to systemd's journal: `JOURNAL_STREAM` names the device and the file that it reads (systemd.exec(5)).
fn is_journal() -> bool {
    static IS_JOURNAL: LazyLock<bool> = LazyLock::new(|| {
        let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let found = rustix::fs::fstat(io::stderr());
        found.is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
    });
    *IS_JOURNAL
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' if is_escaped(c) => shown.push_str("\\n"),
            c if c.is_control() && is_escaped(c) => {
                let _infallible = write!(shown, "\\x{:02x}", u32::from(c));
            }
            c if is_turn(c) && is_escaped(c) => {
                let _infallible = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Whether a character turns the direction of writing (Unicode's explicit formatting characters), so that a name reads as
/// another one.
fn is_turn(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Stdout for what a model writes: to the byte, but for control characters on a terminal.
pub(crate) struct Screen {
    out: StdoutLock<'static>,
    is_terminal: bool,
}

impl Screen {
    pub(crate) fn open() -> Screen {
        let stdout = io::stdout();
        Screen { is_terminal: stdout.is_terminal(), out: stdout.lock() }
    }

    /// Writes text that its reader sees at once.
    pub(crate) fn write_now(&mut self, text: &str) -> io::Result<()> {
        if self.is_terminal {
            self.out.write_all(tame(text).as_bytes())?;
        } else {
            self.out.write_all(text.as_bytes())?;
        }
        self.out.flush()
    }

    /// The same for a text that is all there is, after which a terminal goes on in a new line.
    pub(crate) fn write_whole(&mut self, text: &str) -> io::Result<()> {
        self.write_now(text)?;
        match self.is_terminal && !text.ends_with('\n') {
            true => self.write_now("\n"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        let text = "a\tb\n\x1b[2J\r\u{9b}1m\x07\x7fé\0";
        assert_eq!(tame(text), "a\tb\n\\x1b[2J\\x0d\\x9b1m\\x07\\x7fé\\x00");
        assert_eq!(line("a\nb\tc"), "a\\nb\\x09c");
        assert_eq!(line("a\u{202e}b"), "a\\u{202e}b");
    }
}
