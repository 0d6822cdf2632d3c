//! `wick tokenize`: text in, token ids out.

use crate::exit::Failure;
use crate::input::read_text;
use crate::model::{FileArguments, tokenizer};
use clap::Args;
use std::io::{self, Write};
use wick_text::Special;

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
    let mut ids = Vec::new();
    tokenizer.encode(&read_text()?, special, &mut ids);
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "[{}]", ids.join(","))?;
    } else {
        writeln!(out, "{}", ids.join(" "))?;
    }
    Ok(())
}
