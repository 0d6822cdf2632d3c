//! Reads of blocks of files, several in flight, that end in any order.
//!
//! [`Uring`], [`Threads`] and [`Direct`] read; [`Throttle`] and [`Faults`] wrap other reads.

mod direct;
mod faults;
mod measure;
mod threads;
mod throttle;
mod uring;

#[cfg(test)]
mod tests;

pub use direct::Direct;
pub use faults::{Fault, FaultScript, Faults, Which};
pub use measure::{ReadSpeed, SpeedSample, measure_reads};
pub use threads::{READERS, Threads};
pub use throttle::{Device, Schedule, Throttle};
pub use uring::{DEPTH, Uring, try_uring};

use crate::block_file::BlockFile;
use crate::slot_memory::Memory;
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;
use wick_core::TIME_LIMIT;

/// A read of a range of a file into memory.
#[derive(Clone)]
pub struct Request {
    /// What its end will be reported as.
    pub id: u64,
    /// Which of the files, from 0.
    pub file: usize,
    /// Where in the file, a multiple of its [alignment](BlockFile::alignment).
    pub offset: u64,
    /// What it is read into. The memory stays as long as the read is on its way, whoever else lets it
    /// go.
    pub memory: Arc<Memory>,
    /// Where in the memory, aligned likewise.
    pub start: usize,
    /// Bytes, aligned likewise.
    pub len: usize,
    /// Bytes that must come for the read to be whole; the rest may lie behind the end of the file.
    pub least: usize,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { id, file, offset, len, .. } = self;
        write!(f, "read {id}: file {file}, {len} bytes at {offset}")
    }
}

impl Request {
    /// Where it is read to.
    fn target(&self) -> NonNull<u8> {
        self.memory.target(self.start..self.start + self.len)
    }
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
/// Dropping does not wait for a device that does not answer: reads that cannot be called off go on, and
/// so does their memory.
///
/// # Safety
/// Memory that was handed over with a request is not touched any more when its end has been reported.
pub unsafe trait Reads: Send + Sync {
    /// Begins a read, and never waits. Reads are begun in the order in which they are submitted.
    ///
    /// # Safety
    /// Nobody else uses the part of the memory that the request names until the end of the read is
    /// reported; nobody ever does if `self` is dropped before.
    unsafe fn submit(&mut self, request: Request);

    /// A read that has ended. If there is none, waits for one so long, not at all for zero; `None` if
    /// none has ended then, or none is in flight. Where nobody else makes a read, it is made here.
    fn complete(&mut self, wait: Duration) -> Option<Completion>;

    /// Reads submitted whose ends have not been reported.
    fn in_flight(&self) -> usize;

    /// Takes the memory for as many reads in flight, so that none is taken while they are made.
    fn reserve(&mut self, reads: usize);
}

// SAFETY: the reads in the box keep the promise.
unsafe impl<R: Reads + ?Sized> Reads for Box<R> {
    unsafe fn submit(&mut self, request: Request) {
        // SAFETY: as the caller promises.
        unsafe { (**self).submit(request) }
    }

    fn complete(&mut self, wait: Duration) -> Option<Completion> {
        (**self).complete(wait)
    }

    fn in_flight(&self) -> usize {
        (**self).in_flight()
    }

    fn reserve(&mut self, reads: usize) {
        (**self).reserve(reads)
    }
}

/// Errors that may not come again.
const TRANSIENT: [Errno; 6] =
    [Errno::IO, Errno::AGAIN, Errno::INTR, Errno::BUSY, Errno::NOMEM, Errno::TIMEDOUT];

/// Whether a read that failed so may go well when it is made again.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    TRANSIENT.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What reads with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reader {
    /// io_uring, or threads where it is refused; the thread that waits where they are refused too.
    #[default]
    Auto,
    /// io_uring.
    Uring,
    /// Threads, or the thread that waits where they are refused.
    Threads,
}

/// What reads with, how many reads a device is given at once (others wait), and how long it may be
/// silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What reads.
    pub reader: Reader,
    /// Reads at once, at least one. Threads are no more than [`READERS`].
    pub depth: usize,
    /// How long no read may end before those on their way count as lost.
    pub time_limit: Duration,
}

impl Default for Reading {
    fn default() -> Reading {
        Reader::Auto.into()
    }
}

impl From<Reader> for Reading {
    /// More at once than any device of a board takes, and the usual time limit.
    fn from(reader: Reader) -> Reading {
        Reading { reader, depth: DEPTH, time_limit: TIME_LIMIT }
    }
}

impl Reading {
    /// Reads of `files`, of which `memory` is known to be the target.
    pub fn open(self, files: Arc<[BlockFile]>, memory: &Memory) -> io::Result<Box<dyn Reads>> {
        if self.reader != Reader::Threads {
            match Uring::new(Arc::clone(&files), memory, self.depth) {
                Ok(uring) => return Ok(Box::new(uring)),
                Err(error) if self.reader == Reader::Uring => return Err(error),
                Err(error) => log::info!("io_uring: {error}; reading with threads"),
            }
        }
        Ok(Threads::or_none(files, READERS.min(self.depth)))
    }
}
