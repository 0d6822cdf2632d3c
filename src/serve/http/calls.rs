//! From the text of an answer to what it says and the calls of tools in it.

use super::fields::random;
use crate::constraint::{ARGUMENTS, CALL, CALL_END, NAME};
use serde_json::{Value, json};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text.
    Content(String),
    /// A call begins.
    Call {
        /// The tool.
        name: String,
    },
    /// More of the arguments of the last call, as JSON.
    Arguments(String),
}

/// Reads an answer as it comes.
#[derive(Debug, Default)]
pub struct CallReader {
    /// What has come and not been told.
    pending: String,
    place: Place,
    /// Whether there was a call.
    pub(crate) has_called: bool,
}

/// Where in an answer the next text belongs.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Content,
    Head,
    Arguments {
        depth: usize,
        in_string: bool,
        is_escaped: bool,
    },
    End,
}

impl CallReader {
    /// Takes more text; what becomes certain with it.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.pending.push_str(text);
        let mut pieces = Vec::new();
        while self.advance(&mut pieces) {}
        pieces
    }

    /// The text that waited for more.
    pub fn finish(&mut self) -> Vec<Piece> {
        let rest = std::mem::take(&mut self.pending);
        let is_content = matches!(self.place, Place::Content) && !rest.is_empty();
        // Nothing but calls stands behind a call; one that has not begun in full was cut off.
        let is_told = is_content && !(self.has_called && CALL.starts_with(rest.trim()));
        if is_told { vec![Piece::Content(rest)] } else { Vec::new() }
    }

    /// Goes on to the next place; whether there is more to read.
    fn advance(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.place {
            Place::Content => self.content(pieces),
            Place::Head => self.head(pieces),
            Place::Arguments { .. } => self.arguments(pieces),
            Place::End => {
                self.pass(CALL_END).is_some() && {
                    self.place = Place::Content;
                    true
                }
            }
        }
    }

    /// What stands before some text, if that has come; both are taken away.
    fn pass(&mut self, text: &str) -> Option<String> {
        let at = self.pending.find(text)?;
        let before = self.pending[..at].to_owned();
        self.pending.drain(..at + text.len());
        Some(before)
    }

    fn content(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if let Some(before) = self.pass(CALL) {
            let before = before.trim_end();
            pieces.extend((!before.is_empty()).then(|| Piece::Content(before.into())));
            self.place = Place::Head;
            return true;
        }
        let text = self.pending.as_str();
        // White space before a call belongs to it.
        let begins = |at: usize| CALL.starts_with(&text[at..]);
        let at = text.rfind('<').filter(|at| begins(*at)).unwrap_or(text.len());
        let told = text[..at].trim_end().len();
        if told > 0 {
            pieces.push(Piece::Content(self.pending.drain(..told).collect()));
        }
        false
    }

    fn head(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let Some(head) = self.pass(ARGUMENTS) else { return false };
        let name = head.split_once(NAME).map_or("", |(_, name)| name);
        pieces.push(Piece::Call { name: name.into() });
        self.has_called = true;
        self.place = Place::Arguments { depth: 0, in_string: false, is_escaped: false };
        true
    }

    fn arguments(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let mut end = None;
        for (at, byte) in self.pending.bytes().enumerate() {
            self.place = self.place.after(byte);
            if matches!(self.place, Place::End) {
                end = Some(at + 1);
                break;
            }
        }
        let arguments: String = self.pending.drain(..end.unwrap_or(self.pending.len())).collect();
        pieces.extend((!arguments.is_empty()).then_some(Piece::Arguments(arguments)));
        end.is_some()
    }
}

impl Place {
    /// The place behind a byte of arguments, which are an object.
    fn after(self, byte: u8) -> Place {
        let Place::Arguments { mut depth, mut in_string, is_escaped } = self else { return self };
        match byte {
            _ if is_escaped => {}
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && byte == b'}' && !in_string {
            return Place::End;
        }
        Place::Arguments { depth, in_string, is_escaped: in_string && !is_escaped && byte == b'\\' }
    }
}

/// A name that no other call has.
pub(crate) fn call_id() -> String {
    format!("call_{:016x}", random())
}

/// The beginning of a call in OpenAI's form.
pub(crate) fn call(name: &str) -> Value {
    json!({"id": call_id(), "type": "function", "function": {"name": name, "arguments": ""}})
}

/// A whole call in OpenAI's form.
pub(crate) fn whole_call((name, arguments): (String, String)) -> Value {
    let mut call = call(&name);
    call["function"]["arguments"] = arguments.into();
    call
}

/// A whole answer: its text, and the names and arguments of its calls.
pub(crate) fn read(text: &str) -> (String, Vec<(String, String)>) {
    let (mut content, mut calls) = (String::new(), Vec::new());
    for piece in pieces(text) {
        gather(piece, &mut content, &mut calls);
    }
    (content, calls)
}

/// The parts of a whole answer, in their order.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let mut reader = CallReader::default();
    let mut pieces = reader.push(text);
    pieces.extend(reader.finish());
    pieces
}

/// Adds a piece to an answer.
pub(crate) fn gather(piece: Piece, content: &mut String, calls: &mut Vec<(String, String)>) {
    match piece {
        Piece::Content(text) => *content += &text,
        Piece::Call { name } => calls.push((name, String::new())),
        Piece::Arguments(more) => {
            if let Some((_, arguments)) = calls.last_mut() {
                *arguments += &more;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "On < it. \n<tool_call>\n{\"name\": \"turn\", \"arguments\": {\"a\": [\"}\\\"</tool_call>\"]}}\n\
        </tool_call>\n<tool_call>\n{\"name\": \"b\", \"arguments\": {}}\n</tool_call>\n";

    #[test]
    fn an_answer_is_the_same_wherever_it_is_cut() {
        let (content, calls) = read(ANSWER);
        assert_eq!((&*content, calls.len()), ("On < it.", 2));
        let first = r#"{"a": ["}\"</tool_call>"]}"#;
        assert_eq!(calls, [("turn".into(), first.into()), ("b".into(), "{}".into())]);
        for size in 1..20 {
            let (mut reader, mut said) = (CallReader::default(), String::new());
            let parts = ANSWER.as_bytes().chunks(size).map(|part| str::from_utf8(part).unwrap());
            let mut pieces: Vec<Piece> = parts.flat_map(|part| reader.push(part)).collect();
            pieces.extend(reader.finish());
            for piece in pieces {
                match piece {
                    Piece::Content(text) => said += &text,
                    Piece::Call { name } => said += &format!("[{name}]"),
                    Piece::Arguments(text) => said += &text,
                }
            }
            assert_eq!(said, r#"On < it.[turn]{"a": ["}\"</tool_call>"]}[b]{}"#);
        }
    }

    #[test]
    fn what_is_no_call_is_text() {
        for text in ["a < b <tool", " x ", "", "<tool_cal l>"] {
            assert_eq!(read(text), (text.to_owned(), vec![]));
        }
        // One that was cut off.
        assert_eq!(read("x<tool_call>\n{\"name\": \"tu").0, "x");
        let call = "<tool_call>\n{\"name\": \"b\", \"arguments\": {}}\n</tool_call>\n<tool_";
        assert_eq!(read(call), (String::new(), vec![("b".into(), "{}".into())]));
    }
}
