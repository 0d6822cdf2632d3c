//! What the device tree says of the machine.

use crate::image::exit::{Exit, Failure};
use core::ptr;
use core::slice;
use flat_device_tree::Fdt;
use flat_device_tree::node::FdtNode;

/// The console until the device tree is read.
pub(crate) const UART: usize = 0x0900_0000;
/// Where the device tree is if nobody says: at the start of RAM.
const DEVICE_TREE: usize = 0x4000_0000;
const MAGIC: u32 = 0xd00d_feed;
const MOST_CORES: usize = 8;
const MOST_DEVICES: usize = 64;

/// How firmware is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduit {
    Hypervisor,
    SecureMonitor,
}

/// The parts of the machine that wick uses.
pub(crate) struct Machine {
    /// The byte after the last of RAM.
    pub(crate) ram_end: usize,
    /// Affinity of each core, the first one's included.
    pub(crate) cores: heapless::Vec<usize, MOST_CORES>,
    /// How PSCI is called, if there is any.
    pub(crate) psci: Option<Conduit>,
    /// Registers of the console.
    pub(crate) uart: usize,
    /// Registers of the virtio devices: address and size.
    pub(crate) virtio: heapless::Vec<(usize, usize), MOST_DEVICES>,
    /// Boot arguments.
    pub(crate) arguments: &'static str,
}

impl Machine {
    /// Reads the device tree at an address, or where QEMU leaves it if that is 0.
    pub(crate) fn read(address: usize) -> Result<Machine, Failure> {
        let address = if address == 0 { DEVICE_TREE } else { address };
        let failure = |e: &dyn core::fmt::Display| {
            Failure::new(Exit::Machine, format_args!("device tree at {address:#x}: {e}"))
        };
        let tree = Fdt::new(bytes(address)?).map_err(|e| failure(&e))?;
        let memory = tree.memory().map_err(|e| failure(&e))?;
        let end = |region: flat_device_tree::standard_nodes::MemoryRegion| {
            region.starting_address as usize + region.size.unwrap_or(0)
        };
        let ram_end = memory.regions().next().map_or(0, end);
        let cores = tree.cpus().filter_map(|cpu| cpu.ids().ok()?.first().ok());
        let method = tree.find_node("/psci").and_then(|node| node.property("method")?.as_str());
        let psci = method.and_then(|method| match method {
            "hvc" => Some(Conduit::Hypervisor),
            "smc" => Some(Conduit::SecureMonitor),
            _ => None,
        });
        let uart = tree.find_compatible(&["arm,pl011"]).and_then(registers);
        let is_virtio = |node: &FdtNode<'_, '_>| {
            node.compatible().is_some_and(|names| names.all().any(|name| name == "virtio,mmio"))
        };
        let virtio = tree.all_nodes().filter(is_virtio).filter_map(registers);
        Ok(Machine {
            ram_end,
            cores: cores.take(MOST_CORES).collect(),
            psci,
            uart: uart.map_or(UART, |(address, _)| address),
            virtio: virtio.take(MOST_DEVICES).collect(),
            arguments: tree.chosen().ok().and_then(|chosen| chosen.bootargs()).unwrap_or_default(),
        })
    }
}

/// Address and size of a device's registers.
fn registers(node: FdtNode<'_, '_>) -> Option<(usize, usize)> {
    let region = node.reg().next()?;
    Some((region.starting_address as usize, region.size?))
}

/// The bytes of the device tree.
fn bytes(address: usize) -> Result<&'static [u8], Failure> {
    let start = ptr::with_exposed_provenance::<u32>(address);
    // SAFETY: the start of RAM, or where the firmware says that the tree is; RAM is mapped.
    let (magic, size) = unsafe { (start.read().swap_bytes(), start.add(1).read().swap_bytes()) };
    if magic != MAGIC {
        let message = format_args!("device tree at {address:#x}: none found");
        return Err(Failure::new(Exit::Machine, message));
    }
    // SAFETY: the tree is as long as it says, and nobody writes to it: the image begins after it.
    Ok(unsafe { slice::from_raw_parts(start.cast(), size as usize) })
}
