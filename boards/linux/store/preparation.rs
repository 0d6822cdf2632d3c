//! What is done with a matrix that has been read, before it is used.

use crate::slot_memory::Memory;
use std::ops::Range;
use wick_kernels::Layout;

/// Where a matrix is read to, and what is to be done with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Job {
    /// Where its room begins in the memory.
    pub(super) room: usize,
    /// Where in the room it is read to.
    pub(super) shift: usize,
    /// Its bytes.
    pub(super) size: usize,
    /// Bytes of the room that had been read before.
    pub(super) skip: usize,
    /// What is to become of it, at the start of the room, if anything.
    pub(super) change: Option<Change>,
    /// Whether it has a checksum to be compared with.
    pub(super) sums: bool,
    /// Where in the memory it stands at last.
    pub(super) bytes: Range<usize>,
}

/// What becomes of a matrix that has been read.
#[derive(Clone, Copy, Debug, PartialEq)]
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

impl Job {
    /// Arranges or expands what has been read, and returns its CRC-32 if that is wanted. `copy` is as
    /// long as the longest matrix that is changed.
    ///
    /// # Safety
    /// The matrix has been read, nothing is on its way to its room, and nobody has bytes of it.
    pub(super) unsafe fn run(&self, memory: &Memory, copy: &mut [u8]) -> Option<u32> {
        let Job { room, shift, size, change, sums, .. } = *self;
        let read = memory.target(room + shift..room + shift + size);
        // SAFETY: as the caller promises.
        let read = unsafe { std::slice::from_raw_parts(read.as_ptr(), size) };
        let sum = sums.then(|| crc32fast::hash(read));
        if let Some(change) = change {
            copy[..size].copy_from_slice(read);
            let target = memory.target(room..room + change.size);
            // SAFETY: as the caller promises; `read` is not used any more.
            let target = unsafe { std::slice::from_raw_parts_mut(target.as_ptr(), change.size) };
            change.make(&copy[..size], target);
        }
        sum
    }
}
