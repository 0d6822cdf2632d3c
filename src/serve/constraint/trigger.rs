//! Any text, and a form once calls begin.

use super::grammar::{Grammar, TOO_MUCH};
use std::fmt;
use std::sync::Arc;
use wick_session::{Constraint, ConstraintError};
use wick_text::{Special, Tokenizer};

/// What a call of a tool begins with, as models of the Hermes and Qwen families write it.
pub const CALL: &str = "<tool_call>";

/// A text that may be anything until a call begins.
pub(super) struct Trigger {
    grammar: Grammar,
    tokenizer: Arc<Tokenizer>,
    /// Bytes that a call begins with and that the text ends with; all of them once it has begun.
    matched: usize,
    allowed: Vec<u32>,
}

impl Trigger {
    pub(super) fn new(grammar: Grammar, tokenizer: Arc<Tokenizer>) -> Trigger {
        Trigger { grammar, tokenizer, matched: 0, allowed: Vec::new() }
    }

    fn has_begun(&self) -> bool {
        self.matched == CALL.len()
    }

    fn bytes(&self, id: u32) -> &[u8] {
        self.tokenizer.token_bytes(id).unwrap_or_default()
    }

    /// Whether a token ends the beginning of a call, and goes on with what no call goes on with.
    fn is_wrong(&self, id: u32) -> bool {
        let rest = self.bytes(id).strip_prefix(&CALL.as_bytes()[self.matched..]);
        rest.is_some_and(|rest| !rest.is_empty() && rest != b"\n")
    }

    /// Allows all tokens but those that are wrong.
    fn allow(&mut self) {
        let entries = self.tokenizer.len();
        self.allowed.clear();
        self.allowed.resize(entries.div_ceil(32), u32::MAX);
        for id in (0..entries as u32).filter(|id| self.is_wrong(*id)).collect::<Vec<_>>() {
            self.allowed[id as usize / 32] &= !(1 << (id % 32));
        }
    }

    /// Follows the text of a token; what stands behind the beginning of a call.
    fn follow(&mut self, id: u32) -> Option<String> {
        let bytes = self.bytes(id).to_vec();
        for (i, byte) in bytes.iter().enumerate() {
            self.matched = match *byte == CALL.as_bytes()[self.matched] {
                true => self.matched + 1,
                // No other byte of it is its first.
                false => usize::from(*byte == CALL.as_bytes()[0]),
            };
            if self.has_begun() {
                return Some(String::from_utf8_lossy(&bytes[i + 1..]).into_owned());
            }
        }
        None
    }
}

impl Constraint for Trigger {
    fn allowed(&mut self) -> Result<Option<&[u32]>, ConstraintError> {
        if self.has_begun() {
            return self.grammar.allowed();
        }
        if self.matched == 0 {
            return Ok(None);
        }
        self.allow();
        Ok(Some(&self.allowed))
    }

    fn take(&mut self, id: u32) -> Result<(), ConstraintError> {
        if self.has_begun() {
            return self.grammar.take(id);
        }
        let Some(rest) = self.follow(id) else { return Ok(()) };
        let mut ids = Vec::new();
        self.tokenizer.encode(&(CALL.to_owned() + &rest), Special::Text, &mut ids);
        ids.iter().try_for_each(|id| self.grammar.take(*id)).map_err(|_| TOO_MUCH)
    }

    fn is_complete(&self) -> bool {
        self.has_begun() && self.grammar.is_complete()
    }
}

impl fmt::Debug for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trigger").field("matched", &self.matched).finish_non_exhaustive()
    }
}
