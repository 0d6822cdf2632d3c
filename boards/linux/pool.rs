//! A fixed pool of threads that wait spinning for a short while, then sleep.
//!
//! A round of work belongs to the thread that calls [`Parallel::run`]; workers join it while it is
//! open. A worker that sleeps, or that the system has put aside for another process, is not waited
//! for: the caller goes on with the work and the worker comes too late, which costs nothing.

use crate::cpu::{Cpus, pin};
use crate::progress::advance;
use crate::thread::spawn;
use crate::thread_limit::ThreadLimit;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use wick_core::Parallel;

/// Turns that a waiting thread spins before it gives its processor up: some tens of microseconds,
/// more than a layer leaves between two parallel parts.
const SPINS: usize = 2_000;

/// Bytes of a thread's stack.
const STACK: usize = 128 << 10;

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

/// [`Shared::state`]: workers inside the round.
const INSIDE: u64 = (1 << 16) - 1;
/// [`Shared::state`]: whether workers may enter.
const OPEN: u64 = 1 << 16;
/// [`Shared::state`]: from one round to the next.
const ROUND: u64 = 1 << 17;

struct Shared {
    /// The work of the round; valid while the round is open or a worker is inside.
    work: UnsafeCell<Option<*const Work>>,
    /// Number of the round, whether it is open, and how many workers are inside.
    state: AtomicU64,
    /// Turns to spin; none where threads have to share processors.
    spins: usize,
    /// Some thread is inside `run`.
    busy: AtomicBool,
    /// A worker's work panicked.
    panicked: AtomicBool,
    /// The pool is going away.
    stop: AtomicBool,
    /// How many threads compute.
    limit: ThreadLimit,
}

// SAFETY: `work` is written only by the one thread that holds `busy`, while the round is closed and
// nobody is inside, and read only by workers inside an open round, who came in after the write.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `work` is to a `Sync` closure that outlives the round it is used in.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller's own included, bound to the most capable of
    /// `cpus`, or to none if there are more threads than processors. Threads that the system
    /// refuses are done without.
    pub fn new(threads: usize, cpus: &Cpus) -> Pool {
        Pool::with_limit(threads, cpus, ThreadLimit::default())
    }

    /// The same, of which no more threads compute than `limit` says at the moment; the others sleep.
    pub fn with_limit(threads: usize, cpus: &Cpus, limit: ThreadLimit) -> Pool {
        let enough = threads <= cpus.numbers.len();
        let shared = Arc::new(Shared {
            work: UnsafeCell::new(None),
            state: AtomicU64::new(0),
            spins: if enough { SPINS } else { 0 },
            busy: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            limit,
        });
        let cpu = |i: usize| cpus.numbers.get(i).copied().filter(|_| enough);
        let worker = |i: usize| {
            let (shared, cpu) = (Arc::clone(&shared), cpu(i));
            let body = move || {
                if let Some(cpu) = cpu {
                    pin(cpu);
                }
                shared.serve(i);
            };
            let worker = spawn(&format!("wick-{i}"), STACK, body);
            let tell =
                |error| log::warn!("{i} of {threads} threads compute, more are refused: {error}");
            worker.map_err(tell).ok()
        };
        let workers = (1..threads.min(INSIDE as usize)).map_while(worker).collect();
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
    /// The life of the worker of a number, from 1: wait for a round, help with its work.
    fn serve(&self, worker: usize) {
        let mut seen = 0;
        while !self.stop.load(Ordering::Acquire) {
            if worker >= self.limit.get() {
                thread::park();
                continue;
            }
            seen = self.wait(seen);
            // The limit is looked at again: it was set before the round was opened.
            if worker >= self.limit.get() || !self.enter(seen) {
                continue;
            }
            // SAFETY: this worker is inside an open round, whose work outlives it: see `Round`.
            let work = unsafe { &*(*self.work.get()).expect("a round has work") };
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for a round after `seen` and returns its number.
    fn wait(&self, seen: u64) -> u64 {
        for turn in 0.. {
            let round = self.state.load(Ordering::Acquire) / ROUND;
            if round != seen {
                return round;
            }
            if turn < self.spins { spin_loop() } else { thread::park() }
        }
        unreachable!("the loop ends only by returning")
    }

    /// Goes inside a round, unless it is closed or over.
    fn enter(&self, round: u64) -> bool {
        let inside =
            |state: u64| (state / ROUND == round && state & OPEN != 0).then_some(state + 1);
        self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, inside).is_ok()
    }
}

/// Ends a round: closes it and waits for the workers inside, even when the caller's own work
/// panics, since they use what the caller has borrowed.
struct Round<'a>(&'a Shared);

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let mut inside = self.0.state.fetch_and(!OPEN, Ordering::Acquire) & INSIDE;
        let mut turn = 0;
        while inside > 0 {
            if turn < self.0.spins {
                spin_loop()
            } else {
                thread::yield_now()
            }
            turn += 1;
            inside = self.0.state.load(Ordering::Acquire) & INSIDE;
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
        advance();
        let shared = &*self.shared;
        let helpers = self.workers.len().min(shared.limit.get() - 1);
        if helpers == 0 || shared.busy.swap(true, Ordering::Acquire) {
            return work();
        }
        // SAFETY: only the lifetime changes. `Round` keeps this call from returning, even by a
        // panic, before the round is closed and every worker has left it.
        let pointer =
            unsafe { std::mem::transmute::<*const (dyn Fn() + Sync + '_), *const Work>(work) };
        // SAFETY: `busy` was free and is now ours, and the last round is over: nobody else has
        // access.
        unsafe { *shared.work.get() = Some(pointer) };
        shared.panicked.store(false, Ordering::Relaxed);
        let round = Round(shared);
        shared.state.fetch_add(ROUND + OPEN, Ordering::Release);
        self.workers[..helpers].iter().for_each(|worker| worker.thread().unpark());
        work();
        drop(round);
        assert!(!shared.panicked.load(Ordering::Relaxed), "a worker thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.state.fetch_add(ROUND, Ordering::Release);
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
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};
    use wick_core::{Bands, Grid};

    fn pool(threads: usize) -> Pool {
        Pool::new(threads, &Cpus::detect())
    }

    /// Work that lasts until `count` threads have been inside together, or too long.
    fn meet(pool: &Pool, count: usize) -> bool {
        let inside = AtomicUsize::new(0);
        let end = Instant::now() + Duration::from_secs(60);
        pool.run(&|| {
            inside.fetch_add(1, Ordering::SeqCst);
            while inside.load(Ordering::SeqCst) < count && Instant::now() < end {
                thread::yield_now();
            }
        });
        inside.into_inner() == count
    }

    #[test]
    fn every_thread_can_join() {
        for threads in [1, 2, 5] {
            let pool = pool(threads);
            for round in 0..20 {
                assert!(meet(&pool, threads), "round {round} of {threads} threads");
            }
        }
    }

    #[test]
    fn sleepers_wake() {
        let pool = pool(3);
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(30));
            assert!(meet(&pool, 3));
        }
    }

    #[test]
    fn no_more_threads_compute_than_may() {
        let limit = ThreadLimit::default();
        let pool = Pool::with_limit(4, &Cpus::detect(), limit.clone());
        for may in [4, 2, 1, 3, 0, 4] {
            limit.set(may);
            let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            pool.run(&|| {
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(50));
            });
            assert!(most.into_inner() <= may.max(1), "{may}");
            assert!(meet(&pool, may.max(1)), "{may}");
        }
        assert_eq!(pool.threads(), 4);
    }

    #[test]
    fn nobody_is_inside_after_a_round() {
        let pool = pool(4);
        for _ in 0..2000 {
            let inside = AtomicUsize::new(0);
            pool.run(&|| {
                inside.fetch_add(1, Ordering::SeqCst);
                inside.fetch_sub(1, Ordering::SeqCst);
            });
            assert_eq!(inside.into_inner(), 0);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives() {
        let pool = pool(2);
        let caller = thread::current().id();
        for (caller_panics, worker_panics) in [(true, false), (false, true), (true, true)] {
            let both = std::sync::Barrier::new(2);
            let work = || {
                both.wait();
                let on_caller = thread::current().id() == caller;
                assert!(!if on_caller { caller_panics } else { worker_panics });
            };
            assert!(catch_unwind(AssertUnwindSafe(|| pool.run(&work))).is_err());
            assert!(meet(&pool, 2));
        }
    }

    #[test]
    fn a_second_caller_works_alone() {
        let pool = pool(2);
        let (outer, inner) = (AtomicUsize::new(0), AtomicUsize::new(0));
        pool.run(&|| {
            outer.fetch_add(1, Ordering::SeqCst);
            pool.run(&|| {
                inner.fetch_add(1, Ordering::SeqCst);
            });
        });
        assert_eq!(inner.into_inner(), outer.into_inner());
    }

    /// As on a big and a little core: a thread that is eight times slower takes a ninth of the work.
    #[test]
    fn shares_follow_speed() {
        let (tiles, pool) = (40, pool(2));
        let mut data = vec![0.0; tiles];
        let (caller, by_caller) = (thread::current().id(), AtomicUsize::new(0));
        Grid::new(&mut data, tiles, tiles).for_each_tile(&pool, Bands::One, 1, |_| {
            let is_slow = thread::current().id() == caller;
            by_caller.fetch_add(usize::from(is_slow), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(if is_slow { 40 } else { 5 }));
        });
        let share = by_caller.into_inner();
        assert!((1..=tiles / 3).contains(&share), "{share} of {tiles} tiles");
    }
}
