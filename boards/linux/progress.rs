//! Whether anything goes on, for a watchdog: steps of a model take too long on slow boards to wait for their end.

use std::sync::atomic::{AtomicU64, Ordering};

/// Parts of work that were done so far.
static DONE: AtomicU64 = AtomicU64::new(0);

/// Something was done: a part of a layer, a read, or a look whether there is anything to do.
pub fn advance() {
    DONE.fetch_add(1, Ordering::Relaxed);
}

/// A number that changes as long as anything goes on.
pub fn progress() -> u64 {
    DONE.load(Ordering::Relaxed)
}
