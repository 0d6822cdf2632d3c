//! Reads that are made again where they fail for the moment.

use super::{Completion, Reads, Request};
use rustix::io::Errno;
use std::io;
use std::ptr::NonNull;

/// How often a read is made before it is given up.
pub const ATTEMPTS: u32 = 4;

/// Errors that may not come again.
const TRANSIENT: [Errno; 6] =
    [Errno::IO, Errno::AGAIN, Errno::INTR, Errno::BUSY, Errno::NOMEM, Errno::TIMEDOUT];

/// Reads that are tried a few times, each time for what is missing.
#[derive(Debug)]
pub struct Retries<R> {
    inner: R,
    /// What offsets of reads must be multiples of.
    alignment: usize,
    /// Reads in flight, each at the place that is its name further down.
    running: Vec<Option<Running>>,
    free: Vec<usize>,
    retries: u64,
}

#[derive(Debug)]
struct Running {
    /// All of it.
    request: Request,
    /// Bytes at its start that are there.
    done: usize,
    attempts: u32,
}

impl<R: Reads> Retries<R> {
    /// Retries `inner`'s reads, whose offsets are multiples of `alignment`.
    pub fn new(inner: R, alignment: usize) -> Retries<R> {
        Retries { inner, alignment, running: Vec::new(), free: Vec::new(), retries: 0 }
    }

    /// Reads what is missing.
    fn read_rest(&mut self, place: usize) {
        let Running { request, done, .. } =
            self.running[place].as_ref().expect("the read is in flight");
        // SAFETY: `done` bytes of the request's memory are filled, so this is inside or at its end.
        let target = unsafe { NonNull::new_unchecked(request.target.as_ptr().add(*done)) };
        let rest = Request {
            id: place as u64,
            file: request.file,
            offset: request.offset + *done as u64,
            target,
            len: request.len - done,
            least: request.least - done,
            then: None,
        };
        // SAFETY: the memory was handed over with the whole request, which has not ended.
        unsafe { self.inner.submit(rest) };
    }

    /// What is to be told of the end of a read further down; `None` if it goes on.
    fn end(&mut self, place: usize, result: io::Result<usize>) -> Option<Completion> {
        let running = self.running[place].as_mut().expect("only reads in flight end");
        let read = result.map(|read| running.done + read);
        let again = match &read {
            Ok(read) => *read < running.request.least,
            Err(error) => is_transient(error),
        };
        if again && running.attempts < ATTEMPTS {
            running.attempts += 1;
            if let Ok(read) = read {
                running.done = read / self.alignment * self.alignment;
            }
            self.retries += 1;
            self.read_rest(place);
            return None;
        }
        let running = self.running[place].take()?;
        self.free.push(place);
        Some(running.request.end(read))
    }
}

fn is_transient(error: &io::Error) -> bool {
    TRANSIENT.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

// SAFETY: `inner` keeps the promise, and the end of a read is reported after that of its last part.
unsafe impl<R: Reads> Reads for Retries<R> {
    unsafe fn submit(&mut self, request: Request) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.running.push(None);
            self.running.len() - 1
        });
        self.running[place] = Some(Running { request, done: 0, attempts: 1 });
        self.read_rest(place);
    }

    fn complete(&mut self, wait: bool) -> Option<Completion> {
        loop {
            let Completion { id, result } = self.inner.complete(wait)?;
            if let Some(completion) = self.end(id as usize, result) {
                return Some(completion);
            }
        }
    }

    fn reserve(&mut self, reads: usize) {
        self.inner.reserve(reads);
        self.running.reserve(reads.saturating_sub(self.running.len()));
        self.free.reserve(reads.saturating_sub(self.free.len()));
    }

    fn in_flight(&self) -> usize {
        self.running.len() - self.free.len()
    }

    fn is_idle(&self) -> bool {
        self.inner.is_idle()
    }

    fn retries(&self) -> u64 {
        self.retries
    }
}
