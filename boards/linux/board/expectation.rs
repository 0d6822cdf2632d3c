//! How fast a model is expected to be on a board, and what bounds it.

use super::Board;
use std::fmt;

/// Of the speed at which memory is read by nothing but reading, what decoding reaches; measured on x86-64 only (`tests/bench`).
const OF_MEMORY: f64 = 0.8;
/// Of the bound that storage sets, what decoding reaches: 89 to 97 % on emulated devices (`tests/bench`).
const OF_STORAGE: f64 = 0.9;

/// What a decoded token takes, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Bytes of weights that it reads from memory, and multiplies.
    pub memory: f64,
    /// Bytes of experts that it reads from storage.
    pub storage: f64,
    /// Reads that these are.
    pub reads: f64,
}

/// How fast tokens are expected to be decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    /// Tokens per second.
    pub rate: f64,
    /// What bounds them.
    pub bound: Bound,
}

/// What bounds the speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// How fast memory is read.
    Memory,
    /// How fast processors multiply.
    Cores,
    /// How many bytes of storage are read in a second.
    Storage,
    /// How many reads of storage can be begun in a second.
    Reads,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Memory => "memory",
            Bound::Cores => "processors",
            Bound::Storage => "storage",
            Bound::Reads => "reads of storage",
        })
    }
}

/// How fast the parts of a machine are, at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    /// Bytes of memory that are read in a second.
    pub memory: f64,
    /// Bytes of weights that are multiplied in a second.
    pub products: f64,
    /// Bytes of storage that are read in a second.
    pub storage: f64,
    /// Reads of storage that are begun in a second.
    pub reads: f64,
}

impl Speeds {
    /// How fast tokens that take such `work` are expected to be decoded. Reading storage and computing go on side by side,
    /// so that the slower of them counts; so do reading memory and multiplying.
    pub fn expect(&self, work: Work) -> Expectation {
        let all = [
            (work.memory / (OF_MEMORY * self.memory), Bound::Memory),
            (work.memory / self.products, Bound::Cores),
            (work.storage / (OF_STORAGE * self.storage), Bound::Storage),
            (work.reads / (OF_STORAGE * self.reads), Bound::Reads),
        ];
        let slowest = all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        let (seconds, bound) = slowest.expect("there are four");
        Expectation { rate: 1.0 / seconds, bound }
    }
}

impl Board {
    /// Bytes of weights that its big cores multiply in a second.
    pub fn products(&self) -> f64 {
        let big = self.cores.iter().filter(|cores| cores.big);
        big.map(|c| f64::from(c.count) * c.mhz * 1e6 * c.bytes_per_cycle).sum()
    }

    /// How fast tokens that take such `work` are expected to be decoded on it.
    pub fn expect(&self, work: Work) -> Expectation {
        let (memory, storage) = (self.memory.reached, &self.storage);
        let (storage, reads) = (storage.bandwidth, storage.reads);
        Speeds { memory, products: self.products(), storage, reads }.expect(work)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Boards;
    use super::*;
    use std::path::Path;

    #[test]
    fn the_slowest_part_bounds() {
        let boards = Boards::read(Path::new("/nowhere")).unwrap();
        let board = boards.named("pi5").unwrap();
        let bound = |memory, storage, reads| board.expect(Work { memory, storage, reads }).bound;
        assert_eq!(bound(1e9, 0.0, 0.0), Bound::Memory);
        assert_eq!(bound(1e8, 1e8, 50.0), Bound::Storage);
        assert_eq!(bound(1e8, 1e6, 1e6), Bound::Reads);
        let mut slow = board.clone();
        slow.cores.iter_mut().for_each(|cores| cores.mhz = 100.0);
        let expected = slow.expect(Work { memory: 1e9, storage: 0.0, reads: 0.0 });
        assert_eq!(expected.bound, Bound::Cores);
        assert!((expected.rate - slow.products() / 1e9).abs() < 1e-9, "{expected:?}");
    }
}
