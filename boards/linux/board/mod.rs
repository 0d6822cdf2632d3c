//! Boards that wick is made for, as data: what their parts can do, and who says so.
//!
//! A board is a file of TOML. Those in `boards/linux/profiles` are built in; users add their own, or change one of these, in
//! [`BOARDS`].

mod expectation;
mod profiles;

pub use expectation::{Bound, Expectation, Speeds, Work};
pub use profiles::{BOARDS, BoardError, Boards};

use crate::reads::Device;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What is known of a board.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Short name: that of its file.
    #[serde(skip)]
    pub name: String,
    /// Full name, with its storage.
    pub title: String,
    /// What it is called in a device tree: an entry of `compatible`, or how `model` begins.
    pub called: Vec<String>,
    /// Its processors.
    pub cores: Vec<Cores>,
    /// Its memory.
    pub memory: Memory,
    /// The storage that models lie on.
    pub storage: Storage,
}

/// Processors of one kind.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Cores {
    /// What they are called.
    pub name: String,
    /// How many there are.
    pub count: u32,
    /// Their clock.
    pub mhz: f64,
    /// Bytes of weights in Q4_0 that one of them multiplies in a cycle, as llvm-mca computes it.
    pub bytes_per_cycle: f64,
    /// Whether threads compute on them unless told otherwise.
    pub big: bool,
    /// Who says so.
    pub source: String,
}

/// How fast memory is.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Bytes per second by its width and rate, which nothing reaches.
    pub peak: f64,
    /// Bytes per second that somebody has seen it move.
    pub reached: f64,
    /// Who says so.
    pub source: String,
}

/// How fast storage is.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// What it is.
    pub kind: StorageKind,
    /// Bytes per second.
    pub bandwidth: f64,
    /// Reads that can be begun per second.
    pub reads: f64,
    /// From the start of a read to its first byte.
    pub latency_us: u64,
    /// Reads that it works on at once.
    pub lanes: usize,
    /// Who says so.
    pub source: String,
}

/// What a storage device is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// An SD card.
    Sd,
    /// Flash with an MMC interface, soldered or on a module.
    Emmc,
    /// Universal Flash Storage.
    Ufs,
    /// A drive on PCIe.
    Nvme,
    /// A drive or stick on USB.
    Usb,
    /// A drive on SATA.
    Sata,
    /// A disk of a virtual machine.
    Virtual,
    /// Another machine's, over a network.
    Network,
    /// Memory.
    Memory,
    /// Something else, or unknown.
    Other,
}

impl fmt::Display for StorageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StorageKind::Sd => "SD card",
            StorageKind::Emmc => "eMMC",
            StorageKind::Ufs => "UFS",
            StorageKind::Nvme => "NVMe",
            StorageKind::Usb => "USB",
            StorageKind::Sata => "SATA",
            StorageKind::Virtual => "virtual disk",
            StorageKind::Network => "network",
            StorageKind::Memory => "memory",
            StorageKind::Other => "unknown device",
        })
    }
}

impl Board {
    /// Its storage, to be emulated.
    pub fn device(&self) -> Device {
        let Storage { bandwidth, reads, latency_us, lanes, .. } = self.storage;
        Device { bandwidth, iops: reads, latency: Duration::from_micros(latency_us), lanes }
    }

    /// The first of its figures that no board can have, as it is called.
    fn impossible(&self) -> Option<&'static str> {
        let cores =
            |wrong: fn(&Cores) -> bool| self.cores.is_empty() || self.cores.iter().any(wrong);
        let (memory, storage) = (&self.memory, &self.storage);
        let is_rate = |rate: f64| (1e3..=1e15).contains(&rate);
        [
            ("called", self.called.iter().any(|name| name.trim().is_empty())),
            ("cores.count", cores(|c| !(1..=4096).contains(&c.count))),
            ("cores.mhz", cores(|c| !(1.0..=1e5).contains(&c.mhz))),
            ("cores.bytes_per_cycle", cores(|c| !(1e-3..=1e4).contains(&c.bytes_per_cycle))),
            ("cores.big", !self.cores.iter().any(|c| c.big)),
            ("memory.peak", !is_rate(memory.peak)),
            ("memory.reached", !is_rate(memory.reached) || memory.reached > memory.peak),
            ("storage.bandwidth", !is_rate(storage.bandwidth)),
            ("storage.reads", !(0.1..=1e9).contains(&storage.reads)),
            ("storage.latency_us", storage.latency_us > 60_000_000),
            ("storage.lanes", !(1..=1 << 16).contains(&storage.lanes)),
        ]
        .into_iter()
        .find_map(|(name, is_wrong)| is_wrong.then_some(name))
    }
}
