//! Tokens that stand for themselves in the text: `<|im_start|>` and its like.

use alloc::vec::Vec;

use crate::error::Error;
use crate::tokens::{Tokens, reserve};
use crate::vocabulary::Kind;

/// What becomes of the text of a control token in the input.
///
/// User-defined tokens are ordinary text to the reader and are found in both cases, as llama.cpp does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// It becomes the control token: for prompts made by a chat template.
    Parse,
    /// It is text like any other: for input that must not steer the model.
    Text,
}

impl Special {
    /// Bytes from any place of a text on that may be a control token.
    pub(crate) fn reach(self) -> usize {
        match self {
            Special::Parse => usize::MAX,
            Special::Text => 0,
        }
    }
}

/// The control and user-defined tokens, sorted by their bytes.
#[derive(Debug)]
pub(crate) struct Specials {
    ids: Vec<u32>,
    /// Which bytes a special token begins with: most positions of a text need no further look.
    first: [bool; 256],
    /// Bytes of the longest.
    longest: usize,
}

impl Specials {
    pub(crate) fn of(tokens: &Tokens) -> Result<Self, Error> {
        let literal = |&id: &u32| tokens.kind(id).is_literal() && !tokens.bytes(id).is_empty();
        let all = (0..tokens.len() as u32).filter(literal);
        let mut ids = reserve(all.clone().count())?;
        ids.extend(all);
        ids.sort_unstable_by_key(|&id| (tokens.bytes(id), id));
        if let Some(pair) =
            ids.windows(2).find(|pair| tokens.bytes(pair[0]) == tokens.bytes(pair[1]))
        {
            return Err(Error::RepeatedToken { token: pair[1] as usize, first: pair[0] as usize });
        }
        let mut first = [false; 256];
        for &id in &ids {
            first[usize::from(tokens.bytes(id)[0])] = true;
        }
        let longest = ids.iter().map(|&id| tokens.bytes(id).len()).max().unwrap_or(0);
        Ok(Specials { ids, first, longest })
    }

    /// Bytes of the longest one, 0 if there is none.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The special token that is exactly `text`.
    pub(crate) fn find(&self, tokens: &Tokens, text: &[u8]) -> Option<u32> {
        let at = self.ids.binary_search_by_key(&text, |&id| tokens.bytes(id)).ok()?;
        Some(self.ids[at])
    }

    /// The first special token in `text` from `from` on, the longest where several begin there: where it begins,
    /// and its id. `reach` tells for a position how many bytes from there on may be a control token.
    pub(crate) fn next_in(
        &self,
        tokens: &Tokens,
        text: &str,
        from: usize,
        reach: impl Fn(usize) -> usize,
    ) -> Option<(usize, u32)> {
        let bytes = text.as_bytes();
        (from..bytes.len())
            .filter(|&at| self.first[usize::from(bytes[at])])
            .find_map(|at| Some((at, self.longest_prefix(tokens, &bytes[at..], reach(at))?)))
    }

    /// The longest special token that `rest` begins with; control tokens of up to `reach` bytes.
    fn longest_prefix(&self, tokens: &Tokens, rest: &[u8], reach: usize) -> Option<u32> {
        let mut longest = None;
        // The tokens that share the bytes of `rest` seen so far; being sorted, the one that ends here comes first.
        let mut candidates = &self.ids[..];
        for (depth, &byte) in rest.iter().enumerate() {
            let at_depth = |id: u32| tokens.bytes(id)[depth];
            candidates = &candidates[candidates.partition_point(|&id| at_depth(id) < byte)..];
            candidates = &candidates[..candidates.partition_point(|&id| at_depth(id) == byte)];
            let Some((&id, longer)) = candidates.split_first() else {
                break;
            };
            if tokens.bytes(id).len() == depth + 1 {
                candidates = longer;
                if depth < reach || tokens.kind(id) == Kind::UserDefined {
                    longest = Some(id);
                }
            }
        }
        longest
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        4 * self.ids.capacity()
    }
}
