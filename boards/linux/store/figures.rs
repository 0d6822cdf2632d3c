//! What a store has read, and how long it was waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a store has read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Matrices read.
    pub reads: u64,
    /// Bytes read, those of whole blocks around the matrices included.
    pub bytes: u64,
    /// Reads made again.
    pub retries: u64,
    /// Time that was spent waiting for reads, doing nothing else.
    pub stall: Duration,
    /// Time during which reads were on their way. An end counts from when it is taken note of.
    pub busy: Duration,
}

impl StoreFigures {
    /// What came after `before`.
    pub fn since(&self, before: &StoreFigures) -> StoreFigures {
        StoreFigures {
            reads: self.reads - before.reads,
            bytes: self.bytes - before.bytes,
            retries: self.retries - before.retries,
            stall: self.stall.saturating_sub(before.stall),
            busy: self.busy.saturating_sub(before.busy),
        }
    }
}

/// A look at the figures of a store that somebody else has.
#[derive(Clone, Debug, Default)]
pub struct StoreCounters {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    reads: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
    /// Nanoseconds.
    stall: AtomicU64,
    /// Nanoseconds.
    busy: AtomicU64,
}

impl StoreCounters {
    /// The figures of now.
    pub fn figures(&self) -> StoreFigures {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { reads, bytes, retries, stall, busy } = &*self.counters;
        StoreFigures {
            reads: value(reads),
            bytes: value(bytes),
            retries: value(retries),
            stall: Duration::from_nanos(value(stall)),
            busy: Duration::from_nanos(value(busy)),
        }
    }

    pub(super) fn add_read(&self, bytes: usize) {
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn set_retries(&self, retries: u64) {
        self.counters.retries.store(retries, Ordering::Relaxed);
    }

    pub(super) fn add_stall(&self, time: Duration) {
        self.counters.stall.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(super) fn add_busy(&self, time: Duration) {
        self.counters.busy.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }
}
