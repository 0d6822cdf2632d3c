//! How much memory the process may use, and how much it does.

use crate::cgroup::{folders, read_number};
use std::fmt;
use std::fs;
use std::path::Path;

/// The tightest of the limits on the memory of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes.
    pub bytes: u64,
    /// What sets the limit.
    pub source: LimitSource,
}

impl MemoryLimit {
    pub(crate) fn is_of_group(self) -> bool {
        self.source == LimitSource::Cgroup
    }
}

/// What limits the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSource {
    /// The machine's memory that is available without swapping.
    Machine,
    /// A control group of the process, such as systemd's `MemoryMax` or a container's.
    Cgroup,
}

impl fmt::Display for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LimitSource::Machine => "available memory",
            LimitSource::Cgroup => "control group",
        })
    }
}

/// Bytes, shown in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mib(pub usize);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

/// What the process may still use: the machine's available memory, or what the limit of one of its
/// control groups (v2 `memory.max` and `memory.high`, v1 `memory.limit_in_bytes`) leaves, whichever is least. What a
/// group uses is counted without file pages that can be dropped, as for the machine. `None` if
/// `/proc` does not tell.
pub fn memory_limit() -> Option<MemoryLimit> {
    read_limit(Path::new("/"))
}

pub(crate) fn read_limit(root: &Path) -> Option<MemoryLimit> {
    let available = meminfo(&fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemAvailable:")?;
    let limits = folders(root, "memory").into_iter().filter_map(|folder| group_rest(&folder));
    let machine = MemoryLimit { bytes: available, source: LimitSource::Machine };
    let group = limits.min().map(|bytes| MemoryLimit { bytes, source: LimitSource::Cgroup });
    Some(group.filter(|group| group.bytes < available).unwrap_or(machine))
}

/// What a control group leaves of its limit, if it has one.
fn group_rest(folder: &Path) -> Option<u64> {
    let file = |name| read_number(&folder.join(name));
    // Beyond memory.high a group is slowed down and its pages are taken away.
    let version_two = [file("memory.max"), file("memory.high")].into_iter().flatten().min();
    let (limit, used, droppable) = match version_two {
        Some(limit) => (limit, file("memory.current"), "inactive_file"),
        None => {
            (file("memory.limit_in_bytes")?, file("memory.usage_in_bytes"), "total_inactive_file")
        }
    };
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let line = stat.lines().find_map(|l| l.strip_prefix(droppable)?.strip_prefix(' '));
    let droppable = line.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.unwrap_or(0).saturating_sub(droppable)))
}

/// To whom the system gives huge pages: `always`, to who asks (`madvise`) or `never`; `None` if it has none.
pub(crate) fn huge_pages(root: &Path) -> Option<String> {
    let choices =
        fs::read_to_string(root.join("sys/kernel/mm/transparent_hugepage/enabled")).ok()?;
    let (chosen, _) = choices.split_once('[')?.1.split_once(']')?;
    Some(chosen.into())
}

/// Bytes of this process that are in memory now.
pub fn resident() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Bytes of this process that are in memory now and in no file: what the system cannot drop.
pub fn resident_anonymous() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

/// The most bytes of this process that were in memory at once.
pub fn peak_resident() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The bytes in a line like `VmRSS:   12 kB`.
pub(crate) fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cgroup: &str, files: &[(&str, &str)]) -> Option<MemoryLimit> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/meminfo"), "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n")
            .unwrap();
        fs::write(root.path().join("proc/self/cgroup"), cgroup).unwrap();
        for (path, text) in files {
            let path = root.path().join("sys/fs/cgroup").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        read_limit(root.path())
    }

    const MACHINE: Option<MemoryLimit> =
        Some(MemoryLimit { bytes: 3000 * 1024, source: LimitSource::Machine });

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let files = [("a/b/memory.max", "max\n"), ("a/memory.max", "1000000\n")];
        let limit = machine("0::/a/b\n", &files).unwrap();
        assert_eq!(limit, MemoryLimit { bytes: 1_000_000, source: LimitSource::Cgroup });
    }

    #[test]
    fn a_group_that_is_slowed_down_is_limited() {
        for (high, max, expected) in
            [("1500000\n", "max\n", 1_500_000), ("900000\n", "1000000\n", 900_000)]
        {
            let files = [("a/memory.high", high), ("a/memory.max", max)];
            let limit = machine("0::/a\n", &files).unwrap();
            assert_eq!(limit, MemoryLimit { bytes: expected, source: LimitSource::Cgroup });
        }
        let above = [("a/b/memory.max", "2000000\n"), ("a/memory.high", "700000\n")];
        assert_eq!(machine("0::/a/b\n", &above).unwrap().bytes, 700_000);
    }

    #[test]
    fn version_one_is_understood() {
        let files = [("memory/x/memory.limit_in_bytes", "2000000\n")];
        let limit = machine("5:cpu,cpuacct:/y\n4:memory:/x\n0::/\n", &files).unwrap();
        assert_eq!(limit.bytes, 2_000_000);
    }

    #[test]
    fn what_a_group_uses_is_taken_off() {
        let two = [
            ("memory.max", "2000000\n"),
            ("memory.current", "700000\n"),
            ("memory.stat", "anon 500000\nfile 200000\ninactive_file 150000\n"),
        ];
        assert_eq!(machine("0::/\n", &two).unwrap().bytes, 2_000_000 - 550_000);
        let one = [
            ("memory/memory.limit_in_bytes", "1000\n"),
            ("memory/memory.usage_in_bytes", "5000\n"),
            ("memory/memory.stat", "inactive_file 9\ntotal_inactive_file 100\n"),
        ];
        assert_eq!(machine("4:memory:/\n", &one).unwrap().bytes, 0);
    }

    #[test]
    fn without_a_tighter_group_the_machine_counts() {
        assert_eq!(machine("", &[]), MACHINE);
        assert_eq!(machine("0::/\n", &[("memory.max", "max\n")]), MACHINE);
        let files = [("memory/memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(machine("4:memory:/\n", &files), MACHINE);
    }

    /// The system counts in batches and may be some pages late, so only the size can be told.
    #[test]
    fn this_process_has_memory() {
        const HELD: usize = 32 << 20;
        const LATE: u64 = 8 << 20;
        let held = std::hint::black_box(vec![1u8; HELD]);
        let counted = [resident(), resident_anonymous(), peak_resident()];
        drop(held);
        for bytes in counted.into_iter().chain([peak_resident()]) {
            assert!(bytes.unwrap() + LATE >= HELD as u64, "{bytes:?}");
        }
        assert!(memory_limit().unwrap().bytes > 0);
    }
}
