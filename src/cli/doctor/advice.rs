//! What to change on a machine, what helps most first.

use super::file_report::FileReport;
use crate::memory::Mib;
use serde::Serialize;
use std::fs;
use std::time::SystemTime;
use wick_linux::board::StorageKind;
use wick_linux::machine::{Disk, Link, Machine, MachineMemory, Processors};

/// Something that could be better.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Advice {
    /// What is wrong.
    pub(super) what: String,
    /// What to do.
    pub(super) how: String,
}

/// What advice is given on.
pub(super) struct Facts<'a> {
    pub(super) machine: &'a Machine,
    pub(super) disk: Option<&'a Disk>,
    pub(super) file: Option<&'a FileReport>,
    /// Whether experts are read while tokens are decoded.
    pub(super) reads: bool,
    /// Whether io_uring was tried, and why it was refused if it was.
    pub(super) io_uring: Option<Option<&'a str>>,
    /// Why the model does not fit, if it does not.
    pub(super) shortage: Option<&'a str>,
    /// Bytes that the user lets the process take.
    pub(super) asked: Option<u64>,
    pub(super) is_clock_behind: bool,
}

/// One kind of trouble.
type Look = fn(&Facts<'_>) -> Option<Advice>;

/// All kinds, those first that cost most.
const LOOKS: [Look; 20] = [
    shortage,
    too_much_asked,
    under_voltage,
    hot,
    in_memory,
    on_a_network,
    unused_memory,
    slow_usb,
    slow_pcie,
    moving_disk,
    slow_card,
    through_the_cache,
    not_packed,
    io_uring,
    governor,
    offline,
    quota,
    swap,
    memory_groups,
    clock,
];

impl Advice {
    pub(super) fn all(facts: &Facts<'_>) -> Vec<Advice> {
        LOOKS.iter().filter_map(|look| look(facts)).collect()
    }
}

fn advice(what: impl Into<String>, how: impl Into<String>) -> Option<Advice> {
    Some(Advice { what: what.into(), how: how.into() })
}

/// Whether the clock shows a time before this program was made.
pub(super) fn is_clock_behind() -> bool {
    let made = fs::metadata("/proc/self/exe").and_then(|file| file.modified());
    made.is_ok_and(|made| SystemTime::now() < made)
}

/// Whether one of the names of the device tree begins so.
fn is_made_by(facts: &Facts<'_>, maker: &str) -> bool {
    facts.machine.compatible.iter().any(|name| name.starts_with(maker))
}

/// A Raspberry Pi 3 or Zero 2 W, with neither USB 3 nor PCIe.
fn has_slow_ports(facts: &Facts<'_>) -> bool {
    is_made_by(facts, "brcm,bcm2837")
}

fn shortage(facts: &Facts<'_>) -> Option<Advice> {
    let how = "give it more memory, or fewer positions (--context), or keys and values in 8 bits (--kv q8_0)";
    advice(format!("the model does not fit: {}", facts.shortage?), how)
}

fn too_much_asked(facts: &Facts<'_>) -> Option<Advice> {
    let (asked, there) = (facts.asked?, facts.machine.may_use?);
    let (asked_mib, there_mib) = (Mib(asked as usize), Mib(there as usize));
    let what = format!("--memory is {asked_mib}, but {there_mib} are available");
    (asked > there).then(|| advice(what, "lower --memory, or end what takes the rest"))?
}

fn unused_memory(facts: &Facts<'_>) -> Option<Advice> {
    let (asked, there) = (facts.asked?, facts.machine.may_use?);
    let (asked_mib, there_mib) = (Mib(asked as usize), Mib(there as usize));
    let what = format!("experts are read though of {there_mib} only {asked_mib} may be taken");
    let is_little = asked < there / 5 * 4;
    (facts.reads && is_little).then(|| advice(what, "raise --memory: more of them stay there"))?
}

fn under_voltage(facts: &Facts<'_>) -> Option<Advice> {
    let supply = facts.machine.heat.supply?;
    let when = match (supply.under_voltage, supply.was_under_voltage) {
        (true, _) => "the voltage is too low",
        (false, true) => "the voltage was too low a moment ago",
        (false, false) => return None,
    };
    advice(
        format!("{when}: the firmware slows the board down"),
        "use the supply that is sold for this board, with its own cable, and no drive that takes its power from it",
    )
}

fn hot(facts: &Facts<'_>) -> Option<Advice> {
    let heat = &facts.machine.heat;
    let degrees = heat.celsius.map_or(String::new(), |celsius| format!(" ({celsius:.0} °C)"));
    let was = heat.supply.is_some_and(|supply| supply.was_throttled);
    let what = match (heat.is_slowed, was) {
        (true, _) => format!("the board is hot{degrees} and its clock is lowered"),
        (false, true) => "the board was hot and slowed down a moment ago".into(),
        (false, false) => return None,
    };
    advice(what, "give it a heat sink, or a fan; a service takes fewer threads meanwhile")
}

/// What a disk of this kind means for the file on it.
fn on_kind<'a>(facts: &Facts<'a>, kind: StorageKind) -> Option<&'a str> {
    facts.disk.filter(|disk| disk.kind == kind)?;
    Some(&facts.file?.path)
}

fn in_memory(facts: &Facts<'_>) -> Option<Advice> {
    let path = on_kind(facts, StorageKind::Memory)?;
    let what = format!("{path} lies in memory, of which it takes as much as it is large");
    advice(what, "put it on storage")
}

fn on_a_network(facts: &Facts<'_>) -> Option<Advice> {
    let path = on_kind(facts, StorageKind::Network).filter(|_| facts.reads)?;
    advice(format!("{path} lies on another machine"), "copy it to storage of this one")
}

fn slow_usb(facts: &Facts<'_>) -> Option<Advice> {
    let Link::Usb(megabits) = facts.disk?.link.clone()? else { return None };
    let how = match has_slow_ports(facts) {
        true => "this board has no faster port: more memory helps, or another board",
        false => "use a port of USB 3 (blue), and a drive that has USB 3",
    };
    let what = format!("the drive hangs on USB 2 ({megabits} Mbit/s)");
    (megabits <= 480 && facts.reads).then(|| advice(what, how))?
}

fn slow_pcie(facts: &Facts<'_>) -> Option<Advice> {
    let link = facts.disk?.link.clone()?;
    let Link::Pcie { speed, lanes, most_speed, most_lanes, drive_speed } = link else {
        return None;
    };
    let lane = if lanes == 1 { "lane" } else { "lanes" };
    let runs = format!("the drive runs at {speed} GT/s on {lanes} {lane}");
    let is_pi = is_made_by(facts, "brcm,bcm2712") && speed < 8.0 && drive_speed >= 8.0;
    match facts.reads {
        true if is_pi => advice(
            format!("{runs}; it could 8"),
            "dtparam=pciex1_gen=3 in /boot/firmware/config.txt doubles it, if the drive stays reliable with it",
        ),
        true if speed < most_speed || lanes < most_lanes => advice(
            format!("{runs}, where both ends could {most_speed} on {most_lanes}"),
            "look whether the drive and its cable sit firmly",
        ),
        _ => None,
    }
}

fn moving_disk(facts: &Facts<'_>) -> Option<Advice> {
    let disk = facts.disk.filter(|disk| disk.is_rotational && disk.kind != StorageKind::Virtual)?;
    let what = format!("{} has to move its heads for each read", disk.name);
    facts.reads.then(|| advice(what, "put the model on flash"))?
}

fn slow_card(facts: &Facts<'_>) -> Option<Advice> {
    let disk = facts.disk.filter(|disk| disk.kind == StorageKind::Sd && facts.reads)?;
    let how = match has_slow_ports(facts) {
        true => "more memory helps (--memory), or a board with USB 3, eMMC or NVMe",
        false => {
            "eMMC, NVMe or a drive on USB 3 are 3 to 20 times as fast; so is more memory (--memory)"
        }
    };
    advice(format!("experts are read from an SD card ({})", disk.name), how)
}

fn through_the_cache(facts: &Facts<'_>) -> Option<Advice> {
    let file = facts.file.filter(|file| file.is_direct == Some(false) && facts.reads)?;
    let filesystem =
        facts.disk.and_then(|disk| disk.filesystem.clone()).unwrap_or("this filesystem".into());
    let what =
        format!("{filesystem} refuses reads past the page cache (O_DIRECT) of {}", file.path);
    advice(what, "put the model on ext4, xfs or f2fs, not on an overlay")
}

fn not_packed(facts: &Facts<'_>) -> Option<Advice> {
    let file = facts.file.filter(|file| !file.is_packed && facts.reads)?;
    let (path, is_device) = (&file.path, file.path.starts_with("/dev/"));
    let packed = match is_device {
        true => "FILE".to_owned(),
        false => format!("{}.wick.gguf", path.trim_end_matches(".gguf")),
    };
    advice(
        "the file is not packed: each expert is arranged again whenever it is read",
        format!("wick pack {} -o {}", quoted(path), quoted(&packed)),
    )
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let begins_well = !word.starts_with('-') && !word.is_empty();
    if begins_well && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn io_uring(facts: &Facts<'_>) -> Option<Advice> {
    // What was tried and works needs no reason.
    if !facts.reads || facts.io_uring == Some(None) {
        return None;
    }
    if let Some(disabled @ 1..) = facts.machine.io_uring_disabled {
        let what = format!(
            "io_uring is forbidden (kernel.io_uring_disabled is {disabled}): threads read instead"
        );
        return advice(what, "sysctl kernel.io_uring_disabled=0");
    }
    if facts.machine.kernel.as_deref().is_some_and(is_old) {
        let what = "the kernel is older than 5.11, which io_uring needs: threads read instead";
        return advice(what, "take a newer kernel");
    }
    let reason = facts.io_uring??;
    let what = format!("io_uring is refused ({reason}): threads read instead");
    advice(what, "allow it in the container or unit")
}

/// Whether a kernel is older than 5.11, as far as it can be told.
fn is_old(kernel: &str) -> bool {
    let number = |text: &str| {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..digits].parse::<u32>().ok()
    };
    let mut numbers = kernel.split('.').map(number);
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < (5, 11),
        _ => false,
    }
}

fn governor(facts: &Facts<'_>) -> Option<Advice> {
    let slow = ["powersave", "conservative", "userspace"];
    // These drivers mean something else by it: the processor chooses its clock itself.
    let is_own = |driver: &str| driver.starts_with("intel_") || driver.starts_with("amd-pstate");
    let by_kernel = |kind: &&Processors| !kind.driver.as_deref().is_some_and(is_own);
    let mut kinds = facts.machine.processors.iter().filter(by_kernel);
    let governor = kinds
        .find_map(|kind| kind.governor.as_deref().filter(|governor| slow.contains(governor)))?;
    advice(
        format!("the governor of the clock is {governor}, which keeps it low"),
        "until the next start: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )
}

fn offline(facts: &Facts<'_>) -> Option<Advice> {
    let numbers: Vec<String> = facts.machine.offline.iter().map(usize::to_string).collect();
    let all = match &numbers[..] {
        [] => return None,
        [one] => one.clone(),
        several => format!("{{{}}}", several.join(",")),
    };
    let how = match is_made_by(facts, "nvidia,tegra") {
        true => "sudo nvpmodel -m 0".into(),
        false => format!("echo 1 | sudo tee /sys/devices/system/cpu/cpu{all}/online"),
    };
    advice(format!("processors that are turned off: {}", numbers.join(", ")), how)
}

fn quota(facts: &Facts<'_>) -> Option<Advice> {
    let (quota, big) = (facts.machine.quota?, facts.machine.big);
    let what =
        format!("the control group grants the time of {quota} of {big} big processors (cpu.max)");
    (quota < big).then(|| advice(what, "raise CPUQuota of the unit, or the container's limit"))?
}

fn swap(facts: &Facts<'_>) -> Option<Advice> {
    let MachineMemory { swaps, available, .. } = &facts.machine.memory;
    let swap = swaps.iter().find(|swap| swap.used > 0 || !swap.is_zram)?;
    let place = &swap.place;
    let what = if swap.is_zram {
        format!("memory is swapped to {place}, but weights do not compress")
    } else {
        format!("memory may be swapped to {place}: slow, and it wears flash out")
    };
    let how = match available.is_some_and(|available| swap.used < available / 2) {
        true => format!("until the next start: sudo swapoff {}", quoted(place)),
        false => "end what takes the memory; there is too little of it to do without swap".into(),
    };
    advice(what, how + "; the service itself is kept out of swap (MemorySwapMax=0)")
}

fn memory_groups(facts: &Facts<'_>) -> Option<Advice> {
    let is_known = facts.machine.memory.total.is_some();
    let how = match is_made_by(facts, "brcm,") {
        true => {
            "cgroup_enable=memory at the end of the line in /boot/firmware/cmdline.txt (/boot/cmdline.txt before Bookworm)"
        }
        false => "cgroup_enable=memory on the kernel's command line, or a kernel that has them",
    };
    let what = "the kernel limits the memory of no unit or container: MemoryMax has no effect, --memory has";
    (is_known && !facts.machine.has_memory_groups).then(|| advice(what, how))?
}

fn clock(facts: &Facts<'_>) -> Option<Advice> {
    let why = if facts.machine.has_rtc { "" } else { " (the board has no clock of its own)" };
    let what = format!("the clock is behind{why}: logs and certificates are wrong");
    facts.is_clock_behind.then(|| advice(what, "sudo timedatectl set-ntp true"))?
}
