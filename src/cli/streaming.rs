//! What reading experts that are not in memory took.

use crate::memory::Mib;
use serde::Serialize;
use std::time::Duration;
use wick_core::{Engine, ExpertFigures, Prefetch, StoreFigures};

/// Figures of an engine whose experts are read when they are wanted, from its start until now.
#[derive(Clone, Copy, Default)]
pub(crate) struct Streaming {
    experts: ExpertFigures,
    store: StoreFigures,
}

/// The same for some tokens, to be shown.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Streamed {
    /// Share of wanted experts that were in a slot when the router spoke.
    hit_rate: f64,
    /// Experts wanted, each once in a step.
    wanted: u64,
    /// Reads of low-bit copies.
    low_bit: u64,
    /// Reads that the router's choice started.
    router: Reads,
    /// Reads that a guess at the next layer's choice started.
    guess: Reads,
    /// Bytes read for a token.
    bytes_per_token: f64,
    /// Bytes per second while something was on its way.
    device_bytes_per_second: f64,
    /// Seconds in which a token waited for reads.
    waited_per_token: f64,
    /// Reads that were made again.
    retries: u64,
}

/// Experts read ahead of their use.
#[derive(Clone, Copy, Serialize)]
struct Reads {
    asked: u64,
    useful: u64,
    late: u64,
    wasted: u64,
}

impl Streaming {
    /// The figures of an engine; `None` if all its experts stand in memory.
    pub(crate) fn of(engine: &Engine<'_>) -> Option<Streaming> {
        let (experts, store) = (*engine.expert_figures()?, engine.store_figures()?);
        Some(Streaming { experts, store })
    }

    /// What `tokens` tokens took since `before`.
    pub(crate) fn since(&self, before: &Streaming, tokens: usize) -> Streamed {
        let (now, then) = (&self.experts, &before.experts);
        let wanted = now.wanted - then.wanted;
        let prefetch = |now: Prefetch, then: Prefetch| Reads {
            asked: now.asked - then.asked,
            useful: now.useful - then.useful,
            late: now.late - then.late,
            wasted: now.wasted - then.wasted,
        };
        let tokens = tokens.max(1) as f64;
        let bytes = (self.store.bytes - before.store.bytes) as f64;
        let seconds = |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64();
        Streamed {
            hit_rate: (now.resident - then.resident) as f64 / wanted.max(1) as f64,
            wanted,
            low_bit: now.low_bit - then.low_bit,
            router: prefetch(now.router, then.router),
            guess: prefetch(now.guess, then.guess),
            bytes_per_token: bytes / tokens,
            device_bytes_per_second: bytes / seconds(self.store.busy, before.store.busy).max(1e-9),
            waited_per_token: seconds(self.store.waited, before.store.waited) / tokens,
            retries: self.store.retries - before.store.retries,
        }
    }
}

impl Streamed {
    /// The figures for people, a line each, each with its name.
    pub(crate) fn lines(&self) -> [(&'static str, String); 3] {
        let count = |reads: &Reads| {
            let Reads { asked, useful, late, wasted } = reads;
            format!("{asked} asked, {useful} useful ({late} late), {wasted} wasted")
        };
        let retries = match self.retries {
            0 => String::new(),
            n => format!("; {n} reads made again"),
        };
        let copies = match self.low_bit {
            0 => String::new(),
            n => format!(", {n} low-bit copies read"),
        };
        [
            (
                "experts",
                format!(
                    "{:.1} % of {} in a slot when wanted{copies}",
                    100.0 * self.hit_rate,
                    self.wanted
                ),
            ),
            (
                "ahead",
                format!("by router {}; by guess {}", count(&self.router), count(&self.guess)),
            ),
            (
                "reads",
                format!(
                    "{} a token at {:.1} MB/s; {:.2} ms of waiting a token{retries}",
                    Mib(self.bytes_per_token as usize),
                    self.device_bytes_per_second / 1e6,
                    1e3 * self.waited_per_token
                ),
            ),
        ]
    }
}
