//! Byte pair merging within one piece of text.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::merges::Merges;

/// No neighbor, or no merge.
const NONE: usize = usize::MAX;

/// Bytes of a word that are merged at once.
pub(crate) const WINDOW: usize = 1 << 16;

/// Memory for encoding, kept from call to call so that nothing is allocated anew.
///
/// Takes up to 128 bytes for each byte of the longest piece (a word, not the text), of which 64 KiB are merged at
/// once.
#[derive(Debug, Default)]
pub struct Scratch {
    symbols: Vec<Symbol>,
    /// Merges that were possible when they were found: (rank, place of the left symbol), the lowest first.
    queue: BinaryHeap<Reverse<(usize, usize)>>,
}

/// A token of the piece, linked to its neighbors.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    id: u32,
    previous: usize,
    next: usize,
    /// Rank of the merge with the next symbol; a queued merge of another rank is out of date.
    rank: usize,
}

impl Scratch {
    /// Empty memory; it grows to the longest piece met.
    pub fn new() -> Self {
        Self::default()
    }

    /// Merges the tokens `ids` of a piece's bytes and appends what is left to `out`.
    ///
    /// Always the merge of lowest rank comes next, of several the leftmost, as in the training of BPE. Each
    /// of the n - 1 possible merges queues two more at most: O(n log n). Returns how many were taken from the queue.
    pub(crate) fn merge(
        &mut self,
        merges: &Merges,
        ids: impl Iterator<Item = u32>,
        out: &mut Vec<u32>,
    ) -> usize {
        self.load(merges, ids);
        let mut steps = 0;
        while let Some(Reverse((rank, at))) = self.queue.pop() {
            steps += 1;
            if self.symbols[at].rank == rank {
                self.apply(merges, at);
            }
        }
        let mut at = if self.symbols.is_empty() { NONE } else { 0 };
        while at != NONE {
            out.push(self.symbols[at].id);
            at = self.symbols[at].next;
        }
        steps
    }

    /// Starts a piece: links its tokens and queues the merges that are possible now.
    fn load(&mut self, merges: &Merges, ids: impl Iterator<Item = u32>) {
        self.symbols.clear();
        self.queue.clear();
        for (at, id) in ids.enumerate() {
            self.symbols.push(Symbol {
                id,
                previous: at.wrapping_sub(1),
                next: at + 1,
                rank: NONE,
            });
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
        for at in 0..self.symbols.len() {
            self.queue_merge(merges, at);
        }
    }

    /// Queues the merge of the symbol at `at` with the next one, if there is such a merge.
    fn queue_merge(&mut self, merges: &Merges, at: usize) {
        let Symbol { id, next, .. } = self.symbols[at];
        let merge = if next == NONE { None } else { merges.find(id, self.symbols[next].id) };
        self.symbols[at].rank = merge.map_or(NONE, |merge| merge.rank as usize);
        if let Some(merge) = merge {
            self.queue.push(Reverse((merge.rank as usize, at)));
        }
    }

    /// Merges the symbol at `at` with the next one.
    fn apply(&mut self, merges: &Merges, at: usize) {
        let Symbol { id, previous, next, .. } = self.symbols[at];
        let right = self.symbols[next];
        let Some(merge) = merges.find(id, right.id) else {
            return;
        };
        self.symbols[next].rank = NONE;
        self.symbols[at] = Symbol { id: merge.id, previous, next: right.next, rank: NONE };
        if right.next != NONE {
            self.symbols[right.next].previous = at;
        }
        self.queue_merge(merges, at);
        if previous != NONE {
            self.queue_merge(merges, previous);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;
    use alloc::format;
    use alloc::string::String;

    use crate::Kind;
    use crate::tests::random;
    use crate::tokens::Tokens;

    fn read(tokens: &[String], merges: &[String]) -> Merges {
        let tokens =
            Tokens::read(tokens.iter().map(String::as_bytes), |_, _| Ok(Kind::Normal)).unwrap();
        Merges::read(merges.iter().map(String::as_bytes), &tokens).unwrap()
    }

    /// Tokens "a", "aa", "aaaa" … each made of two of the one before.
    fn doubling() -> Merges {
        let tokens: Vec<String> = (0..10).map(|power| "a".repeat(1 << power)).collect();
        let merges: Vec<String> =
            tokens[..9].iter().map(|token| format!("{token} {token}")).collect();
        read(&tokens, &merges)
    }

    #[test]
    fn a_long_word_takes_a_linear_number_of_steps() {
        let merges = doubling();
        let mut scratch = Scratch::new();
        for length in [0, 1, 2, 1000, 100_000] {
            let mut out = Vec::new();
            let steps = scratch.merge(&merges, core::iter::repeat_n(0, length), &mut out);
            assert!(steps <= 3 * length, "{steps} steps for {length} bytes");
            assert_eq!(out.iter().map(|&id| 1 << id).sum::<usize>(), length);
        }
    }

    /// Merging by the definition: look for the lowest rank, the leftmost of it, again and again.
    fn merge_naively(merges: &Merges, mut ids: Vec<u32>) -> Vec<u32> {
        loop {
            let ranked = ids.windows(2).enumerate();
            let found = ranked.filter_map(|(at, pair)| Some((merges.find(pair[0], pair[1])?, at)));
            let Some((merge, at)) = found.min_by_key(|&(merge, at)| (merge.rank, at)) else {
                return ids;
            };
            ids.splice(at..at + 2, [merge.id]);
        }
    }

    /// The letters a, b, c and 40 random merges of tokens of up to 6 letters.
    fn random_merges(random: &mut impl FnMut(usize) -> usize) -> Merges {
        let mut tokens: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let mut merges = Vec::new();
        while merges.len() < 40 {
            let (left, right) = (&tokens[random(tokens.len())], &tokens[random(tokens.len())]);
            let joined = format!("{left}{right}");
            if joined.len() <= 6 && !tokens.contains(&joined) {
                merges.push(format!("{left} {right}"));
                tokens.push(joined);
            }
        }
        // Shuffled, a longer merge may come before those it is made of.
        for at in (1..merges.len()).rev() {
            merges.swap(at, random(at + 1));
        }
        read(&tokens, &merges)
    }

    #[test]
    fn merging_equals_its_definition() {
        let mut random = random();
        let mut scratch = Scratch::new();
        for _ in 0..50 {
            let merges = random_merges(&mut random);
            for length in 0..60 {
                let ids: Vec<u32> = (0..length).map(|_| random(3) as u32).collect();
                let mut out = Vec::new();
                scratch.merge(&merges, ids.iter().copied(), &mut out);
                assert_eq!(out, merge_naively(&merges, ids));
            }
        }
    }
}
