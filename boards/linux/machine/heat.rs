//! How hot a board is, and whether its power will do.

use super::{entries, text};
use crate::cgroup::read_number;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// How hot a board is, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Heat {
    /// Degrees Celsius of the hottest part that is measured.
    pub celsius: Option<f64>,
    /// Degrees Celsius from which on the kernel slows the board down, where it tells.
    pub limit: Option<f64>,
    /// Whether the clock of the processors is lowered now, because of the heat.
    pub is_slowed: bool,
    /// What a Raspberry Pi tells besides.
    pub supply: Option<Supply>,
}

/// What a Raspberry Pi tells of its power, and its firmware of heat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Supply {
    /// The voltage is too low, and the board slowed down.
    pub under_voltage: bool,
    /// It was a moment ago.
    pub was_under_voltage: bool,
    /// Heat slows the board down.
    pub throttled: bool,
    /// It did a moment ago.
    pub was_throttled: bool,
}

/// Bits of `get_throttled` (documentation of `vcgencmd`): too little voltage, throttled by that or by heat, limited by heat;
/// 16 higher: not long ago, since the kernel's monitor clears them.
const UNDER_VOLTAGE: u64 = 1;
const THROTTLED: u64 = 1 << 2;
const SOFT_LIMIT: u64 = 1 << 3;
const WAS: u32 = 16;
/// Degrees from which on a Raspberry Pi's firmware slows it down (a 3B+ from 60 on, which only it tells).
const PI_LIMIT: f64 = 80.0;

impl Heat {
    /// The heat of the machine whose files lie below `root`.
    pub fn read(root: &Path) -> Heat {
        let supply = Supply::read(root);
        let zones = of_kind(root, "thermal_zone");
        let hottest = zones.iter().filter_map(|zone| celsius(&zone.join("temp")));
        let hottest = hottest.reduce(f64::max);
        let limit = zones.iter().flat_map(|zone| limits(zone)).reduce(f64::min);
        let limit = limit.or(supply.map(|_| PI_LIMIT));
        let is_lowered = of_kind(root, "cooling_device").iter().any(|device| {
            let kind = text(&device.join("type")).unwrap_or_default();
            let is_clock = kind.contains("cpufreq") || kind == "Processor";
            is_clock && read_number(&device.join("cur_state")).unwrap_or(0) > 0
        });
        let is_slowed = is_lowered
            || supply.is_some_and(|supply| {
                supply.throttled || hottest.is_some_and(|celsius| celsius >= PI_LIMIT)
            });
        Heat { celsius: hottest, limit, is_slowed, supply }
    }
}

/// Degrees that a file tells in thousandths, if any part of a running board can have so many.
fn celsius(file: &Path) -> Option<f64> {
    let celsius = text(file)?.parse::<i64>().ok()? as f64 / 1000.0;
    Some(celsius).filter(|celsius| (-60.0..200.0).contains(celsius))
}

/// The degrees at which the kernel slows processors down for a zone.
fn limits(zone: &Path) -> impl Iterator<Item = f64> {
    let trip = |trip: usize, what: &str| zone.join(format!("trip_point_{trip}_{what}"));
    let is_passive = |i: &usize| text(&trip(*i, "type")).as_deref() == Some("passive");
    let found: Vec<f64> =
        (0..16).filter(is_passive).filter_map(|i| celsius(&trip(i, "temp"))).collect();
    found.into_iter().filter(|celsius| *celsius > 0.0)
}

/// The thermal devices of a kind.
fn of_kind(root: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = entries(&root.join("sys/class/thermal"));
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    found.retain(|path| name(path).is_some_and(|name| name.starts_with(kind)));
    found
}

impl Supply {
    /// From the kernel's monitor of the voltage; or, where there is none, from the firmware's own file, of which newer kernels
    /// complain when it is read.
    fn read(root: &Path) -> Option<Supply> {
        let monitors = entries(&root.join("sys/class/hwmon"));
        let is_volt = |m: &&PathBuf| text(&m.join("name")).as_deref() == Some("rpi_volt");
        if let Some(volt) = monitors.iter().find(is_volt) {
            let under_voltage = read_number(&volt.join("in0_lcrit_alarm"))? != 0;
            return Some(Supply { under_voltage, ..Supply::default() });
        }
        let platform = entries(&root.join("sys/devices/platform"));
        let socs = platform.iter().filter(|folder| folder.to_string_lossy().contains("/soc"));
        let mut files = socs.flat_map(|soc| entries(soc)).map(|file| file.join("get_throttled"));
        let flags = files.find_map(|file| text(&file))?;
        let flags = u64::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        let is_hot = |flags: u64| {
            let is_low = flags & UNDER_VOLTAGE != 0;
            flags & SOFT_LIMIT != 0 || flags & THROTTLED != 0 && !is_low
        };
        Some(Supply {
            under_voltage: flags & UNDER_VOLTAGE != 0,
            was_under_voltage: flags >> WAS & UNDER_VOLTAGE != 0,
            throttled: is_hot(flags),
            was_throttled: is_hot(flags >> WAS),
        })
    }
}
