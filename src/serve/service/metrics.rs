//! What the service has done, in the words of Prometheus.

use super::job::Outcome;
use crate::saved::SavedFigures;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use wick_core::Engine;
use wick_session::{Ended, Stepped};

/// Counts of events, and of seconds.
type Seconds = Counter<f64, AtomicU64>;
/// A temperature.
type Degrees = Gauge<f64, AtomicU64>;

/// All figures, and how they are told.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What tells the memory of the process.
    look: OnceLock<fn() -> Option<u64>>,
    /// Answers by path and status.
    responses: Family<Response, Counter>,
    ended: Family<End, Counter>,
    prompt: Counter,
    cached: Counter,
    drawn: Counter,
    accepted: Counter,
    rejected: Counter,
    waiting: Histogram,
    first_token: Histogram,
    next_token: Histogram,
    queued: Gauge,
    running: Gauge,
    held: Gauge,
    experts_wanted: Gauge,
    experts_resident: Gauge,
    read_bytes: Gauge,
    read_retries: Gauge,
    read_waited: Seconds,
    saved_tokens: Gauge,
    saved_read: Gauge,
    saved_written: Gauge,
    request_bytes: Gauge,
    resident: Gauge,
    budget: Gauge,
    threads: Gauge,
    celsius: Degrees,
    throttled: Gauge,
    under_voltage: Gauge,
}

/// What the service computes with, and under which conditions.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Threads that compute.
    pub threads: usize,
    /// Degrees Celsius of the board's hottest part, if it is measured.
    pub celsius: Option<f64>,
    /// Whether heat slows the board down.
    pub is_throttled: bool,
    /// Whether the board has too little voltage.
    pub is_under_voltage: bool,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Response {
    path: String,
    status: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct End {
    reason: Reason,
}

#[derive(Clone, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
enum Reason {
    Stop,
    Length,
    Cancelled,
    Failed,
}

/// Seconds between 5 ms and 5 minutes.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// A registry that is being filled.
struct Filling(Registry);

impl Filling {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn seconds(&mut self, name: &str, help: &str) -> Histogram {
        self.add(name, help, Histogram::new(SECONDS))
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::default())
    }

    fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut all = Filling(Registry::with_prefix("wick"));
        Metrics {
            responses: all.add("http_responses", "Answers by path and status", Family::default()),
            ended: all.add("generations", "Generations that ended, by reason", Family::default()),
            prompt: all.counter("prompt_tokens", "Tokens of prompts"),
            cached: all
                .counter("cached_tokens", "Tokens of prompts that the KV cache held already"),
            drawn: all.counter("drawn_tokens", "Tokens drawn"),
            accepted: all.counter("drafts_accepted", "Drafted tokens that were drawn"),
            rejected: all.counter("drafts_rejected", "Drafted tokens that were not drawn"),
            waiting: all.seconds("queue_seconds", "Time from a request to its sequence"),
            first_token: all
                .seconds("first_token_seconds", "Time from a request to its first token"),
            next_token: all.seconds("next_token_seconds", "Time between two tokens of a sequence"),
            queued: all.gauge("queued_requests", "Requests that wait for a sequence"),
            running: all.gauge("running_requests", "Requests that have a sequence"),
            held: all.gauge("kv_tokens", "Tokens in the KV cache, of all sequences"),
            experts_wanted: all
                .gauge("experts_wanted", "Experts that layers wanted since the start"),
            experts_resident: all
                .gauge("experts_resident", "Of these, experts that were in memory"),
            read_bytes: all.gauge("read_bytes", "Bytes of experts read since the start"),
            read_retries: all.gauge("read_retries", "Reads that were made again since the start"),
            read_waited: all.add(
                "read_waited_seconds",
                "Time spent waiting for reads",
                Seconds::default(),
            ),
            saved_tokens: all
                .gauge("saved_tokens", "Tokens of prompts that were read from the cache folder"),
            saved_read: all.gauge("saved_read_bytes", "Bytes read from the cache folder"),
            saved_written: all.gauge("saved_written_bytes", "Bytes written to the cache folder"),
            request_bytes: all
                .gauge("request_bytes", "Memory that requests have taken beside the engine"),
            resident: all.gauge("resident_bytes", "Memory of the process"),
            budget: all.gauge("budget_bytes", "Memory that the process may take"),
            threads: all.gauge("threads", "Threads that compute"),
            celsius: all.add(
                "board_celsius",
                "Temperature of the board's hottest part; NaN if it is not measured",
                Degrees::default(),
            ),
            throttled: all.gauge("board_throttled", "1 while heat slows the board down"),
            under_voltage: all
                .gauge("board_under_voltage", "1 while the board has too little voltage"),
            look: OnceLock::new(),
            registry: all.0,
        }
    }
}

impl Metrics {
    /// An answer to a request.
    pub fn response(&self, path: &str, status: u16) {
        self.responses.get_or_create(&Response { path: path.into(), status }).inc();
    }

    /// What tells the memory of the process, each time that somebody wants to know, and what it may take.
    pub fn memory(&self, resident: fn() -> Option<u64>, budget: Option<u64>) {
        self.look.get_or_init(|| resident);
        budget.into_iter().for_each(|bytes| _ = self.budget.set(bytes as i64));
    }

    /// What the service computes with now.
    pub fn conditions(&self, now: Conditions) {
        self.threads.set(now.threads as i64);
        self.celsius.set(now.celsius.unwrap_or(f64::NAN));
        self.throttled.set(now.is_throttled.into());
        self.under_voltage.set(now.is_under_voltage.into());
    }

    /// Requests that wait, and that run.
    pub fn queue(&self, (waiting, running): (usize, usize)) {
        self.queued.set(waiting as i64);
        self.running.set(running as i64);
    }

    /// Memory that requests have taken.
    pub(crate) fn requests(&self, bytes: usize) {
        self.request_bytes.set(bytes as i64);
    }

    pub(crate) fn saved(&self, figures: &SavedFigures) {
        self.saved_tokens.set(figures.tokens as i64);
        self.saved_read.set(figures.read as i64);
        self.saved_written.set(figures.written as i64);
    }

    pub(crate) fn begin(&self, prompt: usize, cached: usize, waited: Duration) {
        self.prompt.inc_by(prompt as u64);
        self.cached.inc_by(cached as u64);
        self.waiting.observe(waited.as_secs_f64());
    }

    pub(crate) fn first_token(&self, time: Duration) {
        self.first_token.observe(time.as_secs_f64());
    }

    pub(crate) fn next_token(&self, time: Duration) {
        self.next_token.observe(time.as_secs_f64());
    }

    pub(crate) fn step(&self, engine: &Engine<'_>, stepped: Stepped) {
        self.accepted.inc_by(stepped.accepted as u64);
        self.rejected.inc_by(stepped.rejected as u64);
        let held: usize =
            (0..engine.options().sequences).map(|sequence| engine.len(sequence)).sum();
        self.held.set(held as i64);
        if let (Some(experts), Some(store)) = (engine.expert_figures(), engine.store_figures()) {
            self.experts_wanted.set(experts.wanted as i64);
            self.experts_resident.set(experts.resident as i64);
            self.read_bytes.set(store.bytes as i64);
            self.read_retries.set(store.retries as i64);
            let more = store.waited.as_secs_f64() - self.read_waited.get();
            self.read_waited.inc_by(more.max(0.0));
        }
    }

    pub(crate) fn end(&self, outcome: &Outcome) {
        let reason = match outcome.ended {
            Ended::Stop | Ended::StopString(_) => Reason::Stop,
            Ended::Length | Ended::Context => Reason::Length,
            Ended::Cancelled => Reason::Cancelled,
            Ended::Failed(_) => Reason::Failed,
        };
        self.ended.get_or_create(&End { reason }).inc();
        self.drawn.inc_by(outcome.drawn as u64);
    }

    /// All of it as text, in OpenMetrics' format.
    pub fn to_text(&self) -> String {
        let resident = self.look.get().and_then(|look| look());
        resident.into_iter().for_each(|bytes| _ = self.resident.set(bytes as i64));
        let mut text = String::new();
        let _infallible = encode(&mut text, &self.registry);
        text
    }
}
