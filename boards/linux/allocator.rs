//! The system's allocator, for a program that ends in order where memory is refused.
//!
//! Rust aborts such a process, and leaves its terminal and its unfinished files as they are. What may well be
//! refused, and what is large, is asked for in other ways: with [`Refusal::check`], or as a map.

use crate::refusal::Refusal;
use rustix::thread::gettid;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

/// The exit code of a process that gets too little memory, as the command line has it.
const EXIT: libc::c_int = 4;

/// The system's allocator. Where it refuses memory, the process ends with one line on stderr and exit code 4.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

/// What is done last.
static LAST: OnceLock<fn()> = OnceLock::new();

impl Allocator {
    /// Prepares the process, before it has a second thread: `last` is what it does last where memory is
    /// refused, without any memory more.
    pub fn prepare(last: fn()) {
        let _set_before = LAST.set(last);
        // SAFETY: sets a number. By itself each thread would take 64 MiB of address space.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Gives back to the system what is not used of the memory that was asked for.
pub fn trim() {
    // SAFETY: touches nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

// SAFETY: all is done by the system's allocator, as its caller promises; what it refuses is not returned.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        granted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        granted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        granted(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What was asked for, if there was memory for it.
#[inline]
fn granted(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() { end(bytes) } else { pointer }
}

/// Ends the process. Nothing here takes memory.
#[cold]
fn end(bytes: usize) -> ! {
    static ENDS: AtomicI32 = AtomicI32::new(0);
    let this = gettid().as_raw_nonzero().get();
    match ENDS.compare_exchange(0, this, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            let mut line = Line { text: [0; 256], len: 0 };
            let _cut = writeln!(line, "wick: {}", Refusal { bytes });
            // SAFETY: the bytes are there. Nobody is left to tell if they cannot be written.
            unsafe { libc::write(2, line.text.as_ptr().cast(), line.len) };
            LAST.get().inspect(|last| last());
        }
        // What is done last took memory all the same.
        Err(other) if other == this => {}
        // Another thread ends the process.
        Err(_) => loop {
            thread::sleep(Duration::from_secs(1));
        },
    }
    // SAFETY: ends the process and nothing else.
    unsafe { libc::_exit(EXIT) }
}

/// A line of text, cut where it is too long.
struct Line {
    text: [u8; 256],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let rest = &mut self.text[self.len..];
        let count = text.len().min(rest.len());
        rest[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        Ok(())
    }
}
