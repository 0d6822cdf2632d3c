//! The processor's cores as threads of the forward pass: all wait at a barrier, do the work and meet
//! again.

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::RelaxStrategy;
use spin::barrier::Barrier;
use wick_core::Parallel;

type Work = dyn Fn() + Sync;

/// Cores that work together: the one that calls [`Parallel::run`] and those that [`Cores::serve`]. `R` is
/// what a core does while it waits. Work must not unwind: a panic has to end the program.
pub struct Cores<R> {
    count: usize,
    /// All cores meet here before a round and after it.
    meeting: Barrier<R>,
    /// The work of the round.
    work: UnsafeCell<Option<*const Work>>,
    /// Some core is inside `run`.
    busy: AtomicBool,
}

// SAFETY: `work` is written only by the core that holds `busy`, while all others wait for the round to
// begin, and read by them only within the round.
unsafe impl<R: Sync> Sync for Cores<R> {}
// SAFETY: the pointer in `work` is used only within the round that its closure outlives.
unsafe impl<R: Send> Send for Cores<R> {}

impl<R: RelaxStrategy> Cores<R> {
    /// `count` cores, of which all but one must come to serve before the first round ends.
    pub const fn new(count: usize) -> Cores<R> {
        let meeting = Barrier::new(count);
        Cores { count, meeting, work: UnsafeCell::new(None), busy: AtomicBool::new(false) }
    }

    /// Takes part in one round.
    pub fn serve(&self) {
        self.meeting.wait();
        // SAFETY: this core is inside a round: its work was written before the meeting, and `run` does
        // not return before the next.
        let work = unsafe { (*self.work.get()).map(|work| &*work) };
        if let Some(work) = work {
            work();
        }
        self.meeting.wait();
    }
}

impl<R: RelaxStrategy + Sync> Parallel for Cores<R> {
    fn threads(&self) -> usize {
        self.count
    }

    fn run(&self, work: &(dyn Fn() + Sync)) {
        if self.count == 1 || self.busy.swap(true, Ordering::Acquire) {
            return work();
        }
        // SAFETY: only the lifetime changes; the round ends before this call does.
        let pointer =
            unsafe { core::mem::transmute::<*const (dyn Fn() + Sync + '_), *const Work>(work) };
        // SAFETY: `busy` was free and is now ours, and every other core waits to meet.
        unsafe { *self.work.get() = Some(pointer) };
        self.meeting.wait();
        work();
        self.meeting.wait();
        self.busy.store(false, Ordering::Release);
    }
}

impl<R> fmt::Debug for Cores<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cores").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;
    use std::thread;

    struct Patient;

    impl RelaxStrategy for Patient {
        fn relax() {
            thread::yield_now();
        }
    }

    #[test]
    fn every_core_works_once_in_a_round() {
        const ROUNDS: usize = 200;
        for count in [1, 2, 4] {
            let cores = Cores::<Patient>::new(count);
            thread::scope(|scope| {
                for _ in 1..count {
                    scope.spawn(|| (0..ROUNDS).for_each(|_| cores.serve()));
                }
                for _ in 0..ROUNDS {
                    let calls = AtomicUsize::new(0);
                    cores.run(&|| _ = calls.fetch_add(1, Ordering::Relaxed));
                    assert_eq!(calls.into_inner(), count);
                }
            });
        }
    }

    #[test]
    fn a_round_within_a_round_is_done_alone() {
        let cores = Cores::<Patient>::new(2);
        let (outer, inner) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| cores.serve());
            cores.run(&|| {
                outer.fetch_add(1, Ordering::Relaxed);
                cores.run(&|| _ = inner.fetch_add(1, Ordering::Relaxed));
            });
        });
        assert_eq!((outer.into_inner(), inner.into_inner()), (2, 2));
    }
}
