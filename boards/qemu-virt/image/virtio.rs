//! The disk: a virtio block device.

use crate::image::exit::{Exit, Failure};
use crate::image::machine::Machine;
use crate::image::memory;
use crate::image::timer;
use alloc::boxed::Box;
use core::ptr::{self, NonNull};
use virtio_drivers::device::blk::{BlkReq, BlkResp, SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Error, Hal, PhysAddr};

/// The queue has 16 descriptors, and a read takes three: what is asked, where to, how it went.
const DEPTH: usize = 5;

struct Virt;

// SAFETY: memory is mapped where it lies, and devices see it as the processor does.
unsafe impl Hal for Virt {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let pages = memory::device_pages(pages);
        // The address 0 says that there are none left.
        pages.map_or((0, NonNull::dangling()), |p| (p.as_ptr() as PhysAddr, p))
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        let pointer = ptr::with_exposed_provenance_mut(address as usize);
        NonNull::new(pointer).expect("registers are not at 0")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// Room for a read. The device reads and writes it while the read is on its way.
struct Flight {
    /// What the device calls the read; `None` if there is none.
    token: Option<u16>,
    tag: u32,
    target: NonNull<[u8]>,
    request: BlkReq,
    response: BlkResp,
}

impl Flight {
    fn none() -> Flight {
        Flight {
            token: None,
            tag: 0,
            target: NonNull::slice_from_raw_parts(NonNull::dangling(), 0),
            request: BlkReq::default(),
            response: BlkResp::default(),
        }
    }
}

/// A virtio disk.
pub(crate) struct Disk {
    device: VirtIOBlk<Virt, MmioTransport<'static>>,
    /// Boxed, since the device has their addresses.
    flights: Box<[Flight; DEPTH]>,
}

// SAFETY: shared references only read what never changes.
unsafe impl Sync for Disk {}

impl Disk {
    /// The first disk of the machine.
    pub(crate) fn find(machine: &Machine) -> Result<Disk, Failure> {
        for (address, size) in &machine.virtio {
            let header = NonNull::new(ptr::with_exposed_provenance_mut(*address));
            // SAFETY: registers of a virtio device, as the device tree says; mapped for ever.
            let transport = header.map(|header| unsafe { MmioTransport::new(header, *size) });
            let Some(Ok(transport)) = transport else { continue };
            if transport.device_type() == DeviceType::Block {
                return Disk::new(transport, *address);
            }
        }
        let message = format_args!(
            "no disk: none of {} virtio devices is a block device (QEMU: -drive \
             file=FILE,if=none,format=raw,readonly=on,id=d0 -device virtio-blk-device,drive=d0)",
            machine.virtio.len()
        );
        Err(Failure::new(Exit::Model, message))
    }

    fn new(transport: MmioTransport<'static>, address: usize) -> Result<Disk, Failure> {
        let device = VirtIOBlk::new(transport)
            .map_err(|e| Failure::new(Exit::Machine, format_args!("disk at {address:#x}: {e}")))?;
        let bytes = device.capacity() * SECTOR_SIZE as u64;
        log::info!("disk: {bytes} bytes at {address:#x}, {DEPTH} reads at a time");
        let flights = Box::new(core::array::from_fn(|_| Flight::none()));
        Ok(Disk { device, flights })
    }
}

// SAFETY: a read has finished when the device has put it into the used ring, after its last write.
unsafe impl wick_virt::disk::Disk for Disk {
    fn capacity(&self) -> u64 {
        self.device.capacity() * SECTOR_SIZE as u64
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    unsafe fn start(&mut self, tag: u32, offset: u64, target: NonNull<[u8]>) -> Result<(), i32> {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.token.is_none()) else {
            return Err(code(Error::QueueFull));
        };
        (flight.tag, flight.target) = (tag, target);
        let sector = offset as usize / SECTOR_SIZE;
        // SAFETY: the target is this read's alone, as the caller says, and the flight stays in its box,
        // untouched, until the read has finished.
        let token = unsafe {
            let target = flight.target.as_mut();
            self.device.read_blocks_nb(sector, &mut flight.request, target, &mut flight.response)
        };
        flight.token = Some(token.map_err(code)?);
        Ok(())
    }

    fn finished(&mut self) -> Option<(u32, Result<(), i32>)> {
        let token = self.device.peek_used()?;
        let flight = self.flights.iter_mut().find(|flight| flight.token == Some(token))?;
        flight.token = None;
        // SAFETY: the same buffers as when the read was started.
        let result = unsafe {
            let target = flight.target.as_mut();
            let response = &mut flight.response;
            self.device.complete_read_blocks(token, &flight.request, target, response)
        };
        Some((flight.tag, result.map_err(code)))
    }

    fn now(&self) -> u64 {
        timer::microseconds()
    }
}

/// The status of virtio that an error stands for, or a number beyond those.
fn code(error: Error) -> i32 {
    match error {
        Error::IoError => 1,
        Error::Unsupported => 2,
        Error::NotReady => 3,
        Error::QueueFull => 16,
        _ => 255,
    }
}
