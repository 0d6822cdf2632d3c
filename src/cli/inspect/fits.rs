//! What of a model fits into how much memory, and how fast it is expected to be then.

use crate::board::boards;
use crate::memory::Mib;
use crate::plan;
use crate::screen::line;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;
use wick_core::Options;
use wick_linux::board::{Board, Boards, Expectation};
use wick_linux::host::{Budget, HostError, Model, Placement, one_sequence};
use wick_linux::machine::{Disk, Machine};

/// Memories that boards have, in GiB.
const MEMORIES: [usize; 4] = [1, 2, 4, 8];
/// Boards that speeds are shown of unless somebody names others: a slow one, and two with other memory and storage.
const USUAL: [&str; 3] = ["pi4", "pi5", "rk3588"];

/// What fits into each memory.
#[derive(Serialize)]
pub(super) struct Fits {
    context: usize,
    /// The least memory that the process can do with.
    least: Option<usize>,
    boards: Vec<Named>,
    memories: Vec<Row>,
}

#[derive(Serialize)]
struct Named {
    name: String,
    title: String,
}

/// A memory.
#[derive(Serialize)]
struct Row {
    memory: usize,
    fits: bool,
    /// Why it does not.
    refusal: Option<String>,
    plan: Option<Planned>,
}

/// What becomes of a memory.
#[derive(Serialize)]
struct Planned {
    /// Bytes that are taken.
    total: usize,
    /// Experts of the model, and those that have a slot.
    experts: usize,
    expert_slots: usize,
    /// Share of wanted experts that a slot holds, expected.
    hit_rate: f64,
    /// In the order of the boards.
    expected: Vec<Expected>,
}

#[derive(Serialize)]
struct Expected {
    board: String,
    tokens_per_second: f64,
    by: String,
}

/// This board if it is known, with the storage that the model lies on, and a few others.
pub(super) fn usual_boards(model: Option<&Path>) -> Vec<Board> {
    let all = match boards() {
        Ok(all) => all,
        Err(error) => {
            log::warn!("{error}");
            return Vec::new();
        }
    };
    let here = here(&all, model);
    let others = USUAL.iter().filter(|name| here.is_none_or(|here| here.name != **name));
    here.into_iter().chain(others.filter_map(|name| all.named(name))).cloned().collect()
}

fn here<'a>(all: &'a Boards, model: Option<&Path>) -> Option<&'a Board> {
    let root = Path::new("/");
    let machine = Machine::read(root);
    let path = model.and_then(|path| path.canonicalize().ok());
    let disk = path.and_then(|path| Disk::of(root, &path));
    let name = machine.model.as_deref().unwrap_or_default();
    all.called(name, &machine.compatible, disk.map(|disk| disk.kind))
}

impl Fits {
    pub(super) fn of(model: &Model<'_>, context: Option<usize>, boards: &[Board]) -> Fits {
        let options = one_sequence(&model.config, context);
        let named = |board: &Board| Named { name: board.name.clone(), title: board.title.clone() };
        let row = |gib| Row::of(model, options, gib << 30, boards);
        Fits {
            context: options.context,
            least: least(model, options),
            boards: boards.iter().map(named).collect(),
            memories: MEMORIES.into_iter().map(row).collect(),
        }
    }

    /// A table for people.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let least = self.least.map_or("an unknown least".into(), |bytes| Mib(bytes).to_string());
        writeln!(out, "fits        into {least} or more, with a context of {}", self.context)?;
        writeln!(
            out,
            "  what stays of the experts, and how many tokens/s are expected of boards:"
        )?;
        write!(out, "  {:8}  {:24}", "memory", "experts in memory")?;
        self.boards.iter().try_for_each(|board| write!(out, "  {:>12}", line(&board.name)))?;
        writeln!(out)?;
        self.memories.iter().try_for_each(|row| row.write(out))?;
        for Named { name, title } in &self.boards {
            writeln!(out, "  {:8}  {}", line(name), line(title))?;
        }
        Ok(())
    }
}

/// The least memory that would do: what a memory of a byte is told to be less than.
fn least(model: &Model<'_>, options: Options) -> Option<usize> {
    let budget = Budget::of_process(Some(1));
    match Placement::choose(model, options, budget.as_ref(), false) {
        Err(HostError::Shortage(shortage)) => Some(shortage.footprint.total),
        _ => None,
    }
}

impl Row {
    fn of(model: &Model<'_>, options: Options, memory: usize, boards: &[Board]) -> Row {
        let budget = Budget::of_process(Some(memory));
        match Placement::choose(model, options, budget.as_ref(), false) {
            Ok(placement) => {
                let plan = plan::Report::new(model, &placement, budget.as_ref(), 0, None);
                let plan = Some(Planned::of(&plan, boards));
                Row { memory, fits: true, refusal: None, plan }
            }
            Err(error) => Row { memory, fits: false, refusal: Some(error.to_string()), plan: None },
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "  {:8}  ", format!("{} GiB", self.memory >> 30))?;
        let Some(plan) = &self.plan else { return writeln!(out, "does not fit") };
        let share = 100.0 * plan.expert_slots as f64 / plan.experts.max(1) as f64;
        let experts = format!("{} of {} ({share:.0} %)", plan.expert_slots, plan.experts);
        write!(out, "{experts:24}")?;
        for Expected { tokens_per_second: rate, .. } in &plan.expected {
            write!(out, "  {rate:>12.1}")?;
        }
        writeln!(out)
    }
}

impl Planned {
    fn of(plan: &plan::Report, boards: &[Board]) -> Planned {
        let expected = |board: &Board| {
            let Expectation { rate, bound, .. } = board.expect(plan.work());
            let (board, by) = (board.name.clone(), bound.to_string());
            Expected { board, tokens_per_second: rate, by }
        };
        Planned {
            total: plan.total,
            experts: plan.experts,
            expert_slots: plan.expert_slots,
            hit_rate: plan.hit_rate,
            expected: boards.iter().map(expected).collect(),
        }
    }
}
