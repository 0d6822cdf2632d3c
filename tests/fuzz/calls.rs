//! Calls of tools in an answer that comes in pieces.

use arbitrary::{Result, Unstructured};
use wick_serve::http::{CallReader, Piece};

const PIECES: [&str; 16] = [
    "<tool_call>",
    "</tool_call>",
    "{\"name\": \"",
    "\", \"arguments\": ",
    "}",
    "{",
    "\"",
    "\\",
    "[",
    "]",
    "\n",
    " ",
    "<tool_",
    "call>",
    "a",
    "é",
];

/// An answer is the same wherever it is cut.
pub fn calls(bytes: &[u8]) {
    let _used_up = any_answer(&mut Unstructured::new(bytes));
}

fn any_answer(bytes: &mut Unstructured<'_>) -> Result<()> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    for _ in 0..bytes.int_in_range(0..=40)? {
        match bytes.arbitrary::<u8>()? {
            choice if choice < 64 => parts.push(std::mem::take(&mut part)),
            choice if choice < 240 => part += PIECES[usize::from(choice) % PIECES.len()],
            _ => part += bytes.arbitrary::<&str>()?,
        }
    }
    parts.push(part);
    let letters: Vec<String> = parts.concat().chars().map(String::from).collect();
    let whole = read(&[parts.concat()]);
    assert_eq!(read(&parts), whole, "{parts:?}");
    assert_eq!(read(&letters), whole, "{letters:?}");
    Ok(())
}

/// What is said, with the calls where they were made.
fn read(parts: &[String]) -> Vec<String> {
    let mut reader = CallReader::default();
    let mut pieces: Vec<Piece> = parts.iter().flat_map(|part| reader.push(part)).collect();
    pieces.extend(reader.finish());
    let mut said: Vec<String> = vec![String::new()];
    for piece in pieces {
        match piece {
            Piece::Content(text) => said.last_mut().expect("never empty").push_str(&text),
            Piece::Call { name } => said.extend([format!("call {name}"), String::new()]),
            Piece::Arguments(text) => said.last_mut().expect("never empty").push_str(&text),
        }
    }
    said
}
