//! The door to the experts that are not in memory: what the core asks of a platform that keeps them
//! in a file, on a raw device, or behind anything else that reads.
//!
//! The core keeps the book of who lies in which slot and what is on its way; the platform has the
//! memory of the slots, reads into it and tells when a read has ended. Because submitting a read takes
//! the store by unique reference and lending bytes by shared reference, nothing is read into bytes
//! that somebody still holds.

pub(crate) use crate::role::Part;
use core::fmt;
use core::ops::Range;
use core::time::Duration;
use wick_kernels::Layout;

/// An expert of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExpertKey {
    /// Layer, from 0.
    pub layer: usize,
    /// Expert of the layer, from 0.
    pub expert: usize,
}

/// A place in memory that holds one expert of any layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(pub usize);

/// Experts that are read into slots.
pub trait ExpertStore: Sync {
    /// The slots that there are.
    fn slots(&self) -> SlotClass;

    /// Where a part of an expert lies, and what it is; or the low-bit copy of the part, which stands
    /// in a slot like the part itself and differs in its values alone. `None` if there is no copy: it
    /// has all parts of all experts of a layer, or none.
    fn place(&self, key: ExpertKey, part: Part, low_bit: bool) -> Option<Place>;

    /// Called once before each pass over the layers: time to see whether what is read from is still
    /// what it was. An error ends the pass before it begins.
    fn check(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Begins a read, and never waits. Reads are begun in the order in which they are submitted. The
    /// core submits none for a part that is on its way, and lets another expert into a slot only when
    /// nothing is on its way there.
    fn submit(&mut self, read: Read);

    /// A read that has ended, each told once, in any order. If there is none, waits for one so long
    /// (not at all for zero); `None` if none has ended then. A platform without a clock may wait on as
    /// long as something is on its way.
    fn complete(&mut self, wait: Duration) -> Option<Completion>;

    /// The bytes of a part of the expert that was last submitted for a slot.
    ///
    /// # Panics
    /// If the part is on its way.
    fn lend(&self, slot: SlotId, part: Part) -> &[u8];

    /// Gives the memory of a [spare](SlotClass::spare) slot back to the system until something is read
    /// into it again. Nothing is on its way there.
    fn vacate(&mut self, _slot: SlotId) {}

    /// Gives the whole pages in some memory of the engine back to the system. Nobody relies on what
    /// stands there afterwards.
    fn release(&self, _memory: &mut [u8]) {}

    /// The time since some moment; always zero where there is no clock, and then nothing is read on a
    /// guess.
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    /// How long no read may end before those on their way count as lost.
    fn time_limit(&self) -> Duration {
        TIME_LIMIT
    }
}

/// How long no read may end, unless a platform says otherwise.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Slots of one size, counted from 0; each takes all parts of an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotClass {
    /// How many.
    pub count: usize,
    /// Bytes from one to the next.
    pub stride: usize,
    /// Of these, the last so many are spare: their memory is promised to keys, values and activations,
    /// and [given back](ExpertStore::vacate) slot by slot when these need it.
    pub spare: usize,
    /// Bytes of a page, which is what memory is given back by.
    pub page: usize,
}

impl SlotClass {
    /// Slots none of which is spare.
    pub const fn new(count: usize, stride: usize) -> SlotClass {
        SlotClass { count, stride, spare: 0, page: 1 }
    }
}

/// Where a part lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which of the model's files, from 0.
    pub file: usize,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Bytes there.
    pub bytes: usize,
    /// How it is arranged in a slot.
    pub layout: Layout,
    /// CRC-32 of the bytes, if one is on record.
    pub checksum: Option<u32>,
}

/// A read of a part into a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The slot, which has no other expert than this until the read has ended.
    pub slot: SlotId,
    /// The expert.
    pub key: ExpertKey,
    /// What of it.
    pub part: Part,
    /// Whether it is the low-bit copy.
    pub low_bit: bool,
    /// Which bytes of the part; those before have come.
    pub range: Range<usize>,
}

/// A read that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The slot of the read.
    pub slot: SlotId,
    /// The part.
    pub part: Part,
    /// How it ended.
    pub result: Result<Arrival, ReadError>,
}

/// A part that has come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Bytes that were read for it, with all that was read around it.
    pub bytes: usize,
    /// CRC-32 of the part as it lies in its place, if [one is on record](Place::checksum).
    pub checksum: Option<u32>,
}

/// A read that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Why.
    pub reason: StoreReason,
    /// Whether it may go well when it is made again. If it was [short](StoreReason::Short), only what
    /// is missing is then read.
    pub may_pass: bool,
}

/// What was read from a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Parts that came.
    pub reads: u64,
    /// Bytes that they brought.
    pub bytes: u64,
    /// Reads that were made again.
    pub retries: u64,
    /// Time in which something was on its way.
    pub busy: Duration,
    /// Time that was spent waiting in [`ExpertStore::complete`].
    pub waited: Duration,
}

/// An expert could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// The expert; `None` if all reads are concerned.
    pub at: Option<(ExpertKey, Part)>,
    /// Which of the model's files, from 0.
    pub file: usize,
    /// Where in the file the read began, in bytes.
    pub offset: u64,
    /// What went wrong.
    pub reason: StoreReason,
}

/// Why an expert could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreReason {
    /// The system or the device refused, with this error number.
    Refused {
        /// `errno` on Linux, a status of the device elsewhere.
        code: i32,
    },
    /// The file ends before the matrix does.
    Short {
        /// Bytes that were to be read.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// The bytes are not those that were packed.
    Checksum {
        /// CRC-32 that the file has on record.
        expected: u32,
        /// CRC-32 of the bytes.
        found: u32,
    },
    /// The file has been written to, or replaced, since the model was loaded.
    Changed,
    /// The device did not answer in time.
    Timeout,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((ExpertKey { layer, expert }, part)) = self.at {
            write!(
                f,
                "blk.{layer}.{}.weight, expert {expert}, at byte {}: ",
                part.tensor(),
                self.offset
            )?;
        }
        match self.reason {
            StoreReason::Refused { code } => write!(f, "reading failed with error {code}"),
            StoreReason::Short { expected, found } => write!(
                f,
                "{expected} bytes expected, {found} found; the file ends too early: copy it again"
            ),
            StoreReason::Checksum { expected, found } => write!(
                f,
                "CRC-32 {expected:08x} expected, {found:08x} found; the file is damaged: copy or \
                 pack it again"
            ),
            StoreReason::Changed => {
                f.write_str("the file has changed since the model was loaded; load it again")
            }
            StoreReason::Timeout => f.write_str("the device does not answer"),
        }
    }
}

impl core::error::Error for StoreError {}
