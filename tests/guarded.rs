//! Memory with pages around it that nobody may touch: who reads or writes a byte too far is ended by the system.
//!
//! A test binary that guards its memory says `#[global_allocator] static GUARDED: Guarded = Guarded;`.

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use wick_linux::page_size;

/// Of so many pieces of memory, one begins behind a guarded page; the others end before one.
const AT_START: usize = 8;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// An allocator that takes pages of its own for each piece of memory, and one before and one behind them.
#[derive(Debug)]
pub struct Guarded;

/// Bytes of the pages that a piece of memory has, without those around it.
fn pages(layout: Layout) -> usize {
    layout.size().next_multiple_of(page_size())
}

// SAFETY: each piece has pages of its own, of the size and, since a page is a multiple of it, the alignment that
// were asked for; they go when it does.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (page, pages) = (page_size(), pages(layout));
        if layout.align() > page {
            return null_mut();
        }
        // SAFETY: new pages, wherever the system likes.
        let found = unsafe {
            mmap_anonymous(null_mut(), pages + 2 * page, ProtFlags::empty(), MapFlags::PRIVATE)
        };
        let Ok(start) = found.map(<*mut _>::cast::<u8>) else { return null_mut() };
        let is_at_start = COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(AT_START);
        let before = if is_at_start { 0 } else { (pages - layout.size()) & !(layout.align() - 1) };
        let open = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the pages between the first and the last, which nobody knows yet.
        let opened = unsafe { mprotect(start.add(page).cast(), pages, open) };
        // SAFETY: less than a page behind the first of them.
        opened.map_or(null_mut(), |()| unsafe { start.add(page + before) })
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let (page, pages) = (page_size(), pages(layout));
        // SAFETY: the memory lies in the second of its pages, and nobody uses it any more.
        let ended = unsafe { munmap(at.sub(at.addr() % page + page).cast(), pages + 2 * page) };
        debug_assert!(ended.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_ends_or_begins_at_a_page_and_is_aligned() {
        let page = page_size();
        for size in [1, 3, 40, page - 1, page, page + 1, 3 * page] {
            for align in [1, 4, 64] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the layout has a size, the memory is written within it, and freed as it was taken.
                let (start, end) = unsafe {
                    let at = Guarded.alloc(layout);
                    at.write_bytes(1, size);
                    let place =
                        (at.addr() % page, (at.addr() + size).next_multiple_of(align) % page);
                    assert!(at.addr().is_multiple_of(align));
                    Guarded.dealloc(at, layout);
                    place
                };
                assert!(start == 0 || end == 0, "{size} bytes, {align}");
            }
        }
    }
}
