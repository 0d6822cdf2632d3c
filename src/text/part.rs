//! A text that comes in parts: the ids that no further part can change.

use alloc::vec::Vec;

use crate::bpe::Scratch;
use crate::special::Special;
use crate::split::split;
use crate::tokenizer::Tokenizer;

impl Tokenizer {
    /// Appends the ids of the beginning of `text`, as far as they are the same whatever follows `text`, and
    /// returns how many bytes they stand for. With the rest before what follows, the ids of a text in parts are
    /// those of the whole; the last part goes to [`Tokenizer::encode_with`].
    ///
    /// What is left is a word or two, or a special token that may have begun; where a word is as long as the text,
    /// that is all of it.
    pub fn encode_part(
        &self,
        text: &str,
        special: Special,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> usize {
        let longest = self.specials.longest();
        // From here on a special token may begin that ends behind the text.
        let open = text.floor_char_boundary((text.len() + 1).saturating_sub(longest.max(1)));
        let mut from = 0;
        while let Some((at, id)) =
            self.specials.next_in(&self.tokens, text, from, |_| special.reach())
            && at < open
        {
            self.encode_plain(&text[from..at], scratch, out);
            out.push(id);
            from = at + self.tokens.bytes(id).len();
        }
        let settled = from + settled(&text[from..open.max(from)]);
        self.encode_plain(&text[from..settled], scratch, out);
        settled
    }
}

/// Bytes of the pieces of `text` that are pieces whatever follows: those before the last one that is more than
/// white space. A piece reaches no further than to the next character that is none.
fn settled(text: &str) -> usize {
    let mut settled = 0;
    let mut at = 0;
    for piece in split(text) {
        if !piece.trim().is_empty() {
            settled = at;
        }
        at += piece.len();
    }
    settled
}
