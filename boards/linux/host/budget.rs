//! How much memory a model may take.

use crate::{LimitSource, Mib, memory_limit, resident_anonymous};
use std::fmt;
use wick_core::Plan;

/// The memory that a model may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that the whole process may take.
    pub whole: usize,
    /// Bytes that it has taken already, its files' pages aside, or promised.
    pub taken: usize,
    /// Who set the limit.
    pub source: Source,
}

/// Who sets a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The user.
    Option,
    /// The machine or a control group.
    System(LimitSource),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Option => f.write_str("--memory"),
            Source::System(source) => source.fmt(f),
        }
    }
}

/// Bytes that are kept free of any budget: for the program's own pages, stacks, buffers of reads, what the
/// allocator holds back.
const KEPT_FREE: usize = 14 << 20;
/// Of these, bytes that a process may have more before another model than before its first.
const HELD_BACK: usize = 4 << 20;
/// Of a budget, one byte in so many is kept free for what the system counts on top, such as page
/// tables; but no more than [`MOST_ON_TOP`].
const ON_TOP: usize = 64;
const MOST_ON_TOP: usize = 64 << 20;
/// Bytes that a process may have more at the same point than another one did: what one is told to be enough must be so for the
/// next.
pub(super) const VARIES: usize = 256 << 10;

impl Budget {
    /// What a model may take of this process: the user's limit if there is one, or else what the machine
    /// and the control group leave. `None` if nobody knows.
    pub fn of_process(limit: Option<usize>) -> Option<Budget> {
        let taken = resident_anonymous().unwrap_or(0) as usize;
        if let Some(whole) = limit {
            return Some(Budget { whole, taken, source: Source::Option });
        }
        // What is left to the process does not count what it has.
        let limit = memory_limit()?;
        let whole = (limit.bytes as usize).saturating_add(taken);
        Some(Budget { whole, taken, source: Source::System(limit.source) })
    }

    /// The same for a process that had `first` bytes before its first model: a little more than that by now is of what is kept
    /// free, such as what the allocator holds back, so that a model which had room once has room again.
    pub fn again(self, first: Option<usize>) -> Budget {
        let is_little = |first: &usize| self.taken.saturating_sub(*first) <= HELD_BACK;
        let taken = first.filter(is_little).map_or(self.taken, |first| first.min(self.taken));
        Budget { taken, ..self }
    }

    /// The same, with so many bytes promised to something else in the process.
    pub fn beside(self, bytes: usize) -> Budget {
        Budget { taken: self.taken + bytes, ..self }
    }

    /// Bytes that are kept free.
    pub fn margin(&self) -> usize {
        KEPT_FREE + (self.whole / ON_TOP).min(MOST_ON_TOP)
    }

    /// Bytes that are left for the model.
    pub fn bytes(&self) -> usize {
        self.whole.saturating_sub(self.taken + self.margin())
    }

    /// What is too little for a model that takes at least `least`, and `buffers` for reads.
    pub fn shortage(&self, least: Plan, buffers: usize, context: usize) -> Shortage {
        let footprint = Footprint::new(&least, self.taken + VARIES, buffers);
        Shortage { budget: *self, least, context, footprint }
    }
}

/// What the whole process takes: the least budget that a plan fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of all that is no part of the plan, what is kept free included.
    pub program: usize,
    /// Bytes of both.
    pub total: usize,
}

impl Footprint {
    /// Of a process that has `taken` so many bytes already, and is to have a model and buffers for reads.
    pub(super) fn new(plan: &Plan, taken: usize, buffers: usize) -> Footprint {
        let program = taken + KEPT_FREE + buffers;
        let needed = plan.total() + program;
        // The margin is a share of the whole.
        let on_top = (needed / (ON_TOP - 1) + 1).min(MOST_ON_TOP);
        Footprint { program: program + on_top, total: needed + on_top }
    }
}

/// A budget that is too small for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What there is.
    pub budget: Budget,
    /// The least that the model takes.
    pub least: Plan,
    /// Positions that it was to have.
    pub context: usize,
    /// What the process would take with that: its total is the least budget that would do.
    pub footprint: Footprint,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortage { budget, least, context, footprint: Footprint { program, total } } = self;
        write!(
            f,
            "{} is {}, but {} ({}K) is the least that would do: weights {}, KV cache for a context of \
             {context} {}, scratch {}, expert slots {}, the program {}; allow more memory or ask for a \
             smaller --context",
            budget.source,
            Mib(budget.whole),
            Mib(*total),
            total.div_ceil(1024),
            Mib(least.weights),
            Mib(least.kv),
            Mib(least.scratch + least.sampler),
            Mib(least.slots),
            Mib(*program),
        )
    }
}
