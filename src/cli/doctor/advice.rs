//! What to change on a machine, what helps most first.

use super::report::FileReport;
use serde::Serialize;
use std::fs;
use std::time::SystemTime;
use wick_linux::board::StorageKind;
use wick_linux::machine::{Disk, Link, Machine};

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
    /// Why io_uring was refused, if it was tried.
    pub(super) io_uring: Option<&'a str>,
    pub(super) is_clock_behind: bool,
}

/// One kind of trouble.
type Look = fn(&Facts<'_>) -> Option<Advice>;

/// All kinds, those first that cost most.
const LOOKS: [Look; 16] = [
    under_voltage,
    hot,
    no_disk,
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

fn under_voltage(facts: &Facts<'_>) -> Option<Advice> {
    let supply = facts.machine.heat.supply?;
    let when = match (supply.under_voltage, supply.was_under_voltage) {
        (true, _) => "the voltage is too low",
        (false, true) => "the voltage was too low since the board was turned on",
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
        (false, true) => "the board was hot and slowed down since it was turned on".into(),
        (false, false) => return None,
    };
    advice(what, "give it a heat sink, or a fan; the service takes fewer threads meanwhile")
}

fn no_disk(facts: &Facts<'_>) -> Option<Advice> {
    let file = facts.file.filter(|file| facts.disk.is_none() && file.in_memory)?;
    advice(
        format!("{} lies in memory (a RAM disk), so that the model may be there twice", file.path),
        "put it on storage",
    )
}

fn slow_usb(facts: &Facts<'_>) -> Option<Advice> {
    let Link::Usb(megabits) = facts.disk?.link.clone()? else { return None };
    let how = "use a port of USB 3 (blue), or a drive that has USB 3";
    (megabits <= 480 && facts.reads)
        .then(|| advice(format!("the drive hangs on USB 2 ({megabits} Mbit/s)"), how))?
}

fn slow_pcie(facts: &Facts<'_>) -> Option<Advice> {
    let Link::Pcie { speed, lanes, most_speed, .. } = facts.disk?.link.clone()? else {
        return None;
    };
    if speed >= most_speed || !facts.reads {
        return None;
    }
    let is_pi = facts.machine.compatible.iter().any(|name| name == "brcm,bcm2712");
    let how = if is_pi {
        "dtparam=pciex1_gen=3 in /boot/firmware/config.txt doubles it, if the drive stays reliable with it"
    } else {
        "look whether the drive sits firmly and the slot's version can be set higher"
    };
    let lanes = if lanes == 1 { "one lane".into() } else { format!("{lanes} lanes") };
    advice(format!("the drive runs at {speed} GT/s on {lanes}; it could {most_speed}"), how)
}

fn moving_disk(facts: &Facts<'_>) -> Option<Advice> {
    let disk = facts.disk.filter(|disk| disk.is_rotational && disk.kind != StorageKind::Virtual)?;
    let what = format!("{} has to move its heads for each read", disk.name);
    facts.reads.then(|| advice(what, "put the model on flash"))?
}

fn slow_card(facts: &Facts<'_>) -> Option<Advice> {
    let disk = facts.disk.filter(|disk| disk.kind == StorageKind::Sd && facts.reads)?;
    let what = format!("experts are read from an SD card ({})", disk.name);
    advice(
        what,
        "eMMC, NVMe or a drive on USB 3 are 3 to 20 times as fast; so is more memory (--memory)",
    )
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
    let path = &file.path;
    advice(
        "the file is not packed: each expert is arranged again whenever it is read".to_owned(),
        format!("wick pack {path} -o {}.wick.gguf", path.trim_end_matches(".gguf")),
    )
}

fn io_uring(facts: &Facts<'_>) -> Option<Advice> {
    if !facts.reads {
        return None;
    }
    if let Some(disabled @ 1..) = facts.machine.io_uring_disabled {
        let what = format!(
            "io_uring is forbidden (kernel.io_uring_disabled is {disabled}): threads read instead"
        );
        return advice(what, "sysctl kernel.io_uring_disabled=0");
    }
    if is_old(facts.machine.kernel.as_deref()?) {
        let what = "the kernel is older than 5.11, which io_uring needs: threads read instead";
        return advice(what, "take a newer kernel");
    }
    let reason = facts.io_uring?;
    advice(
        format!("io_uring is refused ({reason}): threads read instead"),
        "allow it in the container or unit",
    )
}

/// Whether a kernel is older than 5.11.
fn is_old(kernel: &str) -> bool {
    let mut numbers = kernel.split(['.', '-', '+']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(5), Some(11))
}

fn governor(facts: &Facts<'_>) -> Option<Advice> {
    let slow = ["powersave", "conservative", "userspace"];
    let mut governors = facts.machine.processors.iter().filter_map(|kind| kind.governor.as_deref());
    let governor = governors.find(|governor| slow.contains(governor))?;
    advice(
        format!("the governor of the clock is {governor}, which keeps it low"),
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )
}

fn offline(facts: &Facts<'_>) -> Option<Advice> {
    let offline = facts.machine.offline.as_deref()?;
    let how = format!("echo 1 | sudo tee /sys/devices/system/cpu/cpu{offline}/online");
    let how =
        if offline.contains(['-', ',']) { "turn them on in …/cpuN/online".into() } else { how };
    advice(format!("processors that are turned off: {offline}"), how)
}

fn quota(facts: &Facts<'_>) -> Option<Advice> {
    let (quota, processors) = (facts.machine.quota?, facts.machine.processors.iter());
    let all: usize = processors.map(|kind| kind.numbers.len()).sum();
    let what =
        format!("the control group grants the time of {quota} of {all} processors (cpu.max)");
    (quota < all).then(|| advice(what, "raise CPUQuota of the unit, or the container's limit"))?
}

fn swap(facts: &Facts<'_>) -> Option<Advice> {
    let swap = facts.machine.memory.swaps.iter().find(|swap| swap.used > 0 || !swap.is_zram)?;
    let place = &swap.place;
    let what = if swap.is_zram {
        format!("memory is swapped to {place}, but weights do not compress")
    } else {
        format!("memory may be swapped to {place}: slow, and it wears flash out")
    };
    advice(
        what,
        format!("sudo swapoff {place}; the service itself is kept out of swap (MemorySwapMax=0)"),
    )
}

fn memory_groups(facts: &Facts<'_>) -> Option<Advice> {
    let is_known = facts.machine.memory.total.is_some();
    let how = "cgroup_enable=memory at the end of the line in /boot/firmware/cmdline.txt";
    let what = "the kernel limits the memory of no unit or container: MemoryMax has no effect, --memory has";
    (is_known && !facts.machine.has_memory_groups).then(|| advice(what, how))?
}

fn clock(facts: &Facts<'_>) -> Option<Advice> {
    let why = if facts.machine.has_rtc { "" } else { " (the board has no clock of its own)" };
    let what = format!("the clock is behind{why}: logs and certificates are wrong");
    facts.is_clock_behind.then(|| advice(what, "sudo timedatectl set-ntp true"))?
}
