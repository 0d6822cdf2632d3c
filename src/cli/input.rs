//! Texts from outside: stdin and arguments.

use crate::exit::{Exit, Failure, OrExit};
use anyhow::Context;
use std::io::{self, Read};

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

/// Bytes as text; `what` is named if they are none.
pub(crate) fn utf8(what: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::new(Exit::Input, format_args!("{what}: UTF-8 expected, byte {at} is not"))
    })
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
    fn escapes_stand_for_characters() {
        assert_eq!(unescape(r#"a\nb\tc\r\\n\'\""#), "a\nb\tc\r\\n'\"");
        assert_eq!(unescape(r"\x41\x7F\xé\q\"), "A\x7f\\xé\\q\\");
        assert_eq!(unescape(r"\xC3\x"), r"\xC3\x");
        assert_eq!(unescape("plain"), "plain");
    }
}
