//! The door to the experts that are not in memory: what the core asks of a platform that keeps them
//! in a file, on a raw device, or behind anything else that reads.
//!
//! The core decides which expert lies in which slot; the platform owns the memory of the slots and
//! the reads into it. Because starting a read takes the store by unique reference and lending bytes
//! by shared reference, nothing is read into bytes that somebody still holds.

pub(crate) use crate::role::Part;
use core::fmt;
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
    /// Number of slots; they are counted from 0.
    fn slots(&self) -> usize;

    /// How a matrix is arranged in the slots.
    fn layout(&self, layer: usize, part: Part) -> Layout;

    /// Called once before each pass over the layers: time to see whether what is read from is still
    /// what it was. An error ends the pass before it begins.
    fn begin(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Begins to read an expert into a slot, gate first, and never waits. What the slot held is gone.
    /// Reads are made in the order in which they were started. The core never starts a read into a
    /// slot while one is on its way there.
    fn start(&mut self, slot: SlotId, key: ExpertKey);

    /// Begins to read a low-bit copy of an expert into a slot, where it stands like the expert itself
    /// and differs in its values alone, as [`ExpertStore::start`] would the expert. Tells whether there
    /// is one; if not, nothing has happened.
    fn start_low_bit(&mut self, _slot: SlotId, _key: ExpertKey) -> bool {
        false
    }

    /// Whether a part of the expert that was last started in a slot is there.
    fn is_ready(&self, slot: SlotId, part: Part) -> bool;

    /// Whether no reads are on their way.
    fn is_idle(&self) -> bool;

    /// Takes note of the parts that have come, without waiting.
    fn poll(&mut self) -> Result<(), StoreError>;

    /// Waits until at least one more part has come than the last [`ExpertStore::poll`] or
    /// [`ExpertStore::finish`] took note of; returns at once if nothing is on its way.
    ///
    /// An expert whose read fails for good is reported once, here or by `poll`; nothing of it is on
    /// its way then, and it is not ready. Other reads go on.
    fn finish(&mut self) -> Result<(), StoreError>;

    /// The bytes of a part.
    ///
    /// # Panics
    /// If the part is not ready.
    fn bytes(&self, slot: SlotId, part: Part) -> &[u8];

    /// The time since some moment; always zero where there is no clock, and then nothing is read on a
    /// guess.
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    /// What was read so far.
    fn figures(&self) -> StoreFigures {
        StoreFigures::default()
    }
}

/// What a store has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Reads that ended well.
    pub reads: u64,
    /// Bytes that they brought.
    pub bytes: u64,
    /// Reads that were made again.
    pub retries: u64,
    /// Time in which something was on its way.
    pub busy: Duration,
    /// Time that was spent waiting in [`ExpertStore::finish`].
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
