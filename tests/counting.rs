//! Counting what a test allocates.
//!
//! A test binary that counts says `#[global_allocator] static COUNTING: Counting = Counting;`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

static PROCESS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting the bytes that are asked for.
#[derive(Debug)]
pub struct Counting;

/// Bytes that this thread has asked for, freed ones included.
pub fn thread_bytes() -> usize {
    THREAD.get()
}

/// Bytes that all threads have asked for, freed ones included.
pub fn process_bytes() -> usize {
    PROCESS.load(Ordering::SeqCst)
}

fn count(bytes: usize) {
    PROCESS.fetch_add(bytes, Ordering::SeqCst);
    // While a thread ends, its counter may be gone.
    let _ = THREAD.try_with(|total| total.set(total.get() + bytes));
}

// SAFETY: every call is passed on to the system's allocator with the arguments that came in.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}
