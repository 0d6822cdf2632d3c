//! Disks that read in the background, and a read whose end is waited for, but not for ever.

use core::ptr::NonNull;
use wick_core::{StoreError, StoreReason};

/// Offsets and lengths of reads are multiples of this.
pub const SECTOR: usize = 512;
/// Reads of a part of the disk are made in pieces of this size.
const PIECE: usize = 64 << 10;
/// How often a read that failed is made again.
pub const RETRIES: u8 = 2;

/// A disk with room for several reads on their way, which end in any order.
///
/// # Safety
/// Once a read has [finished](Disk::finished), its target is not written to any more.
pub unsafe trait Disk: Sync {
    /// Bytes of the disk.
    fn capacity(&self) -> u64;

    /// Most reads on their way.
    fn depth(&self) -> usize;

    /// Begins a read and does not wait for it. `tag` names it when it has finished.
    ///
    /// # Errors
    /// The number of the error with which the disk refuses.
    ///
    /// # Safety
    /// Fewer than [`Disk::depth`] reads are on their way, none of this tag; until this one has finished,
    /// nobody else uses the target.
    unsafe fn start(&mut self, tag: u32, offset: u64, target: NonNull<[u8]>) -> Result<(), i32>;

    /// A read that has finished, and the number of its error if it failed.
    fn finished(&mut self) -> Option<(u32, Result<(), i32>)>;

    /// Microseconds since some time in the past.
    fn now(&self) -> u64;

    /// Lets a moment pass.
    fn relax(&self) {
        core::hint::spin_loop();
    }
}

/// Reads the first `len` bytes of `target` from the disk, several pieces at a time, and gives `target`
/// back; `timeout` is in microseconds.
///
/// # Errors
/// What went wrong, and with which piece. The memory is then lost, since a disk that does not answer may
/// still write to it.
///
/// # Panics
/// If `len` is more than `target` has.
pub fn read<D: Disk>(
    disk: &mut D,
    offset: u64,
    target: &'static mut [u8],
    len: usize,
    timeout: u64,
) -> Result<&'static mut [u8], StoreError> {
    assert!(len <= target.len(), "{len} bytes into {}", target.len());
    let found = disk.capacity().saturating_sub(offset);
    if found < len as u64 {
        return Err(error(offset, StoreReason::Short { expected: len, found: found as usize }));
    }
    let base = NonNull::from(&mut *target).cast::<u8>();
    let pieces = len.div_ceil(PIECE);
    let mut flights = heapless::Vec::<Flight, 16>::new();
    let depth = disk.depth().min(flights.capacity());
    let mut next = 0;
    let mut failure = None;
    while !flights.is_empty() || (next < pieces && failure.is_none()) {
        while next < pieces && failure.is_none() && flights.len() < depth {
            let flight = Flight { piece: next, started: disk.now(), attempts: 0 };
            match flight.start(disk, offset, base, len) {
                Ok(()) => _ = flights.push(flight),
                Err(reason) => failure = Some(error(flight.at(offset), reason)),
            }
            next += 1;
        }
        let now = disk.now();
        if let Some(late) = flights.iter().find(|f| now.saturating_sub(f.started) > timeout) {
            return Err(error(late.at(offset), StoreReason::Timeout));
        }
        let Some((tag, outcome)) = disk.finished() else {
            disk.relax();
            continue;
        };
        let Some(place) = flights.iter().position(|f| f.piece == tag as usize) else { continue };
        let mut flight = flights.swap_remove(place);
        let Err(code) = outcome else { continue };
        flight.attempts += 1;
        let again = flight.attempts <= RETRIES && failure.is_none();
        match if again { flight.start(disk, offset, base, len) } else { Err(refused(code)) } {
            Ok(()) => _ = flights.push(flight),
            Err(reason) => failure = failure.or(Some(error(flight.at(offset), reason))),
        }
    }
    failure.map_or(Ok(target), Err)
}

/// A piece on its way.
struct Flight {
    piece: usize,
    started: u64,
    attempts: u8,
}

impl Flight {
    /// Where on the disk the piece begins.
    fn at(&self, offset: u64) -> u64 {
        offset + (self.piece * PIECE) as u64
    }

    fn start<D: Disk>(
        &self,
        disk: &mut D,
        offset: u64,
        base: NonNull<u8>,
        len: usize,
    ) -> Result<(), StoreReason> {
        let start = self.piece * PIECE;
        // SAFETY: the piece lies in the target, which belongs to this read alone until all pieces have
        // finished; no two pieces on their way are the same.
        unsafe {
            let target = NonNull::slice_from_raw_parts(base.add(start), PIECE.min(len - start));
            disk.start(self.piece as u32, self.at(offset), target).map_err(refused)
        }
    }
}

fn refused(code: i32) -> StoreReason {
    StoreReason::Refused { code }
}

fn error(offset: u64, reason: StoreReason) -> StoreError {
    StoreError { at: None, file: 0, offset, reason }
}

#[cfg(test)]
pub(crate) mod fake {
    use super::*;
    use alloc::vec::Vec;
    use core::cell::Cell;

    /// A disk in memory with a clock of its own: a look at the clock takes a microsecond.
    pub(crate) struct Fake {
        pub(crate) bytes: Vec<u8>,
        /// Reads that fail: offset and how often.
        pub(crate) failing: Vec<(u64, usize)>,
        /// Whether reads from this offset on never finish.
        pub(crate) dead_from: u64,
        /// Most reads that were on their way at once.
        pub(crate) most: usize,
        on_their_way: Vec<(u32, u64, NonNull<[u8]>)>,
        clock: Cell<u64>,
        random: u32,
    }

    // SAFETY: the tests use it on one thread.
    unsafe impl Sync for Fake {}

    impl Fake {
        pub(crate) fn new(bytes: Vec<u8>) -> Fake {
            Fake {
                bytes,
                failing: Vec::new(),
                dead_from: u64::MAX,
                most: 0,
                on_their_way: Vec::new(),
                clock: Cell::new(0),
                random: 1,
            }
        }
    }

    // SAFETY: the target is written when the read finishes.
    unsafe impl Disk for Fake {
        fn capacity(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn depth(&self) -> usize {
            5
        }

        unsafe fn start(
            &mut self,
            tag: u32,
            offset: u64,
            target: NonNull<[u8]>,
        ) -> Result<(), i32> {
            assert!(offset.is_multiple_of(SECTOR as u64) && target.len().is_multiple_of(SECTOR));
            assert!(self.on_their_way.len() < 5 && self.on_their_way.iter().all(|r| r.0 != tag));
            self.on_their_way.push((tag, offset, target));
            self.most = self.most.max(self.on_their_way.len());
            Ok(())
        }

        fn finished(&mut self) -> Option<(u32, Result<(), i32>)> {
            self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let count = self.on_their_way.len().max(1);
            let place = (self.random >> 16) as usize % (2 * count);
            let (tag, offset, target) = *self.on_their_way.get(place)?;
            if offset >= self.dead_from {
                return None;
            }
            self.on_their_way.remove(place);
            for (failing, times) in &mut self.failing {
                if *failing == offset && *times > 0 {
                    *times -= 1;
                    return Some((tag, Err(1)));
                }
            }
            let source = &self.bytes[offset as usize..][..target.len()];
            // SAFETY: the target is this read's alone until it has finished.
            unsafe { target.cast::<u8>().copy_from(NonNull::from(&source[0]), source.len()) };
            Some((tag, Ok(())))
        }

        fn now(&self) -> u64 {
            self.clock.set(self.clock.get() + 1);
            self.clock.get()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::Fake;
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn disk() -> Fake {
        Fake::new((0..10 * PIECE + 3 * SECTOR).map(|i| (i * 7 / 5) as u8).collect())
    }

    fn read_all(disk: &mut Fake, offset: usize) -> Result<&'static mut [u8], StoreError> {
        let target = vec![0; disk.bytes.len() - offset].leak();
        let len = target.len();
        read(disk, offset as u64, target, len, 100_000)
    }

    #[test]
    fn pieces_come_in_any_order() {
        let mut disk = disk();
        let found = read_all(&mut disk, SECTOR).unwrap();
        assert!(*found == disk.bytes[SECTOR..]);
        assert_eq!(disk.most, 5);
        assert_eq!(read(&mut disk, 0, &mut [], 0, 1).map(|bytes| bytes.len()), Ok(0));
    }

    #[test]
    fn a_failing_piece_is_read_again() {
        let mut disk = disk();
        disk.failing = vec![(0, 2), (PIECE as u64, 1)];
        let expected: Vec<u8> = disk.bytes.clone();
        assert!(*read_all(&mut disk, 0).unwrap() == *expected);
        disk.failing = vec![(PIECE as u64, 3)];
        let error = read_all(&mut disk, 0).unwrap_err();
        assert_eq!((error.offset, error.reason), (PIECE as u64, StoreReason::Refused { code: 1 }));
    }

    #[test]
    fn a_disk_that_is_silent_or_short_is_an_error() {
        let mut silent = disk();
        silent.dead_from = 3 * PIECE as u64;
        let error = read_all(&mut silent, 0).unwrap_err();
        assert_eq!((error.offset, error.reason), (3 * PIECE as u64, StoreReason::Timeout));
        let mut disk = disk();
        let target = vec![0; disk.bytes.len()].leak();
        let (expected, found) = (target.len(), target.len() - SECTOR);
        let error = read(&mut disk, SECTOR as u64, target, expected, 9).unwrap_err();
        assert_eq!(error.reason, StoreReason::Short { expected, found });
    }
}
