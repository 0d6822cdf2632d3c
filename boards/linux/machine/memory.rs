//! How much memory a machine has, and where it goes when there is too little.

use super::unescaped;
use crate::memory::{huge_pages, meminfo};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// The memory of a machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineMemory {
    /// Bytes.
    pub total: Option<u64>,
    /// Bytes that are available without swapping.
    pub available: Option<u64>,
    /// Bytes of a page.
    pub page: Option<u64>,
    /// When the kernel takes huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// Where memory is swapped to.
    pub swaps: Vec<Swap>,
}

/// Where memory is swapped to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Swap {
    /// A device or a file.
    pub place: String,
    /// Bytes.
    pub bytes: u64,
    /// Bytes in use.
    pub used: u64,
    /// Whether it is memory itself, compressed.
    pub is_zram: bool,
}

impl MachineMemory {
    pub(super) fn read(root: &Path) -> MachineMemory {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let told = read("proc/meminfo");
        MachineMemory {
            total: meminfo(&told, "MemTotal:"),
            available: meminfo(&told, "MemAvailable:"),
            page: meminfo(&read("proc/self/smaps"), "KernelPageSize:"),
            huge_pages: huge_pages(root),
            swaps: read("proc/swaps").lines().skip(1).filter_map(Swap::of_line).collect(),
        }
    }
}

impl Swap {
    /// As in `/dev/zram0  partition  2097148  0  100`.
    fn of_line(line: &str) -> Option<Swap> {
        let mut words = line.split_whitespace();
        let place = unescaped(words.next()?);
        let mut kib = words.skip(1).map_while(|word| word.parse::<u64>().ok());
        let mut bytes = || kib.next()?.checked_mul(1024);
        let (bytes, used) = (bytes()?, bytes()?);
        let is_zram = place.contains("/zram");
        Some(Swap { place, bytes, used, is_zram })
    }
}
