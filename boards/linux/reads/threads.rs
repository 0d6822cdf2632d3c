//! Reads by threads that wait for them, for where io_uring is refused.

use super::direct::{Direct, read_now};
use super::{Completion, Reads, Request};
use crate::block_file::BlockFile;
use crate::thread::spawn;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Threads that read, if nothing else is asked for: devices of boards answer no more than a few
/// requests at once faster.
pub const READERS: usize = 4;

/// Bytes of a thread's stack.
const STACK: usize = 64 << 10;

/// Requests for which there is room from the start.
const ROOM: usize = 256;

/// A few threads, each with one read at a time.
#[derive(Debug)]
pub struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    files: Arc<[BlockFile]>,
    state: Mutex<State>,
    /// There is something to read, or nothing will be any more.
    submitted: Condvar,
    /// A read has ended.
    ended: Condvar,
}

struct State {
    queue: VecDeque<Request>,
    running: usize,
    ended: VecDeque<Completion>,
    stop: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Threads {
    /// Starts `count` threads that read `files`. Threads that the system refuses are done without,
    /// as long as there is one.
    pub fn new(files: Arc<[BlockFile]>, count: usize) -> io::Result<Threads> {
        Threads::start(files, count, |name, body| spawn(name, STACK, body).map(drop))
    }

    /// As [`Threads::new`]; or where there is not even one, reads without threads.
    pub(super) fn or_none(files: Arc<[BlockFile]>, count: usize) -> Box<dyn Reads> {
        match Threads::new(Arc::clone(&files), count) {
            Ok(threads) => Box::new(threads),
            Err(error) => {
                log::warn!(
                    "no thread that reads is to be had: {error}; reading on the computing \
                     thread, which is slower"
                );
                Box::new(Direct::new(files))
            }
        }
    }

    /// The same with threads that `spawn` starts, each by its name, to live until they are told to stop;
    /// nobody waits for that.
    pub(super) fn start(
        files: Arc<[BlockFile]>,
        count: usize,
        spawn: impl Fn(&str, Box<dyn FnOnce() + Send>) -> io::Result<()>,
    ) -> io::Result<Threads> {
        let state = State {
            queue: VecDeque::with_capacity(ROOM),
            running: 0,
            ended: VecDeque::with_capacity(ROOM),
            stop: false,
        };
        let (submitted, ended) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { files, state: Mutex::new(state), submitted, ended });
        let threads = Threads { shared };
        for i in 0..count.max(1) {
            let shared = Arc::clone(&threads.shared);
            match spawn(&format!("wick-read-{i}"), Box::new(move || shared.serve())) {
                Ok(()) => {}
                Err(error) if i == 0 => return Err(error),
                Err(error) => {
                    log::warn!("{i} of {count} threads read, more are refused: {error}");
                    break;
                }
            }
        }
        Ok(threads)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life: read what is first in the queue.
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if state.stop {
                return;
            }
            let Some(request) = state.queue.pop_front() else {
                state = self.submitted.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.running += 1;
            drop(state);
            // SAFETY: the memory was handed over with the request, and only this thread has it.
            let completion = unsafe { read_now(&self.files, &request) };
            drop(request);
            state = self.lock();
            state.running -= 1;
            state.ended.push_back(completion);
            self.ended.notify_one();
        }
    }
}

// SAFETY: a thread writes to the memory of a request only before it reports its end.
unsafe impl Reads for Threads {
    unsafe fn submit(&mut self, request: Request) {
        self.shared.lock().queue.push_back(request);
        self.shared.submitted.notify_one();
    }

    fn complete(&mut self, wait: Duration) -> Option<Completion> {
        let mut state = self.shared.lock();
        let mut until = None;
        loop {
            if let Some(completion) = state.ended.pop_front() {
                return Some(completion);
            }
            if wait.is_zero() || state.queue.len() + state.running == 0 {
                return None;
            }
            let now = Instant::now();
            let rest = until.get_or_insert(now + wait).saturating_duration_since(now);
            if rest.is_zero() {
                return None;
            }
            let waited = self.shared.ended.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn reserve(&mut self, reads: usize) {
        let mut state = self.shared.lock();
        let (queued, ended) = (state.queue.len(), state.ended.len());
        state.queue.reserve(reads.saturating_sub(queued));
        state.ended.reserve(reads.saturating_sub(ended));
    }

    fn in_flight(&self) -> usize {
        let state = self.shared.lock();
        state.queue.len() + state.running + state.ended.len()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        state.queue.clear();
        drop(state);
        self.shared.submitted.notify_all();
    }
}
