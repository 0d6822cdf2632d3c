//! The service's unit at systemd, beside what the service keeps to by itself.

use crate::memory::Mib;
use std::process::{Command, Stdio};
use wick_linux::host::Budget;

/// The unit that the package has.
const UNIT: &str = "wick.service";

/// What limits the memory of a unit, in bytes; `None` where nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    max: Option<u64>,
    high: Option<u64>,
}

/// How the limits of the unit and of this kernel fit a budget, a line each; none where there is no such unit.
pub(crate) fn compare(budget: Option<&Budget>) -> Vec<String> {
    let Some(limits) = shown().as_deref().and_then(Limits::read) else { return Vec::new() };
    lines(limits, budget.map(|budget| budget.whole as u64), wick_linux::has_memory_groups())
}

/// What systemd shows of the unit.
fn shown() -> Option<String> {
    let mut command = Command::new("systemctl");
    command.args(["show", UNIT, "--property=LoadState,MemoryMax,MemoryHigh"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()
}

impl Limits {
    fn read(text: &str) -> Option<Limits> {
        let value = |key| text.lines().find_map(|line| line.strip_prefix(key));
        let bytes = |key| value(key).and_then(|bytes| bytes.parse().ok());
        let limits = Limits { max: bytes("MemoryMax="), high: bytes("MemoryHigh=") };
        (value("LoadState=") == Some("loaded")).then_some(limits)
    }
}

fn lines(limits: Limits, budget: Option<u64>, has_groups: bool) -> Vec<String> {
    if !has_groups {
        let how = "cgroup_enable=memory on its command line turns them on";
        return vec![format!(
            "kernel         limits the memory of no unit: that of --memory alone holds; {how}"
        )];
    }
    let line = |name: &str, limit: Option<u64>, below: &str| {
        let shown = limit.map_or("none".into(), |bytes| Mib(bytes as usize).to_string());
        let is_below = matches!((limit, budget), (Some(limit), Some(budget)) if limit < budget);
        let warning =
            if is_below { format!("; less than --memory: {below}") } else { String::new() };
        format!("{name:14} {shown} for {UNIT}{warning}")
    };
    vec![
        line("MemoryMax", limits.max, "the kernel would end the service"),
        line("MemoryHigh", limits.high, "the kernel would slow the service down"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_compared_with_the_budget() {
        let shown = "LoadState=loaded\nMemoryHigh=infinity\nMemoryMax=1073741824\n";
        let limits = Limits::read(shown).unwrap();
        assert_eq!(limits, Limits { max: Some(1 << 30), high: None });
        assert_eq!(Limits::read("LoadState=not-found\nMemoryMax=1\n"), None);
        let fits = lines(limits, Some(1 << 29), true).join("\n");
        assert!(fits.contains("1024.0 MiB for wick.service\n") && !fits.contains("less"), "{fits}");
        let tight = lines(limits, Some(1 << 31), true).join("\n");
        assert!(tight.contains("less than --memory: the kernel would end"), "{tight}");
        assert!(!tight.contains("slow"), "{tight}");
        assert!(lines(limits, None, false)[0].contains("cgroup_enable=memory"));
    }
}
