//! Memory that is read into, and memory that is given back.

use crate::fault::page_size;
use crate::refusal::Refusal;
use memmap2::{Advice, MmapMut, MmapRaw};
use rustix::io::Errno;
use rustix::mm::{Advice as PageAdvice, madvise};
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// Memory of its own pages, zeroed. The first part is in huge pages where the system has them, the rest in
/// small ones, which can be given back.
#[derive(Debug)]
pub struct Memory {
    map: MmapRaw,
    huge: usize,
}

impl Memory {
    /// Takes `bytes` of memory, at least one. The system gives pages out when they are touched.
    pub fn new(bytes: usize) -> io::Result<Memory> {
        Memory::with_spare(bytes, 0)
    }

    /// The same with `spare` bytes in small pages behind it.
    pub fn with_spare(huge: usize, spare: usize) -> io::Result<Memory> {
        let bytes = huge.checked_add(spare).ok_or(Errno::NOMEM)?;
        let map = MmapMut::map_anon(bytes.max(1)).map_err(Refusal::of(bytes))?;
        let pages = [(Advice::HugePage, 0, huge), (Advice::NoHugePage, huge, spare)];
        for (advice, start, len) in pages.into_iter().filter(|(_, _, len)| *len > 0) {
            if let Err(error) = map.advise_range(advice, start, len) {
                log::debug!("{advice:?}: {error}");
            }
        }
        Ok(Memory { map: map.into(), huge })
    }

    /// Bytes that are not spare.
    pub fn lasting(&self) -> usize {
        self.huge
    }

    /// Gives the whole pages in a range back to the system, which gives new ones of zeros when they are touched.
    ///
    /// # Panics
    /// If the range is not inside the spare part.
    pub(crate) fn vacate(&self, range: Range<usize>) {
        assert!(self.huge <= range.start, "{range:?} is not spare");
        let target = self.target(range.clone());
        // SAFETY: the range is inside the map, whose bytes may change behind a shared reference to it.
        unsafe { give_back(target, range.len()) };
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

/// Gives the whole pages in some memory back to the system. What stands there afterwards is zeros, or what stood
/// there before.
pub(crate) fn release(memory: &mut [u8]) {
    let start = NonNull::from(&mut *memory).cast();
    // SAFETY: the bytes are borrowed uniquely, and any bytes will do.
    unsafe { give_back(start, memory.len()) };
}

/// Gives the pages that lie wholly inside `len` bytes back to the system.
///
/// # Safety
/// The bytes belong to the caller, who lets them become others.
unsafe fn give_back(start: NonNull<u8>, len: usize) {
    let page = page_size();
    // A page that is only partly inside has bytes of somebody else's.
    let skip = start.as_ptr().align_offset(page);
    let whole = len.saturating_sub(skip) / page * page;
    if whole == 0 {
        return;
    }
    // SAFETY: whole pages of what the caller owns.
    let advised =
        unsafe { madvise(start.as_ptr().add(skip).cast(), whole, PageAdvice::LinuxDontNeed) };
    if let Err(error) = advised {
        log::debug!("{whole} bytes are not given back: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_are_given_back() {
        let page = page_size();
        let mut memory = Memory::with_spare(2 * page, 6 * page).unwrap();
        memory.as_mut_slice().fill(7);
        memory.vacate(3 * page - 1..6 * page + 1);
        let zeros = |memory: &mut Memory| {
            let pages = memory.as_mut_slice().chunks(page);
            pages.map(|page| page.iter().filter(|b| **b == 0).count()).collect::<Vec<_>>()
        };
        assert_eq!(zeros(&mut memory), [0, 0, 0, page, page, page, 0, 0]);
        release(&mut memory.as_mut_slice()[page - 1..2 * page + 1]);
        release(&mut memory.as_mut_slice()[7 * page + 1..]);
        assert_eq!(zeros(&mut memory), [0, page, 0, page, page, page, 0, 0]);
    }

    #[test]
    #[should_panic(expected = "is not spare")]
    fn what_lasts_is_not_given_back() {
        Memory::with_spare(2 * page_size(), page_size()).unwrap().vacate(0..page_size());
    }
}
