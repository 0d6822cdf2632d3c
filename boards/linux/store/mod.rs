//! Experts read from a model's files into slots.

mod catalogue;
mod preparation;

#[cfg(test)]
mod tests;

pub use catalogue::{Catalogue, CatalogueError, LowBit};

use crate::block_file::BlockFile;
use crate::fault::page_size;
use crate::identity::check_all;
use crate::progress::advance;
use crate::reads::{self, Reader, Reading, Reads, Request, is_transient};
use crate::slot_memory::{self, Memory};
use catalogue::{PARTS, Source, Span};
use preparation::{Change, Job};
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wick_core::{
    Arrival, Completion, ExpertKey, ExpertStore, Part, Place, Read, ReadError, SlotClass, SlotId,
    StoreError, StoreReason,
};

/// A silent device is not waited for longer than this, whatever limit is asked for.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Experts read from a model's files, or from a block device, into slots of its own memory.
///
/// Files that are not packed have matrices row by row, and anywhere in their blocks: they are read
/// with the blocks around them, by threads, and arranged when they have come, one after the other, so
/// that the first is there before the last.
pub struct FileStore {
    reads: Box<dyn Reads>,
    /// A copy of what is being arranged or expanded.
    copy: Vec<u8>,
    memory: Arc<Memory>,
    catalogue: Catalogue,
    slots: Vec<Tenant>,
    /// Of these, the last so many are spare.
    spare: usize,
    time_limit: Duration,
    opened: Instant,
}

/// Whose a slot's memory is.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tenant {
    /// The expert that was last submitted, and whether its low-bit copy.
    expert: Option<(ExpertKey, bool)>,
    /// Of each part: whether it is being read into.
    is_open: [bool; PARTS],
    /// What is done with each part that was submitted, and where it stands then.
    jobs: [Job; PARTS],
}

/// How many slots a store has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Those whose memory is theirs.
    pub lasting: usize,
    /// Those whose memory is promised to something else too.
    pub spare: usize,
}

impl From<usize> for SlotCounts {
    fn from(lasting: usize) -> SlotCounts {
        SlotCounts { lasting, spare: 0 }
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("FileStore");
        debug.field("slots", &self.slots.len()).field("in_flight", &self.reads.in_flight());
        debug.finish_non_exhaustive()
    }
}

impl FileStore {
    /// A store with some slots for the experts of a catalogue, read with what fits best: io_uring,
    /// or threads where they have to arrange what they read or io_uring is refused.
    ///
    /// # Errors
    /// The system has not the memory, or not a single thread.
    pub fn new(catalogue: Catalogue, slots: usize) -> io::Result<FileStore> {
        FileStore::with_reads(catalogue, slots, Reader::Auto, |reads| reads)
    }

    /// A store that reads as `reading` says, and through what `wrap` puts in front of it: a
    /// [`Throttle`](crate::reads::Throttle), or [`Faults`](crate::reads::Faults).
    ///
    /// # Errors
    /// As [`FileStore::new`]; or the reader that was asked for is refused.
    pub fn with_reads(
        catalogue: Catalogue,
        slots: impl Into<SlotCounts>,
        reading: impl Into<Reading>,
        wrap: impl FnOnce(Box<dyn Reads>) -> Box<dyn Reads>,
    ) -> io::Result<FileStore> {
        let SlotCounts { lasting, spare } = slots.into();
        let bytes = |slots: usize| slots.checked_mul(catalogue.slot_bytes()).ok_or(Errno::NOMEM);
        let memory = Arc::new(Memory::with_spare(bytes(lasting)?, bytes(spare)?)?);
        let slots = lasting + spare;
        let mut reading = reading.into();
        if reading.reader == Reader::Auto && catalogue.is_arranging() {
            reading.reader = Reader::Threads;
        }
        let reads = reading.open(catalogue.shared_files(), &memory)?;
        let mut reads = wrap(reads);
        reads.reserve(slots * PARTS);
        Ok(FileStore {
            reads,
            copy: vec![0; catalogue.largest_copied()],
            memory,
            slots: vec![Tenant::default(); slots],
            spare,
            catalogue,
            time_limit: reading.time_limit.min(LONGEST),
            opened: Instant::now(),
        })
    }

    /// Where the experts lie.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Gives a part of a slot's memory to a read.
    ///
    /// # Panics
    /// If the part, or any part of another expert, is being read into the slot.
    fn admit(&mut self, read: &Read, job: Job) {
        let (expert, part) = (Some((read.key, read.low_bit)), read.part as usize);
        let tenant = &mut self.slots[read.slot.0];
        if tenant.expert != expert {
            assert!(tenant.is_open == [false; PARTS], "slot {} is being read into", read.slot.0);
            *tenant = Tenant { expert, ..Tenant::default() };
        }
        assert!(!tenant.is_open[part], "the {} is on its way to slot {}", read.part, read.slot.0);
        tenant.is_open[part] = true;
        tenant.jobs[part] = job;
    }

    /// What has come with a read that has ended, ready for use.
    fn arrival(
        &mut self,
        slot: SlotId,
        part: Part,
        result: io::Result<usize>,
    ) -> Result<Arrival, ReadError> {
        let job = &self.slots[slot.0].jobs[part as usize];
        let Job { shift, size, skip, .. } = *job;
        let refused = |error: io::Error| {
            let unknown = Errno::IO.raw_os_error();
            let code = error.raw_os_error().unwrap_or(unknown);
            ReadError { reason: StoreReason::Refused { code }, may_pass: is_transient(&error) }
        };
        let bytes = skip + result.map_err(refused)?;
        let found = bytes.saturating_sub(shift).min(size);
        if found < size {
            let reason = StoreReason::Short { expected: size, found };
            return Err(ReadError { reason, may_pass: true });
        }
        // SAFETY: the read has ended; the store is borrowed uniquely, so that nothing is lent.
        let checksum = unsafe { job.run(&self.memory, &mut self.copy) };
        Ok(Arrival { bytes, checksum })
    }
}

impl ExpertStore for FileStore {
    fn slots(&self) -> SlotClass {
        let FileStore { slots, spare, catalogue, .. } = self;
        let stride = catalogue.slot_bytes();
        SlotClass { count: slots.len(), stride, spare: *spare, page: page_size() }
    }

    fn place(&self, key: ExpertKey, part: Part, low_bit: bool) -> Option<Place> {
        if low_bit && !self.catalogue.has_low_bit(key.layer) {
            return None;
        }
        let Source { file, offset, size, checksum } = self.catalogue.source(key, part, low_bit);
        let layout = self.catalogue.tensor(key.layer, part).layout;
        Some(Place { file, offset, bytes: size, layout, checksum })
    }

    fn check(&mut self) -> Result<(), StoreError> {
        check_all(self.catalogue.files().iter().map(BlockFile::is_unchanged))
    }

    fn submit(&mut self, read: Read) {
        let id = read.slot.0 * PARTS + read.part as usize;
        let tensor = *self.catalogue.tensor(read.key.layer, read.part);
        let source = self.catalogue.source(read.key, read.part, read.low_bit);
        let Span { offset, len, shift } = self.catalogue.span(&source);
        let alignment = self.catalogue.files()[source.file].alignment();
        let skip = (shift + read.range.start) / alignment * alignment;
        let room = read.slot.0 * self.catalogue.slot_bytes() + tensor.place;
        let change = Change { layout: tensor.layout, cols: tensor.cols, size: tensor.size };
        let change = (read.low_bit || tensor.is_arranged).then_some(change);
        let start = room + if change.is_some() { 0 } else { shift };
        let (size, sums) = (source.size, source.checksum.is_some());
        let bytes = start..start + tensor.size;
        self.admit(&read, Job { room, shift, size, skip, change, sums, bytes });
        let request = Request {
            id: id as u64,
            file: source.file,
            offset: offset + skip as u64,
            memory: Arc::clone(&self.memory),
            start: room + skip,
            len: len - skip,
            least: shift + read.range.end - skip,
        };
        // SAFETY: the slot has room for the blocks of each part, and nobody has its bytes: the part is
        // admitted, and what is open is not lent. A dropped store lends nothing.
        unsafe { self.reads.submit(request) };
    }

    fn complete(&mut self, wait: Duration) -> Option<Completion> {
        let reads::Completion { id, result } = self.reads.complete(wait)?;
        advance();
        let (slot, part) = (SlotId(id as usize / PARTS), Part::ALL[id as usize % PARTS]);
        self.slots[slot.0].is_open[part as usize] = false;
        Some(Completion { slot, part, result: self.arrival(slot, part, result) })
    }

    fn lend(&self, slot: SlotId, part: Part) -> &[u8] {
        let Tenant { is_open, jobs, .. } = &self.slots[slot.0];
        let (is_open, bytes) = (is_open[part as usize], &jobs[part as usize].bytes);
        assert!(!is_open && !bytes.is_empty(), "the {part} is not in slot {}", slot.0);
        let target = self.memory.target(bytes.clone());
        // SAFETY: nothing is read into the part before `submit` has the store to itself, when nobody
        // holds what is lent here. Parts of an expert do not share blocks of a slot, and while one of
        // another expert is open, no part has bytes that were submitted before.
        unsafe { std::slice::from_raw_parts(target.as_ptr(), bytes.len()) }
    }

    fn vacate(&mut self, slot: SlotId) {
        let stride = self.catalogue.slot_bytes();
        self.slots[slot.0] = Tenant::default();
        self.memory.vacate(slot.0 * stride..(slot.0 + 1) * stride);
    }

    fn release(&self, memory: &mut [u8]) {
        slot_memory::release(memory);
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    fn time_limit(&self) -> Duration {
        self.time_limit
    }
}
