//! Reads of blocks of files, several in flight, that end in any order.
//!
//! [`Uring`] and [`Threads`] read; [`Retries`], [`Throttle`] and [`Faults`] wrap other reads.

mod faults;
mod measure;
mod retries;
mod threads;
mod throttle;
mod uring;

#[cfg(test)]
mod tests;

pub use faults::{Fault, FaultScript, Faults, Which};
pub use measure::{ReadSpeed, SpeedSample, measure_reads};
pub use retries::{ATTEMPTS, Retries};
pub use threads::{READERS, Threads};
pub use throttle::{Device, Schedule, Throttle};
pub use uring::{DEPTH, Uring};

use crate::block_file::BlockFile;
use crate::slot_memory::Memory;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// A read of a range of a file into memory.
#[derive(Clone)]
pub struct Request {
    /// What its end will be reported as.
    pub id: u64,
    /// Which of the files, from 0.
    pub file: usize,
    /// Where in the file, a multiple of its [alignment](BlockFile::alignment).
    pub offset: u64,
    /// Where to, aligned likewise.
    pub target: NonNull<u8>,
    /// Bytes, aligned likewise.
    pub len: usize,
    /// Bytes that must come for the read to be whole; the rest may lie behind the end of the file.
    pub least: usize,
    /// What is to be done when the read is whole, before that is reported.
    pub then: Option<Arc<dyn Then>>,
}

// SAFETY: who submits a request hands over the memory behind `target`.
unsafe impl Send for Request {}
// SAFETY: a shared request gives no access to that memory.
unsafe impl Sync for Request {}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { id, file, offset, len, .. } = self;
        write!(f, "read {id}: file {file}, {len} bytes at {offset}")
    }
}

impl Request {
    /// Takes note of how the read ended: does what is to be done then.
    fn end(&self, result: io::Result<usize>) -> Completion {
        if let (Ok(read), Some(then)) = (&result, &self.then)
            && *read >= self.least
        {
            then.run(self.id);
        }
        Completion { id: self.id, result }
    }
}

/// Something to be done with bytes that have come, on the thread that saw them come.
pub trait Then: Send + Sync {
    /// The read of this name is whole.
    fn run(&self, id: u64);
}

/// A read that has ended.
#[derive(Debug)]
pub struct Completion {
    /// The request's.
    pub id: u64,
    /// Bytes that were read, or why none were.
    pub result: io::Result<usize>,
}

/// Reads that go on while the caller does something else.
///
/// # Safety
/// Memory that was handed over with a request is not touched any more when its end has been reported,
/// nor when the value has been dropped: dropping waits for the reads that cannot be called off.
pub unsafe trait Reads: Send + Sync {
    /// Begins a read, and never waits. Reads are begun in the order in which they are submitted.
    ///
    /// # Safety
    /// The memory behind `target` is valid for writes of `len` bytes, and nobody else uses it, until
    /// the end of the read is reported or `self` is dropped.
    unsafe fn submit(&mut self, request: Request);

    /// A read that has ended. If there is none, waits for one if it is to; `None` if there is none
    /// and it is not to wait, or none is in flight.
    fn complete(&mut self, wait: bool) -> Option<Completion>;

    /// Reads submitted whose ends have not been reported.
    fn in_flight(&self) -> usize;

    /// Whether there is nothing left to read: all reads have ended, reported or not.
    fn is_idle(&self) -> bool;

    /// Takes the memory for as many reads in flight, so that none is taken while they are made.
    fn reserve(&mut self, reads: usize);

    /// Reads that were made again so far.
    fn retries(&self) -> u64 {
        0
    }
}

// SAFETY: the reads in the box keep the promise.
unsafe impl<R: Reads + ?Sized> Reads for Box<R> {
    unsafe fn submit(&mut self, request: Request) {
        // SAFETY: as the caller promises.
        unsafe { (**self).submit(request) }
    }

    fn complete(&mut self, wait: bool) -> Option<Completion> {
        (**self).complete(wait)
    }

    fn in_flight(&self) -> usize {
        (**self).in_flight()
    }

    fn is_idle(&self) -> bool {
        (**self).is_idle()
    }

    fn reserve(&mut self, reads: usize) {
        (**self).reserve(reads)
    }

    fn retries(&self) -> u64 {
        (**self).retries()
    }
}

/// What reads with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reader {
    /// io_uring, or threads where it is refused.
    #[default]
    Auto,
    /// io_uring.
    Uring,
    /// Threads.
    Threads,
}

/// What reads with, and how many reads a device is given at once; others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What reads.
    pub reader: Reader,
    /// Reads at once, at least one. Threads are no more than [`READERS`].
    pub depth: usize,
}

impl Default for Reading {
    fn default() -> Reading {
        Reader::Auto.into()
    }
}

impl From<Reader> for Reading {
    /// More at once than any device of a board takes.
    fn from(reader: Reader) -> Reading {
        Reading { reader, depth: DEPTH }
    }
}

impl Reading {
    /// Reads of `files`, of which `memory` is known to be the target. They are not retried.
    pub fn open(self, files: Arc<[BlockFile]>, memory: &Memory) -> io::Result<Box<dyn Reads>> {
        if self.reader != Reader::Threads {
            match Uring::new(Arc::clone(&files), memory, self.depth) {
                Ok(uring) => return Ok(Box::new(uring)),
                Err(error) if self.reader == Reader::Uring => return Err(error),
                Err(error) => log::info!("io_uring: {error}; reading with threads"),
            }
        }
        Ok(Box::new(Threads::new(files, READERS.min(self.depth))?))
    }
}
