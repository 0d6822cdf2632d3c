//! `wick detokenize`: token ids in, the bytes they stand for out.

use crate::exit::{Exit, Failure};
use crate::input::read_text;
use crate::model::{FileArguments, tokenizer};
use clap::Args;
use std::io::{self, Write};
use wick_text::Control;

/// Show the text of token ids: ids from stdin, their bytes out
///
/// Ids are separated by white space or commas, in brackets or not, as `wick tokenize` writes them.
/// Special tokens are written as they are.
///
///   echo "15496 11 995" | wick detokenize model.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: FileArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let files = arguments.file.open()?;
    let tokenizer = tokenizer(&files, &files.parse()?[0])?;
    let ids = parse_ids(&read_text()?)?;
    if let Some(id) = ids.iter().find(|id| **id as usize >= tokenizer.len()) {
        let message = format_args!("token {id}: the vocabulary has {} entries", tokenizer.len());
        return Err(Failure::new(Exit::Input, message));
    }
    let mut bytes = Vec::new();
    tokenizer.decode(&ids, Control::Show, &mut bytes);
    io::stdout().lock().write_all(&bytes)?;
    Ok(())
}

/// Ids separated by white space or commas, in brackets or not.
pub(crate) fn parse_ids(text: &str) -> Result<Vec<u32>, Failure> {
    let text = text.trim();
    let list = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let words = list.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty());
    words
        .map(|word| {
            let wrong =
                |_| Failure::new(Exit::Input, format_args!("a token id expected, {word:?} found"));
            word.parse().map_err(wrong)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_in_any_list() {
        for text in ["1 2 3", "[1, 2, 3]\n", "1,2\n3", " [1 2 3] "] {
            assert_eq!(parse_ids(text).unwrap(), [1, 2, 3], "{text:?}");
        }
        assert!(parse_ids("").unwrap().is_empty());
        let error = parse_ids("1 two").unwrap_err().to_string();
        assert_eq!(error, "a token id expected, \"two\" found");
        assert!(parse_ids("-1").is_err() && parse_ids("4294967296").is_err());
    }
}
