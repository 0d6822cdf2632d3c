//! Words that are longer than any that people write.

use alloc::vec::Vec;

use crate::bpe::Scratch;
use crate::tokenizer::Tokenizer;

impl Tokenizer {
    /// Appends the ids of a word of any length, of which `window` bytes are merged at once.
    ///
    /// Tokens are those of the whole word if any two neighbors are what their bytes merge to alone. For merges in
    /// two places that do not touch leave each other's order as it is, so that the first merge across a border would
    /// be one there, too. Within a window that is so; where two windows meet it is looked for, and the later one
    /// begins a token earlier if it is not.
    pub(crate) fn encode_word(
        &self,
        word: &[u8],
        window: usize,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let first = out.len();
        let (mut from, mut end) = (0, word.len().min(window));
        while from < word.len() {
            let next = out.len();
            self.merge(&word[from..end], scratch, out);
            if next > first && !self.are_neighbors([out[next - 1], out[next]], scratch) {
                from -= self.tokens.bytes(out[next - 1]).len();
                out.truncate(next - 1);
            } else {
                from = end;
                end = word.len().min(end + window);
            }
        }
    }

    /// Whether two tokens are what their bytes merge to.
    fn are_neighbors(&self, pair: [u32; 2], scratch: &mut Scratch) -> bool {
        let bytes = pair.map(|id| self.tokens.bytes(id)).concat();
        let mut ids = Vec::new();
        self.merge(&bytes, scratch, &mut ids);
        ids == pair
    }
}
