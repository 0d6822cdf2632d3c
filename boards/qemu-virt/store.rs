//! Experts of a packed file on a disk, read into slots.

use crate::disk::{Disk, RETRIES, SECTOR};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use core::slice;
use core::time::Duration;
use wick_core::{ExpertKey, ExpertStore, Part, SlotId, StoreError, StoreFigures, StoreReason};
use wick_kernels::Layout;

/// Where the experts of a layer lie on the disk.
#[derive(Clone, Copy, Debug)]
pub struct Extents {
    /// The byte at which the first expert begins, a multiple of [`SECTOR`].
    pub start: u64,
    /// Bytes from one expert to the next.
    pub stride: usize,
    /// Gate, up and down.
    pub parts: [Extent; 3],
}

/// Where a matrix lies in an expert.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Bytes from the start of the expert, a multiple of [`SECTOR`].
    pub offset: usize,
    /// Bytes of the matrix; whole sectors of it lie in the expert.
    pub bytes: usize,
    /// How it is arranged.
    pub layout: Layout,
}

/// Slots in memory and reads into them: as many on their way as the disk takes, the others in line.
pub struct Store<D> {
    disk: D,
    layers: Vec<Extents>,
    experts: usize,
    /// CRC-32 of each part of each expert of each layer.
    checksums: Vec<u32>,
    /// Which of them have been compared.
    checked: Vec<bool>,
    memory: NonNull<u8>,
    stride: usize,
    slots: Vec<Slot>,
    waiting: VecDeque<Read>,
    flights: Vec<Flight>,
    /// Microseconds after which a read has failed.
    timeout: u64,
    /// Slots whose reads have failed for good and are not reported.
    failing: usize,
    /// The disk does not answer: memory may still be written to, and nothing is read any more.
    dead: Option<StoreError>,
    figures: StoreFigures,
    /// Since when reads have been on their way.
    busy_since: u64,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    key: Option<ExpertKey>,
    ready: [bool; 3],
    attempts: u8,
    failure: Option<StoreError>,
}

/// A part to be read into a slot.
#[derive(Clone, Copy)]
struct Read {
    slot: usize,
    part: Part,
}

impl Read {
    fn tag(self) -> u32 {
        (self.slot * Part::ALL.len() + self.part as usize) as u32
    }
}

struct Flight {
    read: Read,
    started: u64,
}

// SAFETY: shared references only read: the tables, and parts that are ready, which nobody writes to.
unsafe impl<D: Sync> Sync for Store<D> {}

impl<D: Disk> Store<D> {
    /// Bytes of a slot that takes an expert of any layer.
    pub fn slot_bytes(layers: &[Extents]) -> usize {
        layers.iter().map(|layer| layer.stride).max().unwrap_or(0)
    }

    /// A store with as many slots as `memory` has room for. `checksums` are those of the parts of each
    /// expert of each layer, in this order; `timeout` is in microseconds.
    ///
    /// # Errors
    /// The disk ends before an expert does.
    ///
    /// # Panics
    /// If there are not as many checksums as parts.
    pub fn new(
        disk: D,
        layers: Vec<Extents>,
        checksums: Vec<u32>,
        memory: &'static mut [u8],
        timeout: u64,
    ) -> Result<Store<D>, StoreError> {
        let parts = layers.len() * Part::ALL.len();
        assert!(parts > 0 && checksums.len().is_multiple_of(parts), "a checksum for each part");
        let stride = Store::<D>::slot_bytes(&layers);
        let slots = memory.len() / stride.max(1);
        let store = Store {
            experts: checksums.len() / parts,
            checked: vec![false; checksums.len()],
            checksums,
            memory: NonNull::from(memory).cast(),
            stride,
            slots: vec![Slot::default(); slots],
            waiting: VecDeque::with_capacity(slots * Part::ALL.len()),
            flights: Vec::with_capacity(disk.depth()),
            timeout,
            failing: 0,
            dead: None,
            figures: StoreFigures::default(),
            busy_since: 0,
            disk,
            layers,
        };
        store.check_capacity()?;
        Ok(store)
    }

    fn check_capacity(&self) -> Result<(), StoreError> {
        let capacity = self.disk.capacity();
        for (layer, expert) in
            (0..self.layers.len()).flat_map(|l| (0..self.experts).map(move |e| (l, e)))
        {
            let key = ExpertKey { layer, expert };
            for part in Part::ALL {
                let (offset, bytes) = (self.offset(key, part), self.extent(layer, part).bytes);
                let found = capacity.saturating_sub(offset);
                if found < bytes as u64 {
                    let reason = StoreReason::Short { expected: bytes, found: found as usize };
                    return Err(StoreError { at: Some((key, part)), file: 0, offset, reason });
                }
            }
        }
        Ok(())
    }

    fn extent(&self, layer: usize, part: Part) -> Extent {
        self.layers[layer].parts[part as usize]
    }

    fn offset(&self, key: ExpertKey, part: Part) -> u64 {
        let Extents { start, stride, .. } = self.layers[key.layer];
        start + (key.expert * stride + self.extent(key.layer, part).offset) as u64
    }

    /// Memory of a part in a slot: `len` bytes.
    fn target(&self, read: Read, offset: usize, len: usize) -> NonNull<[u8]> {
        assert!(read.slot < self.slots.len() && offset + len <= self.stride);
        // SAFETY: the slot lies in the memory, and the part in the slot.
        let start = unsafe { self.memory.add(read.slot * self.stride + offset) };
        NonNull::slice_from_raw_parts(start, len)
    }

    fn error(&self, read: Read, reason: StoreReason) -> Option<StoreError> {
        let key = self.slots[read.slot].key?;
        let (at, offset) = (Some((key, read.part)), self.offset(key, read.part));
        Some(StoreError { at, file: 0, offset, reason })
    }

    /// Starts reads in line, as many as the disk takes.
    fn pump(&mut self) {
        while self.flights.len() < self.disk.depth() {
            let Some(read) = self.waiting.pop_front() else { break };
            let Some(key) = self.slots[read.slot].key else { continue };
            let Extent { offset, bytes, .. } = self.extent(key.layer, read.part);
            let target = self.target(read, offset, bytes.next_multiple_of(SECTOR));
            // SAFETY: the disk has room; the part is not ready, so nobody reads it, and a part is
            // in line once.
            let started =
                unsafe { self.disk.start(read.tag(), self.offset(key, read.part), target) };
            match started {
                Ok(()) => {
                    let started = self.disk.now();
                    if self.flights.is_empty() {
                        self.busy_since = started;
                    }
                    self.flights.push(Flight { read, started });
                }
                Err(code) => self.fail(read, StoreReason::Refused { code }),
            }
        }
    }

    /// Takes note of a read that has ended; whether a part has come.
    fn take(&mut self, tag: u32, outcome: Result<(), i32>) -> bool {
        let Some(place) = self.flights.iter().position(|flight| flight.read.tag() == tag) else {
            return false;
        };
        let read = self.flights.swap_remove(place).read;
        if self.flights.is_empty() {
            let busy = self.disk.now().saturating_sub(self.busy_since);
            self.figures.busy += Duration::from_micros(busy);
        }
        if self.slots[read.slot].failure.is_some() {
            return false;
        }
        let outcome = outcome.map_err(|code| StoreReason::Refused { code });
        match outcome.and_then(|()| self.check(read)) {
            Ok(bytes) => {
                self.slots[read.slot].ready[read.part as usize] = true;
                self.figures.reads += 1;
                self.figures.bytes += bytes as u64;
                true
            }
            Err(reason) => {
                self.fail(read, reason);
                false
            }
        }
    }

    /// Puts a read that failed in line again, or gives its expert up.
    fn fail(&mut self, read: Read, reason: StoreReason) {
        let error = self.error(read, reason);
        let slot = &mut self.slots[read.slot];
        if slot.attempts < RETRIES {
            slot.attempts += 1;
            self.figures.retries += 1;
            self.waiting.push_front(read);
            return;
        }
        slot.failure = error;
        self.failing += 1;
        self.waiting.retain(|other| other.slot != read.slot);
    }

    /// Compares the checksum of a part that has come, if it has never been; its bytes otherwise.
    fn check(&mut self, read: Read) -> Result<usize, StoreReason> {
        let Some(ExpertKey { layer, expert }) = self.slots[read.slot].key else { return Ok(0) };
        let Extent { offset, bytes, .. } = self.extent(layer, read.part);
        let place = (layer * self.experts + expert) * Part::ALL.len() + read.part as usize;
        if !self.checked[place] {
            // SAFETY: the read has finished, and the slot is borrowed uniquely with the store.
            let found = crc32fast::hash(unsafe { self.target(read, offset, bytes).as_ref() });
            let expected = self.checksums[place];
            if found != expected {
                return Err(StoreReason::Checksum { expected, found });
            }
            self.checked[place] = true;
        }
        Ok(bytes)
    }

    /// Takes note of all that has ended; whether parts have come.
    fn collect(&mut self) -> Result<bool, StoreError> {
        self.dead.map_or(Ok(()), Err)?;
        let mut news = false;
        loop {
            self.pump();
            let Some((tag, outcome)) = self.disk.finished() else { break };
            news |= self.take(tag, outcome);
        }
        let now = self.disk.now();
        let late = |flight: &&Flight| now.saturating_sub(flight.started) > self.timeout;
        if let Some(read) = self.flights.iter().find(late).map(|flight| flight.read) {
            self.dead = self.error(read, StoreReason::Timeout);
        }
        self.dead.map_or(Ok(()), Err)?;
        self.report().map_or(Ok(news), Err)
    }

    /// The error of a slot of which nothing is on its way any more.
    fn report(&mut self) -> Option<StoreError> {
        if self.failing == 0 {
            return None;
        }
        let flights = &self.flights;
        let mut slots = self.slots.iter_mut().enumerate();
        let settled = |i: usize| flights.iter().all(|flight| flight.read.slot != i);
        let (_, slot) = slots.find(|(i, slot)| slot.failure.is_some() && settled(*i))?;
        self.failing -= 1;
        core::mem::take(slot).failure
    }
}

impl<D: Disk> ExpertStore for Store<D> {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn layout(&self, layer: usize, part: Part) -> Layout {
        self.extent(layer, part).layout
    }

    fn start(&mut self, slot: SlotId, key: ExpertKey) {
        if self.dead.is_some() {
            return;
        }
        debug_assert!(self.flights.iter().all(|flight| flight.read.slot != slot.0));
        self.slots[slot.0] = Slot { key: Some(key), ..Slot::default() };
        self.waiting.extend(Part::ALL.map(|part| Read { slot: slot.0, part }));
        self.pump();
    }

    fn is_ready(&self, slot: SlotId, part: Part) -> bool {
        self.slots[slot.0].ready[part as usize]
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.flights.is_empty()
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.dead.map_or(Ok(()), Err)
    }

    fn poll(&mut self) -> Result<(), StoreError> {
        self.collect().map(|_| ())
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        let start = self.disk.now();
        let mut result = self.collect();
        while result == Ok(false) && !self.is_idle() {
            self.disk.relax();
            result = self.collect();
        }
        self.figures.waited += Duration::from_micros(self.disk.now() - start);
        result.map(|_| ())
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.disk.now())
    }

    fn figures(&self) -> StoreFigures {
        self.figures
    }

    fn bytes(&self, slot: SlotId, part: Part) -> &[u8] {
        let Slot { key: Some(key), ready, .. } = self.slots[slot.0] else {
            panic!("slot {} is empty", slot.0)
        };
        assert!(ready[part as usize], "the {part} in slot {} is on its way", slot.0);
        let Extent { offset, bytes, .. } = self.extent(key.layer, part);
        let target = self.target(Read { slot: slot.0, part }, offset, bytes);
        // SAFETY: the part is ready: nothing is written to it until the slot is started again, which
        // takes the store by unique reference.
        unsafe { slice::from_raw_parts(target.cast::<u8>().as_ptr(), bytes) }
    }
}

impl<D> fmt::Debug for Store<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("slots", &self.slots.len())
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
