//! Reads on the thread that waits for them, for where the system refuses even one more thread.

use super::{Completion, Reads, Request};
use crate::block_file::BlockFile;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

/// Reads that are made one by one, each when it is waited for or asked about.
#[derive(Debug)]
pub struct Direct {
    files: Arc<[BlockFile]>,
    queue: VecDeque<Request>,
}

impl Direct {
    /// Reads of `files`.
    pub fn new(files: Arc<[BlockFile]>) -> Direct {
        Direct { files, queue: VecDeque::new() }
    }
}

/// Makes a read, and waits for it.
///
/// # Safety
/// Nobody else uses the memory that the request names.
pub(super) unsafe fn read_now(files: &[BlockFile], request: &Request) -> Completion {
    let target = request.target().as_ptr().cast::<MaybeUninit<u8>>();
    // SAFETY: the request has the memory, and as the caller promises nobody else uses it.
    let target = unsafe { std::slice::from_raw_parts_mut(target, request.len) };
    let result = files[request.file].read_at(request.offset, target);
    Completion { id: request.id, result }
}

// SAFETY: memory is written to only in `complete`, which then reports the end of that read.
unsafe impl Reads for Direct {
    unsafe fn submit(&mut self, request: Request) {
        self.queue.push_back(request);
    }

    fn complete(&mut self, _wait: Duration) -> Option<Completion> {
        let request = self.queue.pop_front()?;
        // SAFETY: the memory was handed over with the request.
        Some(unsafe { read_now(&self.files, &request) })
    }

    fn in_flight(&self) -> usize {
        self.queue.len()
    }

    fn reserve(&mut self, reads: usize) {
        self.queue.reserve(reads.saturating_sub(self.queue.len()));
    }
}
