//! How experts were found and read, in numbers.

use core::ops::AddAssign;

/// How experts were found and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertFigures {
    /// Experts that layers wanted, each once in a step.
    pub wanted: u64,
    /// Of these, experts that were in a slot, whole, when the router spoke.
    pub resident: u64,
    /// Reads of low-bit copies in place of experts.
    pub low_bit: u64,
    /// Reads that the router's choice started.
    pub router: Prefetch,
    /// Reads that a guess at the next layer's choice started.
    pub guess: Prefetch,
}

/// Experts that were read ahead of their use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefetch {
    /// Experts asked for.
    pub asked: u64,
    /// Experts that the layer wanted indeed.
    pub useful: u64,
    /// Of the useful ones, those that were not there when attention had ended.
    pub late: u64,
    /// Experts that the layer did not want.
    pub wasted: u64,
}

impl AddAssign for Prefetch {
    fn add_assign(&mut self, other: Prefetch) {
        self.asked += other.asked;
        self.useful += other.useful;
        self.late += other.late;
        self.wasted += other.wasted;
    }
}

impl AddAssign for ExpertFigures {
    fn add_assign(&mut self, other: ExpertFigures) {
        self.wanted += other.wanted;
        self.resident += other.resident;
        self.low_bit += other.low_bit;
        self.router += other.router;
        self.guess += other.guess;
    }
}
