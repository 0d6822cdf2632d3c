//! Which bytes of a file are there.

use std::fmt;
use std::ops::Range;

/// Ranges of bytes in order, none of which touches another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds bytes, which may be there already.
    pub(crate) fn add(&mut self, mut new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        self.0.retain(|old| {
            let touches = old.start <= new.end && new.start <= old.end;
            if touches {
                new = old.start.min(new.start)..old.end.max(new.end);
            }
            !touches
        });
        let at = self.0.partition_point(|old| old.start < new.start);
        self.0.insert(at, new);
    }

    /// What is not there of so many bytes, in pieces of at most `most`.
    pub(crate) fn missing(&self, size: u64, most: u64) -> Vec<Range<u64>> {
        let ends = self.0.iter().map(|range| range.end);
        let starts = self.0.iter().map(|range| range.start).chain([size]);
        let gaps = [0].into_iter().chain(ends).zip(starts);
        gaps.flat_map(|(start, end)| pieces(start..end.min(size), most)).collect()
    }

    /// How many bytes are there.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// How many bytes are there from the first one on.
    pub(crate) fn prefix(&self) -> u64 {
        self.0.first().filter(|range| range.start == 0).map_or(0, |range| range.end)
    }

    /// Reads what was shown; `None` if it is nothing of the kind.
    pub(crate) fn parse(text: &str) -> Option<Ranges> {
        let mut ranges = Ranges::default();
        for line in text.lines() {
            let (start, end) = line.split_once('-')?;
            let range = start.parse().ok()?..end.parse().ok()?;
            if range.is_empty() {
                return None;
            }
            ranges.add(range);
        }
        Some(ranges)
    }

    /// Only what is below `size`.
    pub(crate) fn below(&self, size: u64) -> Ranges {
        let mut below = Ranges::default();
        self.0.iter().for_each(|range| below.add(range.start..range.end.min(size)));
        below
    }
}

fn pieces(range: Range<u64>, most: u64) -> impl Iterator<Item = Range<u64>> {
    let most = most.max(1);
    let count = range.end.saturating_sub(range.start).div_ceil(most);
    (0..count).map(move |i| {
        let start = range.start + i * most;
        start..range.end.min(start + most)
    })
}

/// A line for each, from the first byte to that after the last.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|range| writeln!(f, "{}-{}", range.start, range.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(all: &[Range<u64>]) -> Ranges {
        let mut ranges = Ranges::default();
        all.iter().for_each(|range| ranges.add(range.clone()));
        ranges
    }

    #[test]
    fn ranges_grow_together() {
        let some = ranges(&[10..20, 30..40, 0..5, 20..25, 7..7]);
        assert_eq!(some.0, [0..5, 10..25, 30..40]);
        assert_eq!((some.total(), some.prefix()), (30, 5));
        assert_eq!(some.missing(50, 100), [5..10, 25..30, 40..50]);
        assert_eq!(some.missing(50, 4), [5..9, 9..10, 25..29, 29..30, 40..44, 44..48, 48..50]);
        assert_eq!(some.missing(35, 100), [5..10, 25..30]);
        assert_eq!(ranges(&[0..50, 3..4]).missing(50, 9), []);
        assert_eq!(Ranges::default().missing(0, 9), []);
        assert_eq!(Ranges::parse(&some.to_string()), Some(some.clone()));
        assert_eq!(some.below(12).0, [0..5, 10..12]);
        for wrong in ["x", "5-3\n", "1-1", "-1-2", "1"] {
            assert_eq!(Ranges::parse(wrong), None, "{wrong}");
        }
    }

    /// Whatever the order, the same as marking bytes one by one.
    #[test]
    fn ranges_are_sets_of_bytes() {
        let (mut state, mut bytes, mut some) = (1u64, [false; 64], Ranges::default());
        for _ in 0..200 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (start, length) = ((state >> 33) % 60, (state >> 50) % 4);
            some.add(start..start + length);
            bytes[start as usize..(start + length) as usize].fill(true);
            let found: Vec<u64> = some.missing(64, 3).into_iter().flatten().collect();
            let expected: Vec<u64> = (0..64).filter(|i| !bytes[*i as usize]).collect();
            assert_eq!(found, expected);
        }
    }
}
