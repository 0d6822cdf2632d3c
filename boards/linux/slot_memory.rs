//! Memory that is read into.

use crate::refusal::Refusal;
use memmap2::{Advice, MmapMut, MmapRaw};
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// Memory of its own pages, zeroed, in huge pages where the system has them.
#[derive(Debug)]
pub struct Memory {
    map: MmapRaw,
}

impl Memory {
    /// Takes `bytes` of memory, at least one. The system gives pages out when they are touched.
    pub fn new(bytes: usize) -> io::Result<Memory> {
        let map = MmapMut::map_anon(bytes.max(1)).map_err(Refusal::of(bytes))?;
        if let Err(error) = map.advise(Advice::HugePage) {
            log::debug!("no huge pages: {error}");
        }
        Ok(Memory { map: map.into() })
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Never: there is always a byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Where `range` of it lies, for reads into it.
    ///
    /// # Panics
    /// If the range is not inside.
    pub fn target(&self, range: Range<usize>) -> NonNull<u8> {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} is outside");
        // SAFETY: the start is inside the map, or its end.
        let start = unsafe { self.map.as_mut_ptr().add(range.start) };
        NonNull::new(start).expect("maps are not at address 0")
    }

    /// All of it, while nobody reads into it.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the map is `len` initialized bytes, and borrowed for as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr(), self.map.len()) }
    }
}
