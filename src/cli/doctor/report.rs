//! What the doctor shows.

use super::advice::Advice;
use super::file_report::FileReport;
use super::measured::{Measured, StorageSpeed};
use crate::memory::Mib;
use crate::plan;
use crate::screen::line;
use serde::Serialize;
use std::io::{self, Write};
use wick_linux::board::Expectation;
use wick_linux::machine::{Disk, Heat, Link, Machine, MachineMemory, Processors};

/// Everything that is shown.
#[derive(Serialize)]
pub(super) struct Report {
    /// Of the boards that are known, which this is.
    pub(super) board: Option<String>,
    pub(super) machine: Machine,
    pub(super) file: Option<FileReport>,
    pub(super) disk: Option<Disk>,
    pub(super) measured: Option<Measured>,
    /// What the model takes, or why it does not fit.
    pub(super) plan: Option<plan::Report>,
    pub(super) shortage: Option<String>,
    pub(super) expected: Vec<Expected>,
    /// What to change, what helps most first.
    pub(super) advice: Vec<Advice>,
}

/// How fast a model is expected to be.
#[derive(Serialize)]
pub(super) struct Expected {
    source: &'static str,
    tokens_per_second: f64,
    by: String,
}

impl Expected {
    pub(super) fn new(source: &'static str, expectation: Expectation) -> Expected {
        let Expectation { rate, bound, .. } = expectation;
        Expected { source, tokens_per_second: rate, by: bound.to_string() }
    }
}

impl Report {
    /// The report for people.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let unknown = || "unknown".to_owned();
        let mut row = |name: &str, text: String| writeln!(out, "{name:14} {}", line(&text));
        let machine = &self.machine;
        row("machine", machine.model.clone().unwrap_or_else(unknown))?;
        let describe = || "not known; it can be described in /etc/wick/boards".to_owned();
        row("board", self.board.clone().unwrap_or_else(describe))?;
        for kind in &machine.processors {
            row("processors", processors(kind))?;
        }
        row("features", machine.features.join(", "))?;
        row("memory", memory(&machine.memory))?;
        if let Some(bytes) = machine.may_use {
            let who = if machine.is_in_group { "its control group" } else { "the machine" };
            row("may take", format!("{} of {who}", Mib(bytes as usize)))?;
        }
        if let Some(quota) = machine.quota {
            row("may compute", format!("the time of {quota} processor(s), by its control group"))?;
        }
        row("heat", heat(&machine.heat))?;
        row("clock", clock(machine))?;
        row("kernel", machine.kernel.clone().unwrap_or_else(unknown))?;
        for text in self.file.iter().map(|file| self.file(file)).chain(self.storage()) {
            row("file", text)?;
        }
        for text in self.measured.iter().flat_map(Measured::lines) {
            row("measured", text)?;
        }
        self.write_expected(out)?;
        self.write_advice(out)
    }

    fn file(&self, file: &FileReport) -> String {
        let packed = if file.is_packed { "packed" } else { "not packed" };
        let direct = match file.is_direct {
            Some(true) => ", read past the page cache",
            Some(false) => ", read through the page cache",
            None => "",
        };
        format!("{}, {packed}{direct}", file.path)
    }

    fn storage(&self) -> Option<String> {
        let Disk { name, kind, model, filesystem, link, .. } = self.disk.as_ref()?;
        let model = model.as_ref().map_or(String::new(), |model| format!(" {model}"));
        let filesystem = filesystem.as_ref().map_or(String::new(), |name| format!(", {name}"));
        let link = match link {
            Some(Link::Pcie { speed, lanes, .. }) => format!(", {lanes} × {speed} GT/s of PCIe"),
            Some(Link::Usb(megabits)) => format!(", USB at {megabits} Mbit/s"),
            None => String::new(),
        };
        Some(format!("on {name}: {kind}{model}{filesystem}{link}"))
    }

    fn write_expected(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(shortage) = &self.shortage {
            writeln!(out, "{:14} {}", "does not fit", line(shortage))?;
        }
        if let Some(plan) = &self.plan {
            writeln!(out, "{:14} {}", "model", line(&plan.summary()))?;
        }
        for Expected { source, tokens_per_second, by } in &self.expected {
            let told = format!("{tokens_per_second:.1} tokens/s by {source}, bound by {by}");
            writeln!(out, "{:14} {told}", "expected")?;
        }
        Ok(())
    }

    fn write_advice(&self, out: &mut impl Write) -> io::Result<()> {
        if self.advice.is_empty() {
            return writeln!(out, "\nNothing to change.");
        }
        writeln!(out, "\nTo change, what helps most first:")?;
        for (i, Advice { what, how }) in self.advice.iter().enumerate() {
            writeln!(out, "{:3}. {}\n     {}", i + 1, line(what), line(how))?;
        }
        Ok(())
    }
}

fn processors(kind: &Processors) -> String {
    let Processors { name, numbers, capacity, mhz, governor, .. } = kind;
    let mhz = mhz.map_or(String::new(), |mhz| format!(" at up to {mhz} MHz"));
    let capacity = capacity.map_or(String::new(), |capacity| format!(", capacity {capacity}"));
    let governor = governor.as_ref().map_or(String::new(), |name| format!(", governor {name}"));
    format!("{} × {name}{mhz}{capacity}{governor}", numbers.len())
}

fn memory(memory: &MachineMemory) -> String {
    let mib =
        |bytes: Option<u64>| bytes.map_or("?".into(), |bytes| Mib(bytes as usize).to_string());
    let page = memory.page.map_or(String::new(), |page| format!(", pages of {} KiB", page >> 10));
    let huge =
        memory.huge_pages.as_ref().map_or(String::new(), |huge| format!(", huge ones: {huge}"));
    let swaps = memory.swaps.iter().map(|swap| {
        format!(
            ", {} swap on {} ({} used)",
            Mib(swap.bytes as usize),
            swap.place,
            Mib(swap.used as usize)
        )
    });
    let swaps: String = swaps.collect();
    format!("{}, {} available{page}{huge}{swaps}", mib(memory.total), mib(memory.available))
}

fn clock(machine: &Machine) -> String {
    let source = machine.clock.as_deref().unwrap_or("unknown");
    let rtc =
        if machine.has_rtc { "an RTC" } else { "no RTC, so that it stands still without power" };
    format!("{source}, {rtc}")
}

fn heat(heat: &Heat) -> String {
    let celsius = heat.celsius.map_or("unknown".into(), |celsius| format!("{celsius:.0} °C"));
    let limit =
        heat.limit.map_or(String::new(), |limit| format!(", slowed down from {limit:.0} °C on"));
    let slowed = if heat.is_slowed { ", slowed down now" } else { "" };
    let low = match heat.supply {
        Some(supply) if supply.under_voltage => ", voltage too low",
        Some(supply) if supply.was_under_voltage => ", voltage was too low",
        _ => "",
    };
    format!("{celsius}{limit}{slowed}{low}")
}

impl Measured {
    /// The figures for people.
    fn lines(&self) -> Vec<String> {
        let memory = self
            .memory
            .map(|memory| format!("memory: {:.1} GB/s by {} threads", memory / 1e9, self.threads));
        let storage = self.storage.as_ref().map(|storage| {
            let how = if storage.is_direct { "" } else { ", through the page cache" };
            format!(
                "this file: {:.0} MB/s with {} reads of {} KiB at once{how}",
                storage.bandwidth / 1e6,
                storage.reads,
                storage.bytes >> 10
            )
        });
        let ring = self
            .io_uring
            .as_ref()
            .map_or("io_uring: allowed".into(), |why| format!("io_uring: {why}"));
        let sizes = self.storage.iter().flat_map(StorageSpeed::by_size);
        memory.into_iter().chain(storage).chain(sizes).chain([ring]).collect()
    }
}
