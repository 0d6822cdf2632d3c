//! Experts read from a model's files into slots.

mod catalogue;
mod preparation;

#[cfg(test)]
mod tests;

pub use catalogue::{Catalogue, CatalogueError, LowBit};

use crate::reads::{Completion, READERS, Reader, Reading, Reads, Request, Retries};
use crate::slot_memory::Memory;
use catalogue::{PARTS, Source, Span};
use preparation::{Change, Job, Preparation};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wick_core::{ExpertKey, ExpertStore, Part, SlotId, StoreError, StoreFigures, StoreReason};
use wick_kernels::Layout;

/// Experts read from a model's files, or from a block device, into slots of its own memory.
///
/// Files that are not packed have matrices row by row, and anywhere in their blocks: they are read
/// with the blocks around them, by threads, which arrange them at once. CRC-32 is checked where it is
/// known, the first time that a matrix is read.
pub struct FileStore {
    /// Goes before the memory that it reads into.
    reads: Retries<Box<dyn Reads>>,
    preparation: Arc<Preparation>,
    memory: Arc<Memory>,
    catalogue: Catalogue,
    slots: Vec<Slot>,
    /// Errors that have not been reported.
    errors: VecDeque<StoreError>,
    /// Of each matrix of the model, and then of each low-bit copy: whether its bytes have proved to be
    /// right.
    checked: Vec<bool>,
    figures: StoreFigures,
    opened: Instant,
    /// Since when reads are on their way, if they are.
    busy_since: Option<Instant>,
}

/// A slot, and how far its expert is.
#[derive(Clone, Debug, Default)]
struct Slot {
    key: Option<ExpertKey>,
    /// Whether it is a low-bit copy.
    low_bit: bool,
    /// Where each part stands in the memory, if it is there.
    parts: [Option<usize>; PARTS],
    /// Parts on their way.
    reading: usize,
    /// Why the expert will not be whole.
    error: Option<StoreError>,
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("FileStore");
        debug.field("slots", &self.slots.len()).field("figures", &self.figures);
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
        slots: usize,
        reading: impl Into<Reading>,
        wrap: impl FnOnce(Box<dyn Reads>) -> Box<dyn Reads>,
    ) -> io::Result<FileStore> {
        let bytes = slots.checked_mul(catalogue.slot_bytes()).ok_or(Errno::NOMEM)?;
        let memory = Arc::new(Memory::new(bytes)?);
        let mut reading = reading.into();
        if reading.reader == Reader::Auto && catalogue.is_arranging() {
            reading.reader = Reader::Threads;
        }
        let reads = reading.open(catalogue.shared_files(), &memory)?;
        let (jobs, longest) = (slots * PARTS, catalogue.largest_copied());
        let preparation = Preparation::new(Arc::clone(&memory), jobs, READERS, longest);
        let mut reads = Retries::new(wrap(reads), catalogue.alignment());
        reads.reserve(slots * PARTS);
        Ok(FileStore {
            reads,
            preparation: Arc::new(preparation),
            memory,
            slots: vec![Slot::default(); slots],
            errors: VecDeque::with_capacity(slots),
            checked: vec![
                false;
                catalogue.matrices() * if catalogue.any_low_bit() { 2 } else { 1 }
            ],
            catalogue,
            figures: StoreFigures::default(),
            opened: Instant::now(),
            busy_since: None,
        })
    }

    /// Where the experts lie.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Begins to read a part of the expert in a slot.
    fn read(&mut self, slot: SlotId, key: ExpertKey, part: Part) {
        let id = slot.0 * PARTS + part as usize;
        let tensor = self.catalogue.tensor(key.layer, part);
        let low_bit = self.slots[slot.0].low_bit;
        let source = self.catalogue.source(key, part, low_bit);
        let Span { offset, len, shift } = self.catalogue.span(&source);
        let room = slot.0 * self.catalogue.slot_bytes() + tensor.place;
        let sums = !self.checked[self.number(key, part, low_bit)] && source.checksum.is_some();
        let change = Change { layout: tensor.layout, cols: tensor.cols, size: tensor.size };
        let change = (low_bit || tensor.is_arranged).then_some(change);
        let job = Job { room, shift, size: source.size, change, sums, sum: 0 };
        *self.preparation.job(id) = job;
        let request = Request {
            id: id as u64,
            file: source.file,
            offset,
            target: self.memory.target(room..room + len),
            len,
            least: shift + source.size,
            then: Some(self.preparation.clone()),
        };
        // SAFETY: the slot has room for the blocks of each part, and nobody has its bytes: they are
        // lent by shared reference, and only when they are there. The memory outlives the reads.
        unsafe { self.reads.submit(request) };
    }

    /// The number of a matrix, or of its low-bit copy, among all.
    fn number(&self, key: ExpertKey, part: Part, low_bit: bool) -> usize {
        self.catalogue.index(key, part) + if low_bit { self.catalogue.matrices() } else { 0 }
    }

    /// Begins to read an expert, or its low-bit copy.
    fn read_all(&mut self, slot: SlotId, key: ExpertKey, low_bit: bool) {
        assert!(self.slots[slot.0].reading == 0, "an expert is on its way to slot {}", slot.0);
        self.slots[slot.0] = Slot { key: Some(key), low_bit, reading: PARTS, ..Slot::default() };
        if self.reads.in_flight() == 0 {
            self.busy_since = Some(Instant::now());
        }
        Part::ALL.into_iter().for_each(|part| self.read(slot, key, part));
    }

    /// Takes note of the end of a read; tells whether there is something to tell.
    fn note(&mut self, completion: Completion) -> bool {
        let id = completion.id as usize;
        let (place, part) = (id / PARTS, Part::ALL[id % PARTS]);
        let Some(key) = self.slots[place].key else { return false };
        let source = self.catalogue.source(key, part, self.slots[place].low_bit);
        let outcome = self.judge(key, part, id, completion.result);
        self.figures.retries = self.reads.retries();
        if self.reads.in_flight() == 0
            && let Some(since) = self.busy_since.take()
        {
            self.figures.busy += since.elapsed();
        }
        let slot = &mut self.slots[place];
        slot.reading -= 1;
        let is_there = outcome.is_ok() && slot.error.is_none();
        match outcome {
            Ok(start) => slot.parts[part as usize] = Some(start),
            Err(reason) => {
                let Source { file, offset, .. } = source;
                slot.error.get_or_insert(StoreError {
                    at: Some((key, part)),
                    file,
                    offset,
                    reason,
                });
            }
        }
        if slot.reading > 0 || slot.error.is_none() {
            return is_there;
        }
        self.errors.extend(slot.error.take());
        *slot = Slot::default();
        true
    }

    /// Where a part stands that was read, if it is whole and right.
    fn judge(
        &mut self,
        key: ExpertKey,
        part: Part,
        id: usize,
        result: io::Result<usize>,
    ) -> Result<usize, StoreReason> {
        let job = *self.preparation.job(id);
        let refused = |error: io::Error| {
            let unknown = Errno::IO.raw_os_error();
            StoreReason::Refused { code: error.raw_os_error().unwrap_or(unknown) }
        };
        let read = result.map_err(refused)?;
        self.figures.reads += 1;
        self.figures.bytes += read as u64;
        let found = read.saturating_sub(job.shift).min(job.size);
        if found < job.size {
            return Err(StoreReason::Short { expected: job.size, found });
        }
        let low_bit = self.slots[id / PARTS].low_bit;
        let checksum = self.catalogue.source(key, part, low_bit).checksum;
        if let Some(expected) = checksum.filter(|_| job.sums) {
            if job.sum != expected {
                return Err(StoreReason::Checksum { expected, found: job.sum });
            }
            let number = self.number(key, part, low_bit);
            self.checked[number] = true;
        }
        Ok(job.start())
    }

    /// Takes note of all that has ended.
    fn note_all(&mut self) {
        while let Some(completion) = self.reads.complete(false) {
            self.note(completion);
        }
    }

    fn report(&mut self) -> Result<(), StoreError> {
        self.errors.pop_front().map_or(Ok(()), Err)
    }
}

impl ExpertStore for FileStore {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn layout(&self, layer: usize, part: Part) -> Layout {
        self.catalogue.tensor(layer, part).layout
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        for (number, file) in self.catalogue.files().iter().enumerate() {
            let reason = match file.is_unchanged() {
                Ok(true) => continue,
                Ok(false) => StoreReason::Changed,
                Err(error) => StoreReason::Refused { code: error.raw_os_error().unwrap_or(0) },
            };
            return Err(StoreError { at: None, file: number, offset: 0, reason });
        }
        Ok(())
    }

    fn start(&mut self, slot: SlotId, key: ExpertKey) {
        self.read_all(slot, key, false);
    }

    fn start_low_bit(&mut self, slot: SlotId, key: ExpertKey) -> bool {
        let has_copy = self.catalogue.has_low_bit(key.layer);
        if has_copy {
            self.read_all(slot, key, true);
        }
        has_copy
    }

    fn is_ready(&self, slot: SlotId, part: Part) -> bool {
        let slot = &self.slots[slot.0];
        slot.error.is_none() && slot.parts[part as usize].is_some()
    }

    fn is_idle(&self) -> bool {
        self.reads.is_idle()
    }

    fn poll(&mut self) -> Result<(), StoreError> {
        self.note_all();
        self.report()
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        if self.errors.is_empty() {
            let start = Instant::now();
            while let Some(completion) = self.reads.complete(true) {
                if self.note(completion) {
                    break;
                }
            }
            self.figures.waited += start.elapsed();
            self.note_all();
        }
        self.report()
    }

    fn bytes(&self, slot: SlotId, part: Part) -> &[u8] {
        let Slot { key, parts, .. } = &self.slots[slot.0];
        let (Some(key), Some(start)) = (key, parts[part as usize]) else {
            panic!("{part} of slot {} is not there", slot.0)
        };
        let size = self.catalogue.tensor(key.layer, part).size;
        let target = self.memory.target(start..start + size);
        // SAFETY: the part has come, and nothing is read into the slot before `start` has the store
        // to itself, when nobody holds what is lent here.
        unsafe { std::slice::from_raw_parts(target.as_ptr(), size) }
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    fn figures(&self) -> StoreFigures {
        let since = self.busy_since.map_or(Duration::ZERO, |since| since.elapsed());
        StoreFigures { busy: self.figures.busy + since, ..self.figures }
    }
}
