//! Texts from outside: stdin and arguments.

use crate::exit::{Exit, Failure, OrExit};
use anyhow::Context;
use rustix::fs::{FileType, fstat};
use std::io::{self, Read};
use std::path::Path;

/// A message without the line break that ends a line and most files.
pub(crate) fn without_break(mut text: String) -> String {
    if text.ends_with('\n') {
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
    io::stdin().lock().read_to_end(&mut bytes).context("stdin").or_exit(Exit::Failed)?;
    utf8("stdin", bytes)
}

/// A name of what stdin is, if what is written there could be read from it: a file or a pipe.
pub(crate) fn stdin_file() -> Option<&'static Path> {
    let found = fstat(io::stdin()).ok()?;
    let is_file = FileType::from_raw_mode(found.st_mode) != FileType::CharacterDevice;
    is_file.then(|| Path::new("/proc/self/fd/0"))
}

/// Bytes as text; `what` is named if they are none.
pub(crate) fn utf8(what: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|e| no_utf8(what, e.utf8_error().valid_up_to()))
}

/// What is no text: the byte at this place.
pub(crate) fn no_utf8(what: &str, at: usize) -> Failure {
    Failure::new(Exit::Input, format_args!("{what}: UTF-8 expected, byte {at} is not"))
}

/// Bytes that are read at once of a text of any length.
pub(crate) const PART: usize = 1 << 16;

/// A text of any length, part by part.
pub(crate) struct Parts<R> {
    source: R,
    /// What the source is called if something is wrong with it.
    name: &'static str,
    /// The beginning of a character whose end is in the next part.
    cut: Vec<u8>,
    /// Bytes of the text that were handed out.
    done: usize,
}

impl<R: Read> Parts<R> {
    pub(crate) fn of(source: R, name: &'static str) -> Parts<R> {
        Parts { source, name, cut: Vec::with_capacity(PART), done: 0 }
    }

    /// Appends the next part to `text`; false at the end.
    pub(crate) fn read_to(&mut self, text: &mut String) -> Result<bool, Failure> {
        let room = (PART - self.cut.len()) as u64;
        let read = self.source.by_ref().take(room).read_to_end(&mut self.cut);
        let is_end = read.context(self.name).or_exit(Exit::Failed)? == 0;
        let valid = match std::str::from_utf8(&self.cut) {
            Ok(valid) => valid,
            Err(error) if error.error_len().is_some() || is_end => {
                return Err(no_utf8(self.name, self.done + error.valid_up_to()));
            }
            Err(error) => {
                let (valid, _cut) = self.cut.split_at(error.valid_up_to());
                std::str::from_utf8(valid).unwrap_or_default()
            }
        };
        text.push_str(valid);
        self.done += valid.len();
        let valid = valid.len();
        self.cut.drain(..valid);
        Ok(!is_end)
    }
}

/// The text with what `\\n`, `\\r`, `\\t`, `\\\\`, `\\'`, `\\"` and `\\xHH` stand for; other escapes stay as they are.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let (meant, bytes) = match escape.as_bytes() {
            [b'n', ..] => ('\n', 1),
            [b'r', ..] => ('\r', 1),
            [b't', ..] => ('\t', 1),
            [quoted @ (b'\\' | b'\'' | b'"'), ..] => (char::from(*quoted), 1),
            [b'x', high, low, ..] => {
                match [*high, *low].map(|digit| char::from(digit).to_digit(16)) {
                    // Below 0x80, so that the text stays UTF-8.
                    [Some(high @ 0..8), Some(low)] => (char::from((16 * high + low) as u8), 3),
                    _ => ('\\', 0),
                }
            }
            _ => ('\\', 0),
        };
        out.push(meant);
        rest = &escape[bytes..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_between_characters() {
        let whole = "aé東🦀".repeat(PART / 5);
        for first in 0..4 {
            let text = &"xyz"[..first];
            let source = [text.as_bytes(), whole.as_bytes()].concat();
            let (mut parts, mut read) = (Parts::of(&source[..], "it"), String::new());
            while parts.read_to(&mut read).unwrap() {}
            assert_eq!(read.as_bytes(), source);
        }
    }

    #[test]
    fn what_is_no_text_is_found_in_any_part() {
        for (bytes, at) in [(&b"\xff"[..], 0), (b"ab\xe6", 2), (b"\xc3\x28", 0)] {
            let source = [&vec![b'a'; PART][..], bytes].concat();
            let (mut parts, mut read) = (Parts::of(&source[..], "it"), String::new());
            let error = loop {
                match parts.read_to(&mut read) {
                    Ok(true) => {}
                    Ok(false) => panic!("{bytes:?} was read"),
                    Err(error) => break error.to_string(),
                }
            };
            assert_eq!(error, format!("it: UTF-8 expected, byte {} is not", PART + at));
        }
    }

    #[test]
    fn escapes_stand_for_characters() {
        assert_eq!(unescape(r#"a\nb\tc\r\\n\'\""#), "a\nb\tc\r\\n'\"");
        assert_eq!(unescape(r"\x41\x7F\xé\q\"), "A\x7f\\xé\\q\\");
        assert_eq!(unescape(r"\xC3\x"), r"\xC3\x");
        assert_eq!(unescape("plain"), "plain");
    }
}
