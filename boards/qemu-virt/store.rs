//! Experts of a packed file on a disk, read into slots.

use crate::disk::{Disk, SECTOR};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use core::slice;
use core::time::Duration;
use wick_core::{
    Arrival, Completion, ExpertKey, ExpertStore, Part, Place, Read, ReadError, SlotClass, SlotId,
    StoreError, StoreReason,
};
use wick_kernels::Layout;

/// Parts of an expert.
const PARTS: usize = Part::ALL.len();

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
    memory: NonNull<u8>,
    stride: usize,
    slots: Vec<Tenant>,
    waiting: VecDeque<Read>,
    /// Reads that the disk has.
    flights: Vec<Read>,
    /// A read that it refused, which is not told yet; none is started until it is.
    refused: Option<(Read, i32)>,
    time_limit: Duration,
}

/// Whose a slot's memory is.
#[derive(Clone, Copy, Default)]
struct Tenant {
    /// The expert that was last submitted.
    key: Option<ExpertKey>,
    /// Of each part: whether it was submitted for this expert, and is not on its way any more.
    is_there: [bool; PARTS],
    /// Of each part: whether it is in line, or being read into.
    is_open: [bool; PARTS],
}

/// What the disk calls a read.
fn tag(read: &Read) -> u32 {
    (read.slot.0 * PARTS + read.part as usize) as u32
}

// SAFETY: shared references only read: the tables, and parts that are ready, which nobody writes to.
unsafe impl<D: Sync> Sync for Store<D> {}

impl<D: Disk> Store<D> {
    /// Bytes of a slot that takes an expert of any layer.
    pub fn slot_bytes(layers: &[Extents]) -> usize {
        layers.iter().map(|layer| layer.stride).max().unwrap_or(0)
    }

    /// A store with as many slots as `memory` has room for. `checksums` are those of the parts of each
    /// expert of each layer, in this order; no read ends for `timeout` microseconds before those on
    /// their way count as lost.
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
        let parts = layers.len() * PARTS;
        assert!(parts > 0 && checksums.len().is_multiple_of(parts), "a checksum for each part");
        let stride = Store::<D>::slot_bytes(&layers);
        let slots = memory.len() / stride.max(1);
        let store = Store {
            experts: checksums.len() / parts,
            checksums,
            memory: NonNull::from(memory).cast(),
            stride,
            slots: vec![Tenant::default(); slots],
            waiting: VecDeque::with_capacity(slots * PARTS),
            flights: Vec::with_capacity(disk.depth()),
            refused: None,
            time_limit: Duration::from_micros(timeout),
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

    /// `len` bytes of a slot's memory.
    fn target(&self, slot: SlotId, offset: usize, len: usize) -> NonNull<[u8]> {
        assert!(slot.0 < self.slots.len() && offset + len <= self.stride);
        // SAFETY: the slot lies in the memory, and the bytes in the slot.
        let start = unsafe { self.memory.add(slot.0 * self.stride + offset) };
        NonNull::slice_from_raw_parts(start, len)
    }

    /// Starts reads in line, as many as the disk takes.
    fn pump(&mut self) {
        while self.refused.is_none() && self.flights.len() < self.disk.depth() {
            let Some(read) = self.waiting.pop_front() else { break };
            let Extent { offset, .. } = self.extent(read.key.layer, read.part);
            let (first, end) = (read.range.start / SECTOR * SECTOR, read.range.end);
            let len = end.next_multiple_of(SECTOR) - first;
            let target = self.target(read.slot, offset + first, len);
            let at = self.offset(read.key, read.part) + first as u64;
            // SAFETY: the disk has room; the part is open, so nobody has its bytes, and it is in line
            // once.
            match unsafe { self.disk.start(tag(&read), at, target) } {
                Ok(()) => self.flights.push(read),
                Err(code) => self.refused = Some((read, code)),
            }
        }
    }

    /// A read that has ended, and how.
    fn ended(&mut self) -> Option<(Read, Result<(), i32>)> {
        self.pump();
        if let Some((read, code)) = self.refused.take() {
            return Some((read, Err(code)));
        }
        loop {
            let (name, outcome) = self.disk.finished()?;
            if let Some(place) = self.flights.iter().position(|read| tag(read) == name) {
                let read = self.flights.swap_remove(place);
                self.pump();
                return Some((read, outcome));
            }
        }
    }

    /// What has come with a read that has ended well.
    fn arrival(&self, read: &Read) -> Arrival {
        let Extent { offset, bytes, .. } = self.extent(read.key.layer, read.part);
        let target = self.target(read.slot, offset, bytes);
        // SAFETY: the read has ended, and its part is lent to nobody before that is told.
        let checksum = crc32fast::hash(unsafe { target.as_ref() });
        Arrival { bytes, checksum: Some(checksum) }
    }
}

impl<D: Disk> ExpertStore for Store<D> {
    fn slots(&self) -> SlotClass {
        SlotClass::new(self.slots.len(), self.stride)
    }

    fn place(&self, key: ExpertKey, part: Part, low_bit: bool) -> Option<Place> {
        let Extent { bytes, layout, .. } = self.extent(key.layer, part);
        let index = (key.layer * self.experts + key.expert) * PARTS + part as usize;
        let (offset, checksum) = (self.offset(key, part), Some(self.checksums[index]));
        (!low_bit).then_some(Place { file: 0, offset, bytes, layout, checksum })
    }

    fn submit(&mut self, read: Read) {
        let (tenant, part) = (&mut self.slots[read.slot.0], read.part as usize);
        if tenant.key != Some(read.key) {
            assert!(tenant.is_open == [false; PARTS], "slot {} is being read into", read.slot.0);
            *tenant = Tenant { key: Some(read.key), ..Tenant::default() };
        }
        assert!(!tenant.is_open[part], "the {} is on its way to slot {}", read.part, read.slot.0);
        (tenant.is_open[part], tenant.is_there[part]) = (true, false);
        self.waiting.push_back(read);
        self.pump();
    }

    fn complete(&mut self, wait: Duration) -> Option<Completion> {
        let mut ended = self.ended();
        if ended.is_none() && !wait.is_zero() {
            let start = self.now();
            while ended.is_none()
                && self.waiting.len() + self.flights.len() > 0
                && self.now() - start < wait
            {
                self.disk.relax();
                ended = self.ended();
            }
        }
        let (read, outcome) = ended?;
        let (slot, part) = (read.slot, read.part);
        let refused = |code| ReadError { reason: StoreReason::Refused { code }, may_pass: true };
        let result = outcome.map(|()| self.arrival(&read)).map_err(refused);
        let tenant = &mut self.slots[slot.0];
        (tenant.is_open[part as usize], tenant.is_there[part as usize]) = (false, true);
        Some(Completion { slot, part, result })
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.disk.now())
    }

    fn time_limit(&self) -> Duration {
        self.time_limit
    }

    fn lend(&self, slot: SlotId, part: Part) -> &[u8] {
        let Tenant { key: Some(key), is_there, .. } = self.slots[slot.0] else {
            panic!("slot {} is empty", slot.0)
        };
        assert!(is_there[part as usize], "the {part} is not in slot {}", slot.0);
        let Extent { offset, bytes, .. } = self.extent(key.layer, part);
        let target = self.target(slot, offset, bytes);
        // SAFETY: nothing is on its way to the part: nothing is written to it until it is submitted
        // again, which takes the store by unique reference.
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
