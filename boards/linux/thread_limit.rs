//! How many of a pool's threads compute at the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most threads of a pool that compute, which may change while they do: a hot board takes fewer. Results are the same.
#[derive(Clone, Debug)]
pub struct ThreadLimit(Arc<AtomicUsize>);

impl Default for ThreadLimit {
    /// All of them.
    fn default() -> ThreadLimit {
        ThreadLimit(Arc::new(AtomicUsize::new(usize::MAX)))
    }
}

impl ThreadLimit {
    /// Lets so many threads compute from the next round on; one always does.
    pub fn set(&self, threads: usize) {
        self.0.store(threads.max(1), Ordering::Relaxed);
    }

    /// How many may.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
