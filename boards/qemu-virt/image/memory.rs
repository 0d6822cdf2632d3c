//! Memory: the region that everything is cut from, a heap of fixed size, pages for virtio, the stack.

use crate::image::exit::{Exit, Failure};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use linked_list_allocator::Heap;
use spin::Mutex;

/// Where RAM begins.
const RAM: usize = 0x4000_0000;
/// What the translation table in `start.s` maps as memory ends here.
const MAPPED_END: usize = 0x8000_0000;
const STACK_PAINT: u64 = 0x7761_7820_7761_7820;
const PAGE: usize = virtio_drivers::PAGE_SIZE;
const PAGES: usize = 8;

unsafe extern "C" {
    static __image_end: u8;
    static _start: u8;
    static __stack_start: u8;
    static __stack_end: u8;
    static __heap_start: u8;
    static __heap_end: u8;
    static __region_start: u8;
    static __region_end: u8;
}

/// The address of a symbol of the linker's.
macro_rules! address {
    ($symbol:ident) => {
        &raw const $symbol as usize
    };
}

/// The region that the linker reserves, longer where the machine has more RAM.
///
/// # Errors
/// The machine has less RAM than the linker was told.
///
/// # Panics
/// If the region was asked for before.
pub(crate) fn region(ram_end: usize) -> Result<&'static mut [u8], Failure> {
    let (start, least) = (address!(__region_start), address!(__region_end));
    if ram_end < least {
        let mib = |end: usize| end.saturating_sub(RAM) >> 20;
        let message = format_args!("{} MiB of RAM expected, {} found", mib(least), mib(ram_end));
        return Err(Failure::new(Exit::Memory, message));
    }
    let end = ram_end.min(MAPPED_END);
    static TAKEN: AtomicBool = AtomicBool::new(false);
    assert!(!TAKEN.swap(true, Ordering::Relaxed), "the region is taken once");
    let (stack, heap) = (address!(__stack_start), address!(__heap_start));
    log::info!(
        "RAM: image {:#x} to {:#x}, stacks {stack:#x} to {heap:#x}, heap to {start:#x} ({} KiB), \
         region to {end:#x} ({} KiB)",
        address!(_start),
        address!(__image_end),
        (start - heap) >> 10,
        (end - start) >> 10,
    );
    // SAFETY: RAM that is mapped and in which the linker has placed nothing; handed out once.
    Ok(unsafe { slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(start), end - start) })
}

/// Gives the heap its memory.
///
/// # Safety
/// To be called once, before anything is allocated.
pub(crate) unsafe fn start_heap() {
    let (start, end) = (address!(__heap_start), address!(__heap_end));
    // SAFETY: the linker keeps this memory for the heap alone.
    unsafe { ALLOCATOR.0.lock().init(ptr::with_exposed_provenance_mut(start), end - start) };
}

struct Allocator(Mutex<Heap>);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(Mutex::new(Heap::empty()));

// SAFETY: the heap gives out memory that is valid, aligned and not given out twice.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(pointer) = NonNull::new(pointer) {
            // SAFETY: the caller had it from `alloc`, with this layout.
            unsafe { self.0.lock().deallocate(pointer, layout) };
        }
    }
}

/// Bytes of the heap in use.
pub(crate) fn heap_used() -> usize {
    ALLOCATOR.0.lock().used()
}

#[repr(C, align(4096))]
struct Pages([u8; PAGES * PAGE]);

static mut DEVICE_PAGES: Pages = Pages([0; PAGES * PAGE]);
static PAGES_USED: AtomicUsize = AtomicUsize::new(0);

/// Zeroed pages that devices may use, never given back; `None` if there are not so many left.
pub(crate) fn device_pages(count: usize) -> Option<NonNull<u8>> {
    let first = PAGES_USED.fetch_add(count, Ordering::Relaxed);
    let fits = first + count <= PAGES;
    // SAFETY: pages from `first` on lie in the array and are given out once.
    fits.then(|| unsafe {
        NonNull::new(&raw mut DEVICE_PAGES).map(|p| p.cast().add(first * PAGE))
    })?
}

/// Fills the part of the stack that is not in use, so that it is seen later how much was.
pub(crate) fn paint_stack() {
    let here = 0u64;
    let (mut at, end) = (address!(__stack_start), &raw const here as usize - 1024);
    while at < end {
        // SAFETY: below this function's frame, with room for what it calls.
        unsafe { ptr::with_exposed_provenance_mut::<u64>(at).write_volatile(STACK_PAINT) };
        at += size_of::<u64>();
    }
}

/// Most bytes of the stack that were ever in use, and how many it has.
pub(crate) fn stack_used() -> (usize, usize) {
    let (mut at, end) = (address!(__stack_start), address!(__stack_end));
    let size = end - at;
    // SAFETY: the stack is mapped; the part that is read is not in use.
    let word = |at| unsafe { ptr::with_exposed_provenance::<u64>(at).read_volatile() };
    while at < end && word(at) == STACK_PAINT {
        at += size_of::<u64>();
    }
    (end - at, size)
}
