//! What an engine is to have of this machine.

use crate::Cpus;
use crate::ThreadLimit;
use crate::host::budget::Budget;
use crate::reads::{Device, Reading};
use std::fmt;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;
use wick_core::{Config, HeadRows, KvFormat, Options};

/// Tokens that go through a model together while a prompt is read, if all experts stand in memory.
pub const BATCH: usize = 64;

/// What an engine is to have of this machine; by default what suits it.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Threads that compute; by default one for each big core, within the control group's quota.
    pub threads: Option<NonZeroUsize>,
    /// How many of them compute at the moment.
    pub thread_limit: ThreadLimit,
    /// Bytes that the whole process may take; by default what the machine and the control group leave.
    pub memory: Option<usize>,
    /// Bytes of it that something beside the engine will take.
    pub beside: usize,
    /// Bytes that the process had before its first model, if this is another one.
    pub first_taken: Option<usize>,
    /// Tokens of the prompt that is read first, if that is known: before a short one, weights are not
    /// arranged yet ([`Engine::arrange`](wick_core::Engine::arrange)).
    pub prompt: Option<usize>,
    /// Reads that the device is given at once; by default more than any device of a board takes.
    pub depth: Option<NonZeroUsize>,
    /// How long no read may end before those on their way count as lost; by default
    /// [`TIME_LIMIT`](wick_core::TIME_LIMIT).
    pub read_timeout: Option<Duration>,
    /// A device as slowly as which experts are read.
    pub emulate: Option<Device>,
    /// Whether low-bit copies of experts are to be at hand.
    pub low_bit: bool,
    /// Told how far arranging the weights is.
    pub loading: LoadProgress,
}

/// Somebody who is told how many of how many parts of a model are arranged.
#[derive(Clone, Default)]
pub struct LoadProgress(Option<Rc<dyn Fn(usize, usize)>>);

impl LoadProgress {
    /// Calls `told` with the number of parts that are arranged, and of all.
    pub fn telling(told: impl Fn(usize, usize) + 'static) -> LoadProgress {
        LoadProgress(Some(Rc::new(told)))
    }

    pub(super) fn tell(&self, done: usize, all: usize) {
        self.0.iter().for_each(|told| told(done, all));
    }
}

impl fmt::Debug for LoadProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoadProgress")
    }
}

impl Setup {
    /// How many threads compute, of those that `cpus` has room for.
    pub fn thread_count(&self, cpus: &Cpus) -> usize {
        self.threads.map_or(cpus.threads(), NonZeroUsize::get)
    }

    /// What a model may take now; `None` if nobody knows.
    pub fn budget(&self) -> Option<Budget> {
        Some(Budget::of_process(self.memory)?.again(self.first_taken).beside(self.beside))
    }

    /// How experts are read.
    pub(super) fn reading(&self) -> Reading {
        let reading = Reading::default();
        let depth = self.depth.map_or(reading.depth, NonZeroUsize::get);
        let time_limit = self.read_timeout.unwrap_or(reading.time_limit);
        Reading { depth, time_limit, ..reading }
    }
}

/// Room for one sequence of `context` positions; where nothing is asked for, 4096 or what the model was
/// made for, whichever is less.
pub fn one_sequence(config: &Config, context: Option<usize>) -> Options {
    let context = context.unwrap_or_else(|| 4096.min(config.context));
    let (head_rows, kv) = (HeadRows::Exact, KvFormat::F16);
    Options { context, sequences: 1, batch: BATCH.min(context), logits: 1, head_rows, kv }
}
