//! What is done with a matrix that has been read, before it is used.

use crate::reads::Then;
use crate::slot_memory::Memory;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wick_kernels::Layout;

/// Checks, arranges and expands matrices in the slots, on the thread that read them.
pub(super) struct Preparation {
    memory: Arc<Memory>,
    /// What is to be done, for each part of each slot.
    jobs: Vec<Mutex<Job>>,
    /// Copies of what is being arranged or expanded; each is as long as the longest.
    scratch: Mutex<Vec<Vec<u8>>>,
    scratch_len: usize,
}

/// What is to be done with a matrix.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Job {
    /// Where its room begins in the memory.
    pub(super) room: usize,
    /// Where in the room it has been read to.
    pub(super) shift: usize,
    /// Its bytes.
    pub(super) size: usize,
    /// Bytes of the room that had been read before.
    pub(super) skip: usize,
    /// What is to become of it, at the start of the room, if anything.
    pub(super) change: Option<Change>,
    /// Whether its checksum is wanted.
    pub(super) sums: bool,
    /// CRC-32 of what has been read, if it was wanted.
    pub(super) sum: u32,
}

/// What becomes of a matrix that has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// How it stands at last.
    pub(super) layout: Layout,
    /// Its columns.
    pub(super) cols: usize,
    /// Its bytes at last: more than were read if that was a low-bit copy.
    pub(super) size: usize,
}

impl Change {
    fn make(&self, source: &[u8], target: &mut [u8]) {
        let Change { layout, cols, size } = *self;
        match source.len() == size {
            true => layout.arrange(cols, source, target),
            false => layout.expand(cols, source, target),
        }
    }
}

impl Preparation {
    /// Prepares up to `jobs` matrices in `memory`, `threads` at once; the longest that is arranged
    /// has `scratch_len` bytes.
    pub(super) fn new(
        memory: Arc<Memory>,
        jobs: usize,
        threads: usize,
        scratch_len: usize,
    ) -> Preparation {
        let jobs = (0..jobs).map(|_| Mutex::default()).collect();
        let count = if scratch_len > 0 { threads } else { 0 };
        let scratch = Mutex::new((0..count).map(|_| vec![0; scratch_len]).collect());
        Preparation { memory, jobs, scratch, scratch_len }
    }

    /// What is to be done, or was done, with a matrix.
    pub(super) fn job(&self, id: usize) -> MutexGuard<'_, Job> {
        lock(&self.jobs[id])
    }
}

impl Then for Preparation {
    fn run(&self, id: u64) {
        let mut job = self.job(id as usize);
        let Job { room, shift, size, change, sums, .. } = *job;
        let read = self.memory.target(room + shift..room + shift + size);
        // SAFETY: the read into the room has ended, and its end has not been reported: until then the
        // room belongs to the read.
        let read = unsafe { std::slice::from_raw_parts(read.as_ptr(), size) };
        if sums {
            job.sum = crc32fast::hash(read);
        }
        let Some(change) = change else { return };
        let copy = lock(&self.scratch).pop();
        let mut copy = copy.unwrap_or_else(|| vec![0; self.scratch_len]);
        copy[..size].copy_from_slice(read);
        let target = self.memory.target(room..room + change.size);
        // SAFETY: as above; `read` is not used any more.
        let target = unsafe { std::slice::from_raw_parts_mut(target.as_ptr(), change.size) };
        change.make(&copy[..size], target);
        lock(&self.scratch).push(copy);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
