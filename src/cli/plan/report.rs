//! What a plan shows.

use crate::exit::{Exit, Failure, OrExit};
use crate::memory::Mib;
use crate::screen::line;
use anyhow::Context;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;
use wick_core::{Config, HeadRows, Part, Traffic, Weights};
use wick_linux::Catalogue;
use wick_linux::board::{Board, Expectation, Work};
use wick_linux::host::{Budget, Footprint, Model, Placement};
use wick_linux::reads::{SpeedSample, measure_reads};
use wick_prepare::Statistics;

/// Everything that is shown.
#[derive(Serialize)]
pub(crate) struct Report {
    model: String,
    context: usize,
    sequences: usize,
    batch: usize,
    /// Bytes of each part.
    dense_weights: usize,
    kv: usize,
    scratch: usize,
    sampler: usize,
    program: usize,
    requests: usize,
    slots: usize,
    pub(crate) total: usize,
    /// Bytes that the process may take, and who says so.
    budget: Option<usize>,
    budget_source: Option<String>,
    /// Experts of the model, those that have a slot, and bytes of a slot.
    pub(crate) experts: usize,
    pub(crate) expert_slots: usize,
    /// Slots beyond these, while little of the context is used.
    lent_slots: usize,
    slot_bytes: usize,
    slots_per_layer: f64,
    /// Share of wanted experts that a slot holds, expected.
    pub(crate) hit_rate: f64,
    /// Bytes that a decoded token reads, expected.
    memory_bytes_per_token: f64,
    pub(super) storage_bytes_per_token: f64,
    pub(super) bounds: Vec<Bounds>,
    #[serde(skip)]
    work: Work,
}

/// Tokens per second, and what says so.
#[derive(Serialize)]
pub(super) struct Bounds {
    source: String,
    /// At most, by each of what bounds them.
    memory: Option<f64>,
    processors: Option<f64>,
    storage: Option<f64>,
    /// How many are expected, and what bounds them.
    expected: Option<f64>,
    by: Option<String>,
}

impl Bounds {
    /// By what is known of a board.
    fn of_board(board: &Board, work: Work) -> Bounds {
        let Expectation { rate, bound, .. } = board.expect(work);
        Bounds {
            source: board.title.clone(),
            memory: Some(board.memory.peak / work.memory),
            processors: Some(board.products() / work.memory),
            storage: (work.storage > 0.0).then(|| board.storage.bandwidth / work.storage),
            expected: Some(rate),
            by: Some(bound.to_string()),
        }
    }

    /// By reading from the model's file; `None` if there is none, or it is too small to tell.
    pub(super) fn measured(model: &Model<'_>, storage: f64) -> Result<Option<Bounds>, Failure> {
        let Some(file) = model.files.parts().first() else {
            log::warn!("--measure: {} has no file to read from", model.files.name());
            return Ok(None);
        };
        let measured = measure_reads(file.path(), Duration::from_secs(2));
        let Some(speed) = measured.context("measuring reads").or_exit(Exit::Failed)? else {
            log::warn!("--measure: {} is too small a file to tell", file.path().display());
            return Ok(None);
        };
        let SpeedSample { depth, size, bandwidth } = speed.best;
        let how = if speed.is_direct { "" } else { ", through the page cache" };
        Ok(Some(Bounds {
            source: format!(
                "this file: {:.0} MB/s with {depth} reads of {} KiB in flight{how}",
                bandwidth / 1e6,
                size >> 10
            ),
            memory: None,
            processors: None,
            storage: (storage > 0.0).then(|| bandwidth / storage),
            expected: None,
            by: None,
        }))
    }
}

impl Report {
    /// Of a model that stands so, beside `requests` bytes of the budget that are promised to something else.
    pub(crate) fn new(
        model: &Model<'_>,
        placement: &Placement,
        budget: Option<&Budget>,
        requests: usize,
        board: Option<&Board>,
    ) -> Report {
        let Model { config, weights, .. } = model;
        let statistics = Statistics::report(config);
        let experts = config.layers * config.experts;
        let Placement { options, plan, catalogue } = placement;
        let slot_bytes = catalogue.as_ref().map_or(weights.slot_bytes(), Catalogue::slot_bytes);
        let expert_slots = if plan.slots == 0 { experts } else { plan.slots / slot_bytes };
        let (hit_rate, storage) = expected_misses(weights, &statistics, expert_slots);
        let memory = expected_traffic(config, weights, &statistics);
        let Footprint { program, total } = placement.footprint(budget);
        let reads = storage / slot_bytes as f64 * Part::ALL.len() as f64;
        let work = Work { memory, storage, reads };
        let bounds = board.map(|board| Bounds::of_board(board, work));
        Report {
            model: model.files.name().into(),
            context: options.context,
            sequences: options.sequences,
            batch: options.batch,
            dense_weights: plan.weights,
            kv: plan.kv,
            scratch: plan.scratch,
            sampler: plan.sampler,
            program: program.saturating_sub(requests),
            requests,
            slots: plan.slots,
            total,
            budget: budget.map(|budget| budget.whole),
            budget_source: budget.map(|budget| budget.source.to_string()),
            experts,
            expert_slots,
            lent_slots: plan.lent / slot_bytes,
            slot_bytes,
            slots_per_layer: expert_slots as f64 / config.layers as f64,
            hit_rate,
            memory_bytes_per_token: memory,
            storage_bytes_per_token: storage,
            bounds: bounds.into_iter().collect(),
            work,
        }
    }

    /// What a decoded token takes.
    pub(crate) fn work(&self) -> Work {
        self.work
    }

    /// What stands in memory, in a line.
    pub(crate) fn summary(&self) -> String {
        let Report { model, experts, expert_slots, total, .. } = self;
        format!("{model}: {} for {expert_slots} of {experts} experts and the rest", Mib(*total))
    }

    /// The report for people.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let streaming = self.slots > 0;
        let weights = if streaming { "dense weights" } else { "weights" };
        writeln!(out, "model          {}", line(&self.model))?;
        let each = if self.sequences > 1 {
            format!(" in each of {} sequences", self.sequences)
        } else {
            String::new()
        };
        writeln!(
            out,
            "context        {} positions{each}, {} in a batch",
            self.context, self.batch
        )?;
        writeln!(out)?;
        for (part, bytes) in [
            (weights, self.dense_weights),
            ("KV cache", self.kv),
            ("scratch", self.scratch),
            ("sampler", self.sampler),
            ("program", self.program),
            ("requests", self.requests),
            ("expert slots", self.slots),
            ("total", self.total),
        ] {
            if part == "requests" && bytes == 0 {
                continue;
            }
            writeln!(out, "{part:13} {:>12}", Mib(bytes).to_string())?;
        }
        if let (Some(bytes), Some(source)) = (self.budget, &self.budget_source) {
            writeln!(out, "{:13} {:>12} ({source})", "may take", Mib(bytes).to_string())?;
        }
        writeln!(out)?;
        let share = 100.0 * self.expert_slots as f64 / self.experts as f64;
        writeln!(
            out,
            "experts        {} of {} in memory ({share:.1} %), {:.1} a layer, {} each",
            self.expert_slots,
            self.experts,
            self.slots_per_layer,
            Mib(self.slot_bytes)
        )?;
        if self.lent_slots > 0 {
            let lent = Mib(self.lent_slots * self.slot_bytes);
            writeln!(
                out,
                "lent           {lent} of KV cache and scratch to {} more, until they are used",
                self.lent_slots
            )?;
        }
        writeln!(
            out,
            "wanted         {:.1} % of experts in memory; a token reads {} of memory and {} of \
             storage",
            100.0 * self.hit_rate,
            Mib(self.memory_bytes_per_token as usize),
            Mib(self.storage_bytes_per_token as usize)
        )?;
        self.bounds.iter().try_for_each(|bounds| bounds.write(out))
    }
}

impl Bounds {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "by             {}", line(&self.source))?;
        let by = |what, rate: f64| format!("{rate:.1} tokens/s by {what}");
        let bounds =
            [("memory", self.memory), ("processors", self.processors), ("storage", self.storage)];
        let bounds = bounds.into_iter().filter_map(|(what, rate)| Some(by(what, rate?)));
        let bounds: Vec<String> = bounds.collect();
        if !bounds.is_empty() {
            writeln!(out, "at most        {}", bounds.join(", "))?;
        }
        match (self.expected, &self.by) {
            (Some(rate), Some(bound)) => {
                writeln!(out, "expected       {rate:.1} tokens/s, bound by {bound}")
            }
            _ => Ok(()),
        }
    }
}

/// The share of wanted experts that slots hold if they hold those that are wanted most, and the bytes
/// that a token reads for the others.
fn expected_misses(weights: &Weights<'_>, statistics: &Statistics, slots: usize) -> (f64, f64) {
    let mut experts: Vec<(f64, usize)> = Vec::new();
    for (frequency, layer) in statistics.frequency.iter().zip(&weights.layers) {
        experts.extend(frequency.iter().map(|f| (*f, layer.slot_bytes())));
    }
    experts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (held, missed) = experts.split_at(slots.min(experts.len()));
    let wanted = |some: &[(f64, usize)]| some.iter().map(|(f, _)| f).sum::<f64>();
    // The sum of nothing is -0.
    let bytes = 0.0 + missed.iter().map(|(f, bytes)| f * *bytes as f64).sum::<f64>();
    (wanted(held) / wanted(&experts), bytes)
}

/// The bytes of weights that a decoded token reads from memory.
fn expected_traffic(config: &Config, weights: &Weights<'_>, statistics: &Statistics) -> f64 {
    let neurons = |layer: usize| {
        let all = (config.active * config.expert_width) as f64;
        (all * (1.0 - statistics.sparsity[layer])) as usize
    };
    let all_rows = (HeadRows::Exact, config.vocab);
    Traffic::of_token(weights, config.active, all_rows, neurons).total() as f64
}
