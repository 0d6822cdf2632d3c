//! `wick detokenize`: token ids in, the bytes they stand for out.

use crate::exit::{Exit, Failure};
use crate::input::{PART, Parts};
use crate::model::{FileArguments, tokenizer};
use clap::Args;
use std::io::{self, Write};
use wick_text::{Control, Tokenizer};

/// Show the text of token ids: ids from stdin, their bytes out
///
/// Ids are separated by white space or commas, in brackets or not, as `wick tokenize` writes them.
/// Special tokens are written as they are.
///
///   echo "1282 451 361" | wick detokenize
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: FileArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let files = arguments.file.open()?;
    let tokenizer = tokenizer(&files, &files.parse()?[0])?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (mut held, mut bytes) = (String::new(), Vec::new());
    let mut parts = Parts::of(io::stdin().lock(), "stdin");
    let mut is_last = false;
    while !is_last {
        is_last = !parts.read_to(&mut held)?;
        if !is_last && held.len() < PART {
            continue;
        }
        // The last id may go on in the next part, but none is as long as a part.
        let end = held.rfind(separates).filter(|_| !is_last).map_or(held.len(), |at| at + 1);
        let ids = parse_ids(&held[..end])?;
        held.drain(..end);
        check(&ids, &tokenizer)?;
        bytes.clear();
        tokenizer.decode(&ids, Control::Show, &mut bytes);
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}

fn check(ids: &[u32], tokenizer: &Tokenizer) -> Result<(), Failure> {
    match ids.iter().find(|id| **id as usize >= tokenizer.len()) {
        None => Ok(()),
        Some(id) => {
            let entries = tokenizer.len();
            let message = format_args!("token {id}: the vocabulary has {entries} entries");
            Err(Failure::new(Exit::Input, message))
        }
    }
}

/// Ids separated by white space or commas, in brackets or not.
pub(crate) fn parse_ids(text: &str) -> Result<Vec<u32>, Failure> {
    let words = text.split(separates).filter(|word| !word.is_empty());
    let wrong = |word: &str| {
        let start: String = word.chars().take(LONGEST_SHOWN).collect();
        Failure::new(Exit::Input, format_args!("a token id expected, {start:?} found"))
    };
    words.map(|word| word.parse().map_err(|_| wrong(word))).collect()
}

/// Characters that are shown of what is no id.
const LONGEST_SHOWN: usize = 40;

fn separates(c: char) -> bool {
    c.is_ascii_whitespace() || matches!(c, ',' | '[' | ']')
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
