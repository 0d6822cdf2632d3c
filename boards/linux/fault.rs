//! Mapped files that can no longer be read: cut short, on a bad sector, on a device that is gone.
//!
//! The system sends SIGBUS to the thread that reads such a page. A handler puts zeros in place of the rest of the
//! map and takes note, and the thread goes on with zeros. Whoever reads asks [`Watch::has_failed`] before what was
//! made of them is believed. Nothing is unwound, and a signal for other memory ends the process as ever.

use libc::{c_int, c_void, siginfo_t};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::ops::Range;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Maps that are watched at once, at most.
const MOST: usize = 256;

/// A map that is watched; free while both ends are 0.
struct Place {
    start: AtomicUsize,
    /// Set last, and taken back first: an end of 0 covers nothing.
    end: AtomicUsize,
    has_failed: AtomicBool,
}

static PLACES: [Place; MOST] = [const {
    Place {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        has_failed: AtomicBool::new(false),
    }
}; MOST];

/// Watches over the pages of a map, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    place: &'static Place,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.start.load(Ordering::Relaxed))
    }
}

impl Watch {
    /// Watches over a map; `None` if too many are watched over already, and their faults end the
    /// process.
    ///
    /// # Safety
    /// The addresses are those of one map of whole pages, which is not written to and outlives the watch.
    pub(crate) unsafe fn over(map: Range<usize>) -> Option<Watch> {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(install);
        let claim = |place: &&Place| {
            let (order, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
            place.start.compare_exchange(0, map.start, order, relaxed).is_ok()
        };
        let place = PLACES.iter().find(claim)?;
        place.has_failed.store(false, Ordering::Relaxed);
        place.end.store(map.end, Ordering::Release);
        Some(Watch { place })
    }

    /// Whether some page could not be read, and zeros were read in its place.
    pub(crate) fn has_failed(&self) -> bool {
        self.place.has_failed.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.place.end.store(0, Ordering::Release);
        self.place.start.store(0, Ordering::Release);
    }
}

/// Bytes of a page, which a handler had better not ask for.
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// Bytes of a page of memory. Allocates nothing.
pub fn page_size() -> usize {
    // SAFETY: asks for a number, which every system has.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Sets the handler. Where that is refused, faults end the process as they always have.
fn install() {
    PAGE.store(page_size(), Ordering::Relaxed);
    // SAFETY: all fields may be zero, and those that matter are set. The handler does only what a
    // handler may.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut())
    };
    if result != 0 {
        log::debug!("no handler for SIGBUS: {}", std::io::Error::last_os_error());
    }
}

extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the system hands a valid structure to a handler that asks for it.
    let address = unsafe { (*info).si_addr() } as usize;
    let covers = |place: &&Place| {
        let end = place.end.load(Ordering::Acquire);
        (place.start.load(Ordering::Acquire)..end).contains(&address)
    };
    match PLACES.iter().find(covers) {
        Some(place) => {
            place.has_failed.store(true, Ordering::Release);
            zero(address, place.end.load(Ordering::Acquire));
        }
        None => {
            // Not ours: the instruction is run again, and ends the process.
            // SAFETY: the default is a valid disposition.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// The exit code of a process that cannot read its model, as the command line has it.
const EXIT: c_int = 3;

/// Maps zeros from the page of `address` to `end`. A handler may only make system calls.
fn zero(address: usize, end: usize) {
    let page = PAGE.load(Ordering::Relaxed);
    let start = address / page * page;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: these are pages of a watched map, which nobody writes to. Who reads them finds zeros, and
    // has been told not to believe what it reads before it asks.
    let mapped =
        unsafe { mmap_anonymous(start as *mut c_void, end - start, ProtFlags::READ, flags) };
    if mapped.is_err() {
        const SAID: &[u8] =
            b"wick: a model's file can no longer be read, nor zeros put in its place\n";
        // SAFETY: the bytes are there; both calls are allowed in a handler.
        unsafe {
            libc::write(2, SAID.as_ptr().cast(), SAID.len());
            libc::_exit(EXIT);
        }
    }
}
