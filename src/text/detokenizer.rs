//! Token ids to text, as they come.

use alloc::string::String;
use alloc::vec::Vec;

use crate::control::Control;
use crate::tokenizer::Tokenizer;

/// Bytes of a token that there is room for from the start, so that hardly any takes memory.
const ROOM: usize = 256;

/// Turns a stream of ids into text without ever splitting a character.
///
/// A token may end within a character; the bytes of an unfinished one wait for the next token. Bytes that
/// can no longer become a character give U+FFFD. All that is yielded, joined, is what
/// [`String::from_utf8_lossy`] makes of all the bytes joined.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    control: Control,
    /// Between calls: the beginning of a character, at most 3 bytes.
    pending: Vec<u8>,
    text: String,
}

impl Detokenizer {
    /// At the beginning of a stream.
    pub fn new(control: Control) -> Self {
        let (pending, text) = (Vec::with_capacity(ROOM), String::with_capacity(2 * ROOM));
        Detokenizer { control, pending, text }
    }

    /// Takes the next id and yields the text that is now certain, which may be empty.
    ///
    /// Unused tokens and ids beyond the vocabulary yield nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> &str {
        self.push_bytes(tokenizer.shown_bytes(id, self.control))
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> &str {
        self.text.clear();
        self.pending.extend_from_slice(bytes);
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            self.text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            let is_last = done + invalid.len() == self.pending.len();
            if invalid.is_empty() || is_last && is_unfinished(invalid) {
                break;
            }
            self.text.push(char::REPLACEMENT_CHARACTER);
            done += invalid.len();
        }
        self.pending.drain(..done);
        &self.text
    }

    /// Ends the stream: an unfinished character becomes U+FFFD. The next id begins a new stream.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.pending.is_empty() {
            self.pending.clear();
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        &self.text
    }
}

/// Whether more bytes could make a character of these.
fn is_unfinished(invalid: &[u8]) -> bool {
    core::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in the pieces that `cuts` (a bit mask of places) makes and joins what comes out.
    fn stream(bytes: &[u8], cuts: u32) -> String {
        let mut detokenizer = Detokenizer::new(Control::Hide);
        let mut text = String::new();
        let mut from = 0;
        for at in 1..=bytes.len() {
            if at == bytes.len() || cuts & (1 << (at - 1)) != 0 {
                text.push_str(detokenizer.push_bytes(&bytes[from..at]));
                assert!(detokenizer.pending.len() <= 3);
                from = at;
            }
        }
        text.push_str(detokenizer.finish());
        text
    }

    #[test]
    fn any_cut_gives_the_text_of_all_bytes() {
        let cases: [&[u8]; 10] = [
            "é€🙂".as_bytes(),
            b"\xf0\x9f\x99",
            b"\xf0\x9fa\x99\x82",
            b"\xe2\x82\xe2\x82\xac",
            b"\xed\xa0\x80z",
            b"\xf5\x80\xc0\xaf\xff",
            b"\xf4\x90\x80\x80",
            b"\xe0\x80\x80",
            b"a\xc3",
            b"\x80\xbf",
        ];
        for bytes in cases {
            for cuts in 0..1 << (bytes.len() - 1) {
                assert_eq!(
                    stream(bytes, cuts),
                    String::from_utf8_lossy(bytes),
                    "{bytes:x?} cut at {cuts:b}"
                );
            }
        }
    }

    #[test]
    fn characters_come_whole_and_at_once() {
        let mut detokenizer = Detokenizer::new(Control::Hide);
        assert_eq!(detokenizer.push_bytes(b"a\xe2"), "a");
        assert_eq!(detokenizer.push_bytes(b"\x82"), "");
        assert_eq!(detokenizer.push_bytes(b"\xacb\xff"), "€b\u{fffd}");
        assert_eq!(detokenizer.push_bytes(b"\xe2"), "");
        assert_eq!(detokenizer.push_bytes(b"c"), "\u{fffd}c");
        assert_eq!(detokenizer.finish(), "");
    }
}
