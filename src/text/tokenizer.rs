//! Text to token ids.

use alloc::vec::Vec;
use core::ops::Range;

use crate::bpe::{Scratch, WINDOW};
use crate::control::Control;
use crate::error::Error;
use crate::merges::Merges;
use crate::special::{Special, Specials};
use crate::split::split;
use crate::tokens::Tokens;
use crate::vocabulary::{Kind, Vocabulary};

/// Tokens that end a sequence or a turn in this family, whatever the file calls them.
pub const END_NAMES: [&str; 2] = ["<|endoftext|>", "<|im_end|>"];

/// A byte-level BPE tokenizer with the Qwen2 split rule. Owns its tables; shared freely between threads.
#[derive(Debug)]
pub struct Tokenizer {
    pub(crate) tokens: Tokens,
    merges: Merges,
    pub(crate) specials: Specials,
    /// The token of each byte.
    byte_ids: [u32; 256],
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    ends: [Option<u32>; 4],
    /// Special ids beyond the tokens.
    absent: [Option<(&'static str, u32)>; 3],
}

impl Tokenizer {
    /// Checks a vocabulary and builds the tables from it.
    ///
    /// # Errors
    /// Any [`Error`]: the vocabulary is inconsistent, or the memory could not be had. Never panics.
    pub fn new<'a, T, M, K>(vocabulary: Vocabulary<T, M, K>) -> Result<Self, Error>
    where
        T: Iterator<Item = &'a [u8]> + Clone,
        M: Iterator<Item = &'a [u8]> + Clone,
        K: Iterator<Item = i32> + Clone,
    {
        let Vocabulary { tokens, merges, kinds, bos, eos, eot, add_bos } = vocabulary;
        let count = tokens.clone().count();
        if let Some(id) = bos.filter(|&id| add_bos && id as usize >= count) {
            return Err(Error::SpecialId { name: "bos", id, tokens: count });
        }
        if add_bos && bos.is_none() {
            return Err(Error::NoBos);
        }
        // No sequence begins with them, and nothing that is drawn is one of them.
        let is_there = |id: &u32| (*id as usize) < count;
        let absent = [("bos", bos), ("eos", eos), ("eot", eot)]
            .map(|(name, id)| id.filter(|id| !is_there(id)).map(|id| (name, id)));
        let [bos, eos, eot] = [bos, eos, eot].map(|id| id.filter(is_there));
        let tokens = Tokens::read(tokens, kind_source(kinds, count, [bos, eos, eot])?)?;
        let merges = Merges::read(merges, &tokens)?;
        let specials = Specials::of(&tokens)?;
        let byte_ids = byte_ids(&tokens)?;
        let [first, second] = END_NAMES.map(|name| specials.find(&tokens, name.as_bytes()));
        Ok(Tokenizer {
            tokens,
            merges,
            specials,
            byte_ids,
            bos,
            eos,
            add_bos,
            ends: [eos, eot, first, second],
            absent,
        })
    }

    /// Appends the ids of `text` to `out`. Nothing is put before or after them; see [`Tokenizer::prefix`].
    pub fn encode(&self, text: &str, special: Special, out: &mut Vec<u32>) {
        self.encode_with(text, special, &mut Scratch::new(), out);
    }

    /// As [`Tokenizer::encode`], with memory that the caller keeps.
    pub fn encode_with(
        &self,
        text: &str,
        special: Special,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        self.encode_reaching(text, |_| special.reach(), scratch, out);
    }

    /// As [`Tokenizer::encode`], of a text of which some is a user's: a control token is one only where none of its
    /// bytes lies in `user`, which are ranges of bytes in order and apart. Everything else is encoded as one text,
    /// wherever the ranges begin and end.
    pub fn encode_marked(&self, text: &str, user: &[Range<usize>], out: &mut Vec<u32>) {
        let reach = |at: usize| match user.get(user.partition_point(|range| range.end <= at)) {
            Some(range) => range.start.saturating_sub(at),
            None => usize::MAX,
        };
        self.encode_reaching(text, reach, &mut Scratch::new(), out);
    }

    /// The ids of a text; `reach` tells for a position how many bytes from there on may be a control token.
    fn encode_reaching(
        &self,
        text: &str,
        reach: impl Fn(usize) -> usize,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let mut from = 0;
        while let Some((at, id)) = self.specials.next_in(&self.tokens, text, from, &reach) {
            self.encode_plain(&text[from..at], scratch, out);
            out.push(id);
            from = at + self.tokens.bytes(id).len();
        }
        self.encode_plain(&text[from..], scratch, out);
    }

    /// Text in which no special token is looked for.
    pub(crate) fn encode_plain(&self, text: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        for piece in split(text) {
            self.encode_word(piece.as_bytes(), WINDOW, scratch, out);
        }
    }

    /// Merges the bytes of a word.
    pub(crate) fn merge(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        let ids = word.iter().map(|byte| self.byte_ids[usize::from(*byte)]);
        scratch.merge(&self.merges, ids, out);
    }

    /// Appends the bytes of `ids` to `out`, which need not be UTF-8; see [`Detokenizer`](crate::Detokenizer) for text.
    ///
    /// Unused tokens and ids beyond the vocabulary yield nothing, control tokens only on [`Control::Show`].
    pub fn decode(&self, ids: &[u32], control: Control, out: &mut Vec<u8>) {
        for &id in ids {
            out.extend_from_slice(self.shown_bytes(id, control));
        }
    }

    /// What a token adds to the text.
    pub(crate) fn shown_bytes(&self, id: u32, control: Control) -> &[u8] {
        match self.kind(id) {
            None | Some(Kind::Unused) => &[],
            Some(kind) if kind.is_control() && control == Control::Hide => &[],
            Some(_) => self.tokens.bytes(id),
        }
    }

    /// The bytes of any token: decoded for normal tokens, as written for all others. None beyond the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.kind(id).map(|_| self.tokens.bytes(id))
    }

    /// What a token is for. None beyond the vocabulary.
    pub fn kind(&self, id: u32) -> Option<Kind> {
        ((id as usize) < self.len()).then(|| self.tokens.kind(id))
    }

    /// The token that stands for exactly `text`, special tokens first. Unused tokens are not found.
    pub fn id_of(&self, text: &str) -> Option<u32> {
        let text = text.as_bytes();
        self.specials.find(&self.tokens, text).or_else(|| self.tokens.find(text))
    }

    /// Number of tokens. A model may have more rows than that.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens; never so, since every byte has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the token is a sign to the model and no text.
    pub fn is_control(&self, id: u32) -> bool {
        self.kind(id).is_some_and(Kind::is_control)
    }

    /// Whether the token ends a sequence or a turn: eos, eot, `<|endoftext|>` and `<|im_end|>`.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&Some(id))
    }

    /// The token that every sequence begins with: bos, if the file asks for it to be added.
    pub fn prefix(&self) -> Option<u32> {
        self.bos.filter(|_| self.add_bos)
    }

    /// The file's bos token, to be added or not.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The file's eos token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Special ids of the file ("bos", "eos", "eot") that are beyond the tokens. Nothing uses them: they
    /// are taken for missing.
    pub fn absent(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.absent.into_iter().flatten()
    }

    /// Bytes of the heap that the tables take.
    pub fn heap_bytes(&self) -> usize {
        self.tokens.heap_bytes() + self.merges.heap_bytes() + self.specials.heap_bytes()
    }
}

/// Gives each token's kind in turn, from its id and stored text.
fn kind_source<K: Iterator<Item = i32> + Clone>(
    mut kinds: Option<K>,
    tokens: usize,
    control: [Option<u32>; 3],
) -> Result<impl FnMut(usize, &str) -> Result<Kind, Error>, Error> {
    if let Some(kinds) = &kinds {
        let found = kinds.clone().take(tokens.saturating_add(1)).count();
        if found != tokens {
            return Err(Error::KindCount { tokens, found });
        }
    }
    Ok(move |token: usize, text: &str| {
        let kind = match &mut kinds {
            Some(kinds) => {
                let found = kinds.next().ok_or(Error::KindCount { tokens, found: token })?;
                Kind::from_number(found).ok_or(Error::UnknownKind { token, found })?
            }
            None if control.contains(&u32::try_from(token).ok()) => Kind::Control,
            None if text.starts_with("<|") && text.ends_with("|>") => Kind::Control,
            None => Kind::Normal,
        };
        // Some converters write these as normal tokens; they would then show up in the output.
        Ok(if END_NAMES.contains(&text) { Kind::Control } else { kind })
    })
}

fn byte_ids(tokens: &Tokens) -> Result<[u32; 256], Error> {
    let mut ids = [0; 256];
    for byte in 0..=u8::MAX {
        ids[usize::from(byte)] = tokens.find(&[byte]).ok_or(Error::MissingByte { byte })?;
    }
    Ok(ids)
}
