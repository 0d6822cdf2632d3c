//! Which processors a machine has.

use super::text;
use crate::cgroup::read_number;
use serde::Serialize;
use std::fs;
use std::path::Path;

/// Processors of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Processors {
    /// What they are called.
    pub name: String,
    /// Their numbers.
    pub numbers: Vec<usize>,
    /// How capable they are, where the most capable are 1,024; unknown where all are alike.
    pub capacity: Option<u64>,
    /// Their highest clock.
    pub mhz: Option<u64>,
    /// Who chooses the clock.
    pub governor: Option<String>,
    /// Who sets it.
    pub driver: Option<String>,
}

/// Processors of Arm's by the number of their part (Main ID Register).
const ARM: [(u32, &str); 26] = [
    (0xd03, "Cortex-A53"),
    (0xd04, "Cortex-A35"),
    (0xd05, "Cortex-A55"),
    (0xd07, "Cortex-A57"),
    (0xd08, "Cortex-A72"),
    (0xd09, "Cortex-A73"),
    (0xd0a, "Cortex-A75"),
    (0xd0b, "Cortex-A76"),
    (0xd0c, "Neoverse N1"),
    (0xd0d, "Cortex-A77"),
    (0xd0e, "Cortex-A76AE"),
    (0xd40, "Neoverse V1"),
    (0xd41, "Cortex-A78"),
    (0xd42, "Cortex-A78AE"),
    (0xd44, "Cortex-X1"),
    (0xd46, "Cortex-A510"),
    (0xd47, "Cortex-A710"),
    (0xd48, "Cortex-X2"),
    (0xd49, "Neoverse N2"),
    (0xd4b, "Cortex-A78C"),
    (0xd4d, "Cortex-A715"),
    (0xd4e, "Cortex-X3"),
    (0xd4f, "Neoverse V2"),
    (0xd80, "Cortex-A520"),
    (0xd81, "Cortex-A720"),
    (0xd87, "Cortex-A725"),
];

/// More processors than any machine has.
const MOST: usize = 1 << 16;

/// Features that kernels make use of, as the kernel calls them, and as wick does.
const FEATURES: [(&str, &str); 8] = [
    ("asimd", "neon"),
    ("asimddp", "dotprod"),
    ("i8mm", "i8mm"),
    ("asimdhp", "fp16"),
    ("avx2", "avx2"),
    ("f16c", "f16c"),
    ("avx_vnni", "avxvnni"),
    ("avx512_vnni", "avx512vnni"),
];

/// The processors below `root`, those of a kind together, and which features all of them have.
pub(super) fn read(root: &Path) -> (Vec<Processors>, Vec<String>) {
    let told = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let mut kinds: Vec<Processors> = Vec::new();
    let mut common: Option<Vec<&str>> = None;
    for block in told.split("\n\n") {
        let Some(number) = field(block, "processor").and_then(|text| text.parse().ok()) else {
            continue;
        };
        let has: Vec<&str> = feature_words(block).collect();
        let all = common.get_or_insert_with(|| has.clone());
        all.retain(|feature| has.contains(feature));
        let new = one(root, number, block);
        match kinds
            .iter_mut()
            .find(|kind| Processors { numbers: Vec::new(), ..(*kind).clone() } == new)
        {
            Some(kind) => kind.numbers.push(number),
            None => kinds.push(Processors { numbers: vec![number], ..new }),
        }
    }
    let common = common.unwrap_or_default();
    let known = FEATURES.iter().filter(|(word, _)| common.contains(word));
    (kinds, known.map(|(_, name)| (*name).to_owned()).collect())
}

/// What is known of the processor of a number, which is left out.
fn one(root: &Path, number: usize, block: &str) -> Processors {
    let folder = root.join(format!("sys/devices/system/cpu/cpu{number}"));
    let khz = read_number(&folder.join("cpufreq/cpuinfo_max_freq"));
    Processors {
        name: name(block),
        numbers: Vec::new(),
        capacity: read_number(&folder.join("cpu_capacity")),
        mhz: khz.map(|khz| khz / 1000),
        governor: text(&folder.join("cpufreq/scaling_governor")),
        driver: text(&folder.join("cpufreq/scaling_driver")),
    }
}

fn name(block: &str) -> String {
    let hex = |key| u32::from_str_radix(field(block, key)?.trim_start_matches("0x"), 16).ok();
    let (maker, part) = (hex("CPU implementer"), hex("CPU part"));
    let arm = ARM.iter().find(|(number, _)| maker == Some(0x41) && part == Some(*number));
    match (arm, field(block, "model name"), maker, part) {
        (Some((_, name)), ..) => (*name).into(),
        (None, Some(name), ..) => name.into(),
        (None, None, Some(maker), Some(part)) => format!("maker {maker:#x}, part {part:#x}"),
        _ => "unknown".into(),
    }
}

fn feature_words(block: &str) -> impl Iterator<Item = &str> {
    let words = field(block, "Features").or_else(|| field(block, "flags"));
    words.unwrap_or_default().split_whitespace()
}

/// What stands behind a key and a colon.
fn field<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    block.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == key).then_some(value.trim())
    })
}

/// Processors that are there but turned off; none where second threads of cores are meant to be.
pub(super) fn offline(root: &Path) -> Vec<usize> {
    let folder = root.join("sys/devices/system/cpu");
    let list = |name: &str| text(&folder.join(name)).map(|text| numbers(&text)).unwrap_or_default();
    if text(&folder.join("smt/control")).as_deref() == Some("off") {
        return Vec::new();
    }
    let present = list("present");
    list("offline").into_iter().filter(|number| present.contains(number)).collect()
}

/// The numbers of a list of the kernel's, such as `0-3,6`.
fn numbers(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let last: usize = last.trim().parse().ok()?;
        Some(first.trim().parse().ok()?..=last.min(MOST))
    };
    list.split(',').filter_map(range).flatten().collect()
}
