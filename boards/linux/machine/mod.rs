//! What a machine is, as its `/proc` and `/sys` tell it.
//!
//! Everything is read below a root, so that a machine can be looked at that is not this one: from a copy of these files.

mod disk;
mod heat;
mod memory;
mod processors;

pub use disk::{Disk, Link};
pub use heat::{Heat, Supply};
pub use memory::{MachineMemory, Swap};
pub use processors::Processors;

use crate::cgroup::{has_memory_groups_at, read_number};
use crate::cpu::Cpus;
use crate::memory::{MemoryLimit, read_limit};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// What is known of a machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// What it is called.
    pub model: Option<String>,
    /// What its device tree says that it is compatible with, the most telling first.
    pub compatible: Vec<String>,
    /// The version of its kernel.
    pub kernel: Option<String>,
    /// Processors, those of a kind together.
    pub processors: Vec<Processors>,
    /// How many of them are big: at least half as capable as the most capable.
    pub big: usize,
    /// Which processors are there, but turned off.
    pub offline: Vec<usize>,
    /// Features of all processors that kernels make use of.
    pub features: Vec<String>,
    /// Processors' worth of time that the control group grants, where it sets a limit.
    pub quota: Option<usize>,
    /// Memory.
    pub memory: MachineMemory,
    /// Bytes of memory that the process may use.
    pub may_use: Option<u64>,
    /// Whether a control group says so, not the machine.
    pub is_in_group: bool,
    /// Whether the kernel limits the memory of control groups.
    pub has_memory_groups: bool,
    /// Heat, and what it does.
    pub heat: Heat,
    /// `kernel.io_uring_disabled`, where the kernel has it: 0 lets everybody use it, 1 some, 2 nobody.
    pub io_uring_disabled: Option<u64>,
    /// What time is counted by.
    pub clock: Option<String>,
    /// Whether there is a clock that goes on without power.
    pub has_rtc: bool,
}

impl Machine {
    /// Looks at the machine whose files lie below `root`; what is not told there stays unknown.
    pub fn read(root: &Path) -> Machine {
        // A copy of /proc has a link there that leads out of it.
        let tree = ["sys/firmware/devicetree/base", "proc/device-tree"];
        let of_tree = |name: &str| -> Vec<String> {
            let mut all = tree.iter().map(|tree| strings(&root.join(tree).join(name)));
            all.find(|texts| !texts.is_empty()).unwrap_or_default()
        };
        let model = of_tree("model").into_iter().next();
        let limit = read_limit(root);
        let (processors, features) = processors::read(root);
        let numbers = processors.iter().flat_map(|kind| kind.numbers.clone()).collect();
        let Cpus { big, quota, .. } = Cpus::read(root, numbers);
        Machine {
            model: model.or_else(|| text(&root.join("sys/class/dmi/id/product_name"))),
            compatible: of_tree("compatible"),
            kernel: text(&root.join("proc/sys/kernel/osrelease")),
            processors,
            big,
            offline: processors::offline(root),
            features,
            quota,
            memory: MachineMemory::read(root),
            may_use: limit.map(|limit| limit.bytes),
            is_in_group: limit.is_some_and(MemoryLimit::is_of_group),
            has_memory_groups: has_memory_groups_at(root),
            heat: Heat::read(root),
            io_uring_disabled: read_number(&root.join("proc/sys/kernel/io_uring_disabled")),
            clock: text(
                &root.join("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            ),
            has_rtc: root.join("sys/class/rtc/rtc0").exists(),
        }
    }
}

/// What stands in a file, without the space around it; `None` if there is nothing.
fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Texts that end with a zero each, as device trees have them.
fn strings(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let texts = bytes.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text));
    texts.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

/// The entries of a folder, by name.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A name as it is, of which the kernel writes spaces, tabs, line breaks and backslashes in octal.
fn unescaped(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (written, meant)| text.replace(written, meant))
}
