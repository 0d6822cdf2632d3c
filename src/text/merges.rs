//! Which pairs of tokens merge, in what order and into what.

use alloc::vec::Vec;

use crate::error::Error;
use crate::tokens::{Tokens, extend_decoded, reserve};

/// What the merge of a pair gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// The right token of the pair.
    right: u32,
    /// The merge's place in the file: the lowest is applied first.
    pub(crate) rank: u32,
    /// The token made.
    pub(crate) id: u32,
}

/// The merges in rows by left token, each row sorted by right token: a sparse matrix, 12 bytes an entry.
///
/// A hash table would answer a little sooner but take more room.
#[derive(Debug)]
pub(crate) struct Merges {
    /// Row `left` is `entries[starts[left]..starts[left + 1]]`.
    starts: Vec<u32>,
    entries: Vec<Merge>,
}

impl Merges {
    /// Reads stored merges, "left right", whose parts and results are all tokens.
    pub(crate) fn read<'a>(
        stored: impl Iterator<Item = &'a [u8]> + Clone,
        tokens: &Tokens,
    ) -> Result<Self, Error> {
        let mut pairs: Vec<(u32, Merge)> = reserve(stored.clone().count())?;
        let mut joined = Vec::new();
        for (index, merge) in stored.enumerate() {
            let rank =
                u32::try_from(index).map_err(|_| Error::TooLarge { tokens: tokens.len() })?;
            pairs.push(read_merge(merge, rank, tokens, &mut joined)?);
        }
        pairs.sort_unstable_by_key(|&(left, merge)| (left, merge.right, merge.rank));
        let same =
            |pair: &&[(u32, Merge)]| (pair[0].0, pair[0].1.right) == (pair[1].0, pair[1].1.right);
        if let Some(pair) = pairs.windows(2).find(same) {
            return Err(Error::RepeatedMerge {
                merge: pair[1].1.rank as usize,
                first: pair[0].1.rank as usize,
            });
        }
        Self::from_sorted(&pairs, tokens.len())
    }

    fn from_sorted(pairs: &[(u32, Merge)], tokens: usize) -> Result<Self, Error> {
        let mut starts: Vec<u32> = reserve(tokens + 1)?;
        let mut entries = reserve(pairs.len())?;
        for &(left, merge) in pairs {
            starts.resize(left as usize + 1, entries.len() as u32);
            entries.push(merge);
        }
        starts.resize(tokens + 1, entries.len() as u32);
        Ok(Merges { starts, entries })
    }

    /// The merge of `left` and `right`, both token ids, where there is one.
    pub(crate) fn find(&self, left: u32, right: u32) -> Option<Merge> {
        let left = left as usize;
        let row = &self.entries[self.starts[left] as usize..self.starts[left + 1] as usize];
        let at = row.binary_search_by_key(&right, |merge| merge.right).ok()?;
        Some(row[at])
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        4 * self.starts.capacity() + size_of::<Merge>() * self.entries.capacity()
    }
}

/// One stored merge as its left token and the rest; `joined` is scratch.
fn read_merge(
    stored: &[u8],
    rank: u32,
    tokens: &Tokens,
    joined: &mut Vec<u8>,
) -> Result<(u32, Merge), Error> {
    let merge = rank as usize;
    let malformed = Error::MergeForm { merge };
    let text = core::str::from_utf8(stored).map_err(|_| malformed)?;
    let (left, right) = text.split_once(' ').ok_or(malformed)?;
    joined.clear();
    extend_decoded(joined, left).map_err(|_| malformed)?;
    let middle = joined.len();
    extend_decoded(joined, right).map_err(|_| malformed)?;
    if middle == 0 || middle == joined.len() {
        return Err(malformed);
    }
    let find = |bytes, part| tokens.find(bytes).ok_or(Error::MergeToken { merge, part });
    let left = find(&joined[..middle], "left part")?;
    let right = find(&joined[middle..], "right part")?;
    let id = find(joined, "result")?;
    Ok((left, Merge { right, rank, id }))
}
