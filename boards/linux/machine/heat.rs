//! How hot a board is, and whether its power will do.

use super::{entries, text};
use crate::cgroup::read_number;
use serde::Serialize;
use std::path::Path;

/// How hot a board is, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Heat {
    /// Degrees Celsius of the hottest part that is measured.
    pub celsius: Option<f64>,
    /// Degrees Celsius from which on the kernel slows the board down, where it tells.
    pub limit: Option<f64>,
    /// Whether the clock of the processors is lowered now, because of the heat.
    pub is_slowed: bool,
    /// What the firmware of a Raspberry Pi says.
    pub supply: Option<Supply>,
}

/// What the firmware of a Raspberry Pi says of power and heat, now and since it was turned on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Supply {
    /// The voltage is too low.
    pub under_voltage: bool,
    /// It was.
    pub was_under_voltage: bool,
    /// Heat slows the board down.
    pub throttled: bool,
    /// It did.
    pub was_throttled: bool,
}

/// Bits of `get_throttled` (documentation of `vcgencmd`): too little voltage, throttled, softly limited; 16 higher: since the
/// board was turned on.
const UNDER_VOLTAGE: u64 = 1;
const THROTTLED: u64 = 1 << 2 | 1 << 3;
const WAS: u32 = 16;

impl Heat {
    /// The heat of the machine whose files lie below `root`.
    pub fn read(root: &Path) -> Heat {
        let supply = Supply::read(root);
        let zones = of_kind(root, "thermal_zone");
        let celsius = |path: &Path| Some(read_number(path)? as f64 / 1000.0);
        let hottest = zones.iter().filter_map(|zone| celsius(&zone.join("temp")));
        let hottest = hottest.filter(|celsius| *celsius < 200.0).reduce(f64::max);
        let limits = zones.iter().flat_map(|zone| {
            let trips = (0..16).map(move |trip| zone.join(format!("trip_point_{trip}_type")));
            trips.filter(|kind| text(kind).as_deref() == Some("passive"))
        });
        let limits = limits.filter_map(|kind| {
            let name = kind.file_name()?.to_str()?.replace("_type", "_temp");
            celsius(&kind.with_file_name(name))
        });
        let limit = limits.reduce(f64::min);
        let is_lowered = of_kind(root, "cooling_device").iter().any(|device| {
            let kind = text(&device.join("type")).unwrap_or_default();
            kind.contains("cpufreq") && read_number(&device.join("cur_state")).unwrap_or(0) > 0
        });
        let is_slowed = is_lowered || supply.is_some_and(|supply| supply.throttled);
        Heat { celsius: hottest, limit, is_slowed, supply }
    }
}

/// The thermal devices of a kind.
fn of_kind(root: &Path, kind: &str) -> Vec<std::path::PathBuf> {
    let mut found = entries(&root.join("sys/class/thermal"));
    let is_of_kind = |path: &std::path::PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(kind))
    };
    found.retain(is_of_kind);
    found
}

impl Supply {
    /// From the firmware's own file, or what the kernel's monitor of the voltage has.
    fn read(root: &Path) -> Option<Supply> {
        let folders = entries(&root.join("sys/devices/platform"));
        let files = folders
            .iter()
            .filter(|f| f.to_string_lossy().contains("/soc"))
            .flat_map(|f| entries(f));
        let flags = files.map(|file| file.join("get_throttled")).find_map(|file| text(&file));
        if let Some(flags) = flags {
            let flags = u64::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
            return Some(Supply {
                under_voltage: flags & UNDER_VOLTAGE != 0,
                was_under_voltage: flags >> WAS & UNDER_VOLTAGE != 0,
                throttled: flags & THROTTLED != 0,
                was_throttled: flags >> WAS & THROTTLED != 0,
            });
        }
        let monitors = entries(&root.join("sys/class/hwmon"));
        let volt =
            monitors.iter().find(|m| text(&m.join("name")).as_deref() == Some("rpi_volt"))?;
        let under_voltage = read_number(&volt.join("in0_lcrit_alarm"))? != 0;
        Some(Supply { under_voltage, was_under_voltage: under_voltage, ..Supply::default() })
    }
}
