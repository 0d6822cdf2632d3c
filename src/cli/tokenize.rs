//! `wick tokenize`: text in, token ids out.

use crate::exit::Failure;
use crate::input::{PART, Parts};
use crate::model::{FileArguments, tokenizer};
use clap::Args;
use std::io::{self, Write};
use wick_text::{Scratch, Special, Tokenizer};

/// Show the token ids of a text: stdin in, one line of ids out
///
///   echo -n "Hello, world" | wick tokenize model.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    /// Write a JSON array
    #[arg(long)]
    json: bool,
    /// Take special tokens such as <|im_start|> for plain text
    #[arg(long)]
    plain: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let files = arguments.file.open()?;
    let tokenizer = tokenizer(&files, &files.parse()?[0])?;
    let special = if arguments.plain { Special::Text } else { Special::Parse };
    let [open, between, close] = if arguments.json { ["[", ",", "]\n"] } else { ["", " ", "\n"] };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut separator = open;
    each_part(&tokenizer, special, |ids| {
        for id in ids {
            write!(out, "{separator}{id}")?;
            separator = between;
        }
        Ok(())
    })?;
    if separator == open {
        write!(out, "{open}")?;
    }
    write!(out, "{close}")?;
    Ok(out.flush()?)
}

/// Hands out the ids of stdin as it is read, of which little more than the longest word is held.
fn each_part(
    tokenizer: &Tokenizer,
    special: Special,
    mut each: impl FnMut(&[u32]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut scratch, mut ids) = (Scratch::new(), Vec::new());
    let (mut held, mut enough) = (String::new(), PART);
    let mut parts = Parts::of(io::stdin().lock(), "stdin");
    while parts.read_to(&mut held)? {
        // A long word is not looked at again before there is twice as much of it.
        if held.len() >= enough {
            let settled = tokenizer.encode_part(&held, special, &mut scratch, &mut ids);
            held.drain(..settled);
            enough = 2 * held.len() + PART;
            each(&ids)?;
            ids.clear();
        }
    }
    tokenizer.encode_with(&held, special, &mut scratch, &mut ids);
    each(&ids)
}
