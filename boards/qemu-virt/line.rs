//! Lines that are typed at a terminal.

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes that a line may have; more are not taken.
pub const MOST: usize = 8192;

const CONTROL_C: u8 = 3;
const CONTROL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;

/// What a typed byte has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed<'a> {
    /// Nothing yet; these bytes are to be shown.
    Echo(&'a [u8]),
    /// The line has ended.
    End,
    /// Control-C: the line is forgotten.
    Forget,
    /// Control-D on an empty line: no more will come.
    Close,
}

/// A line that is being typed.
#[derive(Debug, Default)]
pub struct Line {
    bytes: Vec<u8>,
    echo: [u8; 1],
}

impl Line {
    /// Takes a byte. Backspace takes back a character.
    pub fn push(&mut self, byte: u8) -> Typed<'_> {
        match byte {
            b'\r' | b'\n' => Typed::End,
            CONTROL_D if self.bytes.is_empty() => Typed::Close,
            CONTROL_C => {
                self.bytes.clear();
                Typed::Forget
            }
            BACKSPACE | DELETE => self.take_back(),
            b'\t' | b' '.. if self.bytes.len() < MOST => {
                self.bytes.push(byte);
                self.echo = [byte];
                Typed::Echo(&self.echo)
            }
            _ => Typed::Echo(&[]),
        }
    }

    fn take_back(&mut self) -> Typed<'_> {
        // The bytes that continue a character, then the one that begins it.
        while self.bytes.pop_if(|byte| *byte & 0xc0 == 0x80).is_some() {}
        match self.bytes.pop() {
            Some(_) => Typed::Echo(b"\x08 \x08"),
            None => Typed::Echo(&[]),
        }
    }

    /// The line; what is no UTF-8 becomes U+FFFD. The next byte begins a new one.
    pub fn take(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.bytes).into_owned();
        self.bytes.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> String {
        let mut line = Line::default();
        bytes.iter().for_each(|byte| _ = line.push(*byte));
        line.take()
    }

    #[test]
    fn characters_are_taken_back_whole() {
        assert_eq!(typed("dím\x7f\x7fé\x08e".as_bytes()), "de");
        assert_eq!(typed(b"\x7f\x7fx\x1b"), "x");
        assert_eq!(typed(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn keys_end_forget_and_close() {
        let mut line = Line::default();
        assert_eq!(line.push(CONTROL_D), Typed::Close);
        assert_eq!(line.push(b'a'), Typed::Echo(b"a"));
        assert_eq!(line.push(CONTROL_D), Typed::Echo(b""));
        assert_eq!(line.push(b'\r'), Typed::End);
        assert_eq!(line.push(CONTROL_C), Typed::Forget);
        assert_eq!(line.take(), "");
    }

    #[test]
    fn a_line_has_an_end() {
        assert_eq!(typed(&[b'x'; MOST + 5]).len(), MOST);
    }
}
