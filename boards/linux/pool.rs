//! A fixed pool of threads that wait spinning for a short while, then sleep.

use crate::cpu::{Cpus, pin};
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use wick_core::Parallel;

/// Turns that a waiting thread spins before it gives its processor up: some tens of microseconds,
/// more than a layer leaves between two parallel parts.
const SPINS: usize = 10_000;

/// A pool of threads, each bound to a processor of its own where there are enough.
///
/// The thread that calls [`Parallel::run`] is one of them; it is bound by [`Pool::pin_caller`].
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    caller_cpu: Option<usize>,
}

type Work = dyn Fn() + Sync;

struct Shared {
    /// Work of the present round; valid while `running` is not 0.
    work: UnsafeCell<Option<*const Work>>,
    /// Number of the present round.
    round: AtomicUsize,
    /// Workers that have not finished the present round.
    running: AtomicUsize,
    /// Some thread is inside `run`.
    busy: AtomicBool,
    /// A worker's work panicked.
    panicked: AtomicBool,
    /// The pool is going away.
    stop: AtomicBool,
}

// SAFETY: `work` is written only by the one thread that holds `busy`, while no worker runs, and
// read by workers only after they have seen the new `round`, which is published after the write.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `work` is to a `Sync` closure that outlives the round it is used in.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("round", &self.round).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller's own included, bound to the most capable of
    /// `cpus`, or to none if there are more threads than processors. Threads that the system
    /// refuses are done without.
    pub fn new(threads: usize, cpus: &Cpus) -> Pool {
        let shared = Arc::new(Shared {
            work: UnsafeCell::new(None),
            round: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let cpu = |i: usize| (threads <= cpus.numbers.len()).then(|| cpus.numbers[i]);
        let spawn = |i: usize| {
            let (shared, cpu) = (Arc::clone(&shared), cpu(i));
            let body = move || {
                if let Some(cpu) = cpu {
                    pin(cpu);
                }
                shared.serve();
            };
            let worker = thread::Builder::new().name(format!("wick-{i}")).spawn(body);
            worker.inspect_err(|e| log::warn!("thread {i} of {threads}: {e}")).ok()
        };
        let workers = (1..threads).map_while(spawn).collect();
        Pool { shared, workers, caller_cpu: cpu(0) }
    }

    /// Binds the calling thread, which is to be the one that calls [`Parallel::run`].
    pub fn pin_caller(&self) {
        if let Some(cpu) = self.caller_cpu {
            pin(cpu);
        }
    }
}

impl Shared {
    /// A worker's life: wait for a round, do its work, say so.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            seen = self.wait(seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            // SAFETY: the round was published after its work was written, and the work outlives
            // the round, which lasts until this worker has counted itself out of `running`.
            let work = unsafe { &*(*self.work.get()).expect("a round has work") };
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.running.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for a round other than `seen`.
    fn wait(&self, seen: usize) -> usize {
        for turn in 0.. {
            let round = self.round.load(Ordering::Acquire);
            if round != seen {
                return round;
            }
            if turn < SPINS { spin_loop() } else { thread::park() }
        }
        unreachable!("the loop ends only by returning")
    }
}

/// Ends a round: waits for the workers even when the caller's own work panics, since they use what
/// the caller has borrowed.
struct Round<'a>(&'a Shared);

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let mut turn = 0;
        while self.0.running.load(Ordering::Acquire) > 0 {
            turn += 1;
            if turn < SPINS { spin_loop() } else { thread::yield_now() }
        }
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Parallel for Pool {
    fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// # Panics
    /// If the work panics, on any thread.
    fn run(&self, work: &(dyn Fn() + Sync)) {
        let shared = &*self.shared;
        if self.workers.is_empty() || shared.busy.swap(true, Ordering::Acquire) {
            return work();
        }
        // SAFETY: only the lifetime changes. `Round` keeps this call from returning, even by a
        // panic, before every worker is done with the pointer.
        let pointer =
            unsafe { std::mem::transmute::<*const (dyn Fn() + Sync + '_), *const Work>(work) };
        // SAFETY: `busy` was free and is now ours, and no worker runs: nobody else has access.
        unsafe { *shared.work.get() = Some(pointer) };
        shared.running.store(self.workers.len(), Ordering::Relaxed);
        let round = Round(shared);
        shared.round.fetch_add(1, Ordering::Release);
        self.workers.iter().for_each(|worker| worker.thread().unpark());
        work();
        drop(round);
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a worker thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.round.fetch_add(1, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // Workers catch panics of their work, so there is nothing to hand on.
            let _ended = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    fn pool(threads: usize) -> Pool {
        Pool::new(threads, &Cpus::detect())
    }

    #[test]
    fn every_thread_works_once_a_round() {
        for threads in [1, 2, 5] {
            let pool = pool(threads);
            let calls = AtomicU64::new(0);
            for round in 1..=200u64 {
                pool.run(&|| {
                    calls.fetch_add(1, Ordering::Relaxed);
                });
                assert_eq!(calls.load(Ordering::Relaxed), round * threads as u64);
            }
        }
    }

    #[test]
    fn sleepers_wake() {
        let pool = pool(3);
        let calls = AtomicU64::new(0);
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(30));
            pool.run(&|| {
                calls.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(calls.into_inner(), 9);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives() {
        let pool = pool(2);
        let caller = thread::current().id();
        for on_caller in [true, false] {
            let work = || assert!((thread::current().id() == caller) != on_caller);
            assert!(catch_unwind(AssertUnwindSafe(|| pool.run(&work))).is_err());
        }
        pool.run(&|| ());
    }

    #[test]
    fn a_second_caller_works_alone() {
        let pool = pool(2);
        let inner = AtomicU64::new(0);
        pool.run(&|| {
            pool.run(&|| {
                inner.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(inner.into_inner(), 2);
    }
}
