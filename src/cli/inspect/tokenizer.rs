//! What a tokenizer has.

use crate::memory::Mib;
use crate::screen::line;
use serde::Serialize;
use std::io::{self, Write};
use wick_format::Gguf;
use wick_text::{Kind, Tokenizer};

/// Tokens with a part of their own, and the keys that name them.
const SPECIAL: [(&str, &str); 4] = [
    ("bos", "tokenizer.ggml.bos_token_id"),
    ("eos", "tokenizer.ggml.eos_token_id"),
    ("eot", "tokenizer.ggml.eot_token_id"),
    ("pad", "tokenizer.ggml.padding_token_id"),
];

#[derive(Serialize)]
pub(super) struct TokenizerReport {
    entries: usize,
    memory: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    end: Vec<u32>,
    adds_bos: bool,
    chat_template: bool,
    merges: usize,
    kinds: Kinds,
    special: Vec<Special>,
}

/// How many entries are of each kind.
#[derive(Default, Serialize)]
struct Kinds {
    normal: usize,
    unknown: usize,
    control: usize,
    user_defined: usize,
    unused: usize,
    byte: usize,
}

/// A token with a part of its own; one that is beyond the entries has no text.
#[derive(Serialize)]
struct Special {
    part: &'static str,
    id: u32,
    text: Option<String>,
}

impl TokenizerReport {
    pub(super) fn of(tokenizer: &Tokenizer, metadata: &Gguf<'_>) -> TokenizerReport {
        let ids = 0..tokenizer.len() as u32;
        let merges = metadata.get("tokenizer.ggml.merges").and_then(|entry| entry.array().ok());
        TokenizerReport {
            entries: tokenizer.len(),
            memory: tokenizer.heap_bytes(),
            bos: tokenizer.bos(),
            eos: tokenizer.eos(),
            end: ids.clone().filter(|id| tokenizer.is_end(*id)).collect(),
            adds_bos: tokenizer.prefix().is_some(),
            chat_template: metadata.get("tokenizer.chat_template").is_some(),
            merges: merges.map_or(0, |merges| merges.len()),
            kinds: Kinds::of(ids.filter_map(|id| tokenizer.kind(id))),
            special: special(tokenizer, metadata),
        }
    }

    /// The tokenizer for people.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "tokenizer   {} entries in {}; ends with {:?}; {} chat template",
            self.entries,
            Mib(self.memory),
            self.end,
            if self.chat_template { "with" } else { "without" }
        )?;
        writeln!(out, "  kinds     {}", self.kinds.text())?;
        let before = if self.adds_bos { "BOS is" } else { "nothing is" };
        writeln!(out, "  merges    {}; {before} put before a text", self.merges)?;
        for Special { part, id, text } in &self.special {
            match text {
                Some(text) => writeln!(out, "  {part}       {id} {}", line(text))?,
                None => writeln!(out, "  {part}       {id}, which is no entry")?,
            }
        }
        Ok(())
    }
}

impl Kinds {
    fn of(all: impl Iterator<Item = Kind>) -> Kinds {
        let mut kinds = Kinds::default();
        for kind in all {
            *match kind {
                Kind::Normal => &mut kinds.normal,
                Kind::Unknown => &mut kinds.unknown,
                Kind::Control => &mut kinds.control,
                Kind::UserDefined => &mut kinds.user_defined,
                Kind::Unused => &mut kinds.unused,
                Kind::Byte => &mut kinds.byte,
            } += 1;
        }
        kinds
    }

    /// Those that there are of.
    fn text(&self) -> String {
        let all = [
            (self.normal, "normal"),
            (self.unknown, "unknown"),
            (self.control, "control"),
            (self.user_defined, "user-defined"),
            (self.unused, "unused"),
            (self.byte, "of a byte"),
        ];
        let some = all.iter().filter(|(count, _)| *count > 0);
        some.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    }
}

/// Tokens that the file names a part of, but for what it has of none: some writers have -1 then.
fn special(tokenizer: &Tokenizer, metadata: &Gguf<'_>) -> Vec<Special> {
    let text = |id| tokenizer.token_bytes(id).map(|text| String::from_utf8_lossy(text).into());
    let named = |(part, key)| {
        let id = metadata.get(key)?.u32().ok().filter(|id| *id != u32::MAX)?;
        Some(Special { part, id, text: text(id) })
    };
    SPECIAL.into_iter().filter_map(named).collect()
}
