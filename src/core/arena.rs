//! One piece of memory, cut once.

use bytemuck::Pod;
use core::fmt;

/// Every piece starts at a multiple of this, a cache line of all processors that matter.
pub(crate) const ALIGNMENT: usize = 64;

/// Memory that the caller hands over, from which parts are cut and never given back.
///
/// What takes its parts from an arena takes none if the arena only measures, so that one list of
/// parts says what they are and how much memory they need.
pub struct Arena<'m> {
    free: &'m mut [u8],
    used: usize,
    measures: bool,
}

impl<'m> Arena<'m> {
    /// An arena over `memory`, of which up to 63 bytes are lost at the start.
    pub fn new(memory: &'m mut [u8]) -> Arena<'m> {
        let skip = memory.as_ptr().align_offset(ALIGNMENT).min(memory.len());
        Arena { free: &mut memory[skip..], used: 0, measures: false }
    }

    /// An arena without memory that counts what would be cut from it, and gives empty parts.
    fn measuring() -> Arena<'m> {
        Arena { free: &mut [], used: 0, measures: true }
    }

    /// Bytes that `take` cuts from an arena; more than there can be where they cannot be counted.
    pub(crate) fn measure(take: impl FnOnce(&mut Arena<'_>) -> Result<(), ArenaError>) -> usize {
        let mut arena = Arena::measuring();
        match take(&mut arena) {
            Ok(()) => arena.used(),
            Err(_) => isize::MAX as usize / 4,
        }
    }

    /// Bytes that `len` elements of `T` take from an arena.
    pub const fn bytes_for<T>(len: usize) -> usize {
        (len * size_of::<T>()).next_multiple_of(ALIGNMENT)
    }

    /// Cuts `len` elements for `what`, holding whatever the memory held.
    pub fn take<T: Pod>(
        &mut self,
        what: &'static str,
        len: usize,
    ) -> Result<&'m mut [T], ArenaError> {
        const { assert!(ALIGNMENT.is_multiple_of(align_of::<T>())) };
        let bytes =
            len.checked_mul(size_of::<T>()).and_then(|b| b.checked_next_multiple_of(ALIGNMENT));
        if let Some(bytes) = bytes.filter(|_| self.measures) {
            self.used = self.used.saturating_add(bytes);
            return Ok(&mut []);
        }
        let free = core::mem::take(&mut self.free);
        match bytes {
            Some(bytes) if bytes <= free.len() => {
                let (piece, rest) = free.split_at_mut(bytes);
                self.free = rest;
                self.used += bytes;
                Ok(&mut bytemuck::cast_slice_mut(&mut piece[..len * size_of::<T>()])[..len])
            }
            _ => {
                let left = free.len();
                self.free = free;
                Err(ArenaError { what, wanted: bytes.unwrap_or(usize::MAX), left })
            }
        }
    }

    /// Bytes cut so far.
    pub fn used(&self) -> usize {
        self.used
    }
}

impl fmt::Debug for Arena<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena {{ used: {}, free: {} }}", self.used, self.free.len())
    }
}

/// The arena is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaError {
    /// What was to be cut.
    pub what: &'static str,
    /// Bytes that it takes.
    pub wanted: usize,
    /// Bytes that were left.
    pub left: usize,
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArenaError { what, wanted, left } = self;
        write!(f, "{what}: {wanted} bytes wanted, {left} left in the arena")
    }
}

impl core::error::Error for ArenaError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_counted() {
        let mut memory = [0u8; 512];
        let mut arena = Arena::new(&mut memory[1..]);
        let a = arena.take::<f32>("a", 3).unwrap();
        let b = arena.take::<u16>("b", 33).unwrap();
        assert_eq!((a.len(), b.len()), (3, 33));
        assert!(a.as_ptr().cast::<u8>().align_offset(ALIGNMENT) == 0);
        assert!(b.as_ptr().cast::<u8>().align_offset(ALIGNMENT) == 0);
        assert_eq!(arena.used(), 64 + 128);
    }

    #[test]
    fn measuring_counts_what_cutting_takes() {
        let mut arena = Arena::measuring();
        assert!(arena.take::<u64>("a", 9).unwrap().is_empty());
        assert!(arena.take::<u8>("b", 1).unwrap().is_empty());
        assert_eq!(arena.used(), 128 + 64);
        assert!(arena.take::<u64>("overflow", usize::MAX).is_err());
    }

    #[test]
    fn too_much_is_refused_and_nothing_is_lost() {
        let mut memory = [0u8; 256];
        let mut arena = Arena::new(&mut memory);
        let error = arena.take::<u64>("everything", 1000).unwrap_err();
        assert_eq!((error.what, error.wanted), ("everything", 8000));
        assert!(arena.take::<u64>("overflow", usize::MAX).is_err());
        assert!(arena.take::<u8>("a byte", 1).is_ok());
    }
}
