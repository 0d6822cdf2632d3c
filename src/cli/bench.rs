//! `wick bench`: how fast a model runs here, and what bounds it.

use crate::engine::{EngineArguments, HeadRowsArguments, with_engine};
use crate::exit::{Exit, Failure, OrExit};
use crate::memory::Mib;
use crate::model::{ModelArguments, tokenizer};
use crate::number;
use crate::progress::Progress;
use crate::report::print;
use crate::screen::line;
use crate::streaming::{Streamed, Streaming};
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use wick_core::{Config, Engine, Sampling, Token, Traffic};
use wick_linux::host::one_sequence;

/// Tokens of the prompt where there is room for them.
const PROMPT: usize = 512;

/// Measure how fast a model runs here
///
/// Each round reads a prompt and decodes tokens after it, of ids that look random and are always
/// the same. Weights are the bytes of the model that a decoded token reads; next to them stands how
/// fast the same threads read memory when they do nothing else, which no decoding can exceed.
///
///   wick bench model.gguf
///   wick bench model.gguf -p 16 -n 128 --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Tokens of the prompt [default: 512, or what the context has room for before the decoded ones]
    #[arg(short, long, value_name = "N", value_parser = number::up_to(1 << 24))]
    prompt: Option<usize>,
    /// Tokens decoded after it
    #[arg(short, long = "tokens", alias = "n", value_name = "N", default_value = "128", value_parser = number::up_to(1 << 24))]
    n: usize,
    /// Rounds
    #[arg(short, long, value_name = "N", default_value = "3", value_parser = number::up_to(1_000_000_000))]
    rounds: usize,
    /// Positions for prompt and decoded tokens together [default: as many as are used]
    #[arg(short, long, value_name = "N", value_parser = number::context())]
    context: Option<usize>,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    output: HeadRowsArguments,
    /// Leave out how fast memory is read
    #[arg(long)]
    no_bandwidth: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Everything that is shown.
#[derive(Serialize)]
struct Report {
    model: String,
    kernels: &'static str,
    threads: usize,
    prompt: usize,
    decoded: usize,
    rounds: usize,
    /// From the start of the process to the engine's.
    load_seconds: f64,
    /// From the start of the process to the logits of the first prompt.
    first_token_seconds: f64,
    prefill: Rate,
    decode: Rate,
    weights: Weights,
    /// Share of the neurons of chosen experts that were not zero.
    active_neurons: f64,
    /// Share of the rows of the LM head that were multiplied.
    output_rows: f64,
    /// Bytes of weights per second at the median speed of decoding.
    decode_bandwidth: f64,
    /// Bytes per second that the same threads read from memory.
    memory_bandwidth: Option<f64>,
    /// What reading experts took in the last round, if they are read when they are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill_experts: Option<Streamed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_experts: Option<Streamed>,
    /// Bytes of the process in memory, after the last round and at most until then.
    resident: Option<u64>,
    peak_resident: Option<u64>,
}

/// Tokens per second.
#[derive(Serialize)]
struct Rate {
    median: f64,
    min: f64,
    max: f64,
}

/// Mean bytes of weights that a decoded token reads.
#[derive(Serialize)]
struct Weights {
    dense: u64,
    gate: u64,
    up: u64,
    down: u64,
    output: u64,
    total: u64,
}

impl Arguments {
    /// Tokens of the prompt, and positions for it and what is decoded after it.
    fn room(&self, config: &Config) -> Result<(usize, usize), Failure> {
        let room = self.context.unwrap_or(config.context);
        let left = Some(room.saturating_sub(self.n)).filter(|left| *left > 0);
        let prompt = self.prompt.unwrap_or(PROMPT.min(left.unwrap_or(PROMPT)));
        let (used, n) = (prompt.saturating_add(self.n), self.n);
        match self.context {
            Some(context) if context < used => {
                let wrong = format_args!(
                    "-p {prompt} and -n {n} need {used} positions; --context {context} is less"
                );
                Err(Failure::new(Exit::Usage, wrong))
            }
            context => Ok((prompt, context.unwrap_or(used))),
        }
    }
}

/// `started` is when the process did.
pub(crate) fn run(arguments: &Arguments, started: Instant) -> Result<(), Failure> {
    let files = arguments.model.open()?;
    let model = files.model(arguments.model.overrides())?;
    // Not needed, but part of what it takes to load a model that answers.
    let _tokenizer = tokenizer(&files, model.metadata()).ok();
    let (prompt, context) = arguments.room(&model.config)?;
    let options = arguments.output.apply(one_sequence(&model.config, Some(context)));
    let report = with_engine(&model, options, Some(prompt), &arguments.engine, |mut engine, _| {
        let load = started.elapsed();
        let rounds = rounds(&mut engine, arguments, prompt, started)?;
        report(&engine, arguments, prompt, (files.name(), load), &rounds)
    })?;
    print(&report, arguments.json, |report, out| report.write(out))
}

/// What the rounds took and used.
#[derive(Default)]
struct Rounds {
    /// When the logits of the first prompt were there. A short one is read once more, before weights
    /// are arranged.
    first_token: Option<Duration>,
    prefill: Vec<Duration>,
    decode: Vec<Duration>,
    /// Sums over all decoded tokens.
    traffic: Traffic,
    neurons: usize,
    output_rows: usize,
    /// What reading experts took in prefill and in decoding, round by round, if they were read.
    streamed: Vec<(Streamed, Streamed)>,
}

fn rounds(
    engine: &mut Engine<'_>,
    arguments: &Arguments,
    prompt: usize,
    started: Instant,
) -> Result<Rounds, Failure> {
    let n = arguments.n;
    let ids = ids(prompt + n, engine.config().vocab);
    let (prompt, drawn) = ids.split_at(prompt);
    let logits = arguments.output.head_rows().logits(Sampling::default().top());
    let read = |engine: &mut Engine<'_>| {
        prompt.chunks(engine.options().batch).try_for_each(|chunk| engine.prefill(0, chunk, logits))
    };
    let mut rounds = Rounds::default();
    let mut progress = Progress::count("measuring", arguments.rounds * ids.len(), "tokens");
    let mut done = 0;
    let approximation = arguments.engine.approximation();
    if engine.arrange(0) > 0 {
        read(engine)?;
        rounds.first_token = Some(started.elapsed());
        engine.arrange(usize::MAX);
    }
    for _ in 0..arguments.rounds {
        engine.truncate(0, 0).or_exit(Exit::Failed)?;
        let before = Streaming::of(engine);
        let start = Instant::now();
        read(engine)?;
        rounds.prefill.push(start.elapsed());
        done += prompt.len() as u64;
        progress.set(done);
        rounds.first_token.get_or_insert_with(|| started.elapsed());
        let filled = Streaming::of(engine);
        let start = Instant::now();
        for id in drawn {
            engine.step(&[Token { approximation, ..Token::new(*id, 0, logits) }])?;
            rounds.count(engine);
            done += 1;
            progress.set(done);
        }
        rounds.decode.push(start.elapsed());
        if let (Some(before), Some(filled), Some(done)) = (before, filled, Streaming::of(engine)) {
            rounds.streamed.push((filled.since(&before, prompt.len()), done.since(&filled, n)));
        }
    }
    Ok(rounds)
}

impl Rounds {
    /// Adds what the last step used, a few hundred additions that do not show in its time.
    fn count(&mut self, engine: &Engine<'_>) {
        let config = engine.config();
        let neurons = |layer| engine.active_neurons(layer);
        let rows = engine.lm_head_rows();
        self.traffic += Traffic::of_token(engine.weights(), config.active, rows, neurons);
        self.output_rows += rows;
        self.neurons += (0..config.layers).map(neurons).sum::<usize>();
    }
}

/// `n` ids below `vocab`, of a linear congruential generator.
fn ids(n: usize, vocab: usize) -> Vec<u32> {
    let next = |seed: &u32| Some(seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let seeds = std::iter::successors(Some(12_345), next);
    seeds.skip(1).take(n).map(|seed| ((seed >> 8) as usize % vocab) as u32).collect()
}

fn report(
    engine: &Engine<'_>,
    arguments: &Arguments,
    prompt: usize,
    (model, load): (&str, Duration),
    rounds: &Rounds,
) -> Result<Report, Failure> {
    let decoded = arguments.n;
    let (config, tokens) = (engine.config(), decoded * arguments.rounds);
    // Before memory for the bandwidth is taken.
    let (resident, peak_resident) = (wick_linux::resident(), wick_linux::peak_resident());
    let decode = Rate::new(decoded, &rounds.decode);
    let weights = Weights::mean(&rounds.traffic, tokens as u64);
    let neurons = tokens * config.layers * config.active * config.expert_width;
    let bandwidth = || wick_linux::read_bandwidth(engine.parallel());
    Ok(Report {
        model: model.into(),
        kernels: engine.kernels().name(),
        threads: engine.parallel().threads(),
        prompt,
        decoded,
        rounds: arguments.rounds,
        load_seconds: load.as_secs_f64(),
        first_token_seconds: rounds.first_token.unwrap_or(load).as_secs_f64(),
        prefill: Rate::new(prompt, &rounds.prefill),
        decode_bandwidth: weights.total as f64 * decode.median,
        decode,
        weights,
        active_neurons: rounds.neurons as f64 / neurons as f64,
        output_rows: rounds.output_rows as f64 / (tokens * config.vocab) as f64,
        memory_bandwidth: (!arguments.no_bandwidth).then(bandwidth).flatten(),
        prefill_experts: rounds.streamed.last().map(|(prefill, _)| *prefill),
        decode_experts: rounds.streamed.last().map(|(_, decode)| *decode),
        resident,
        peak_resident,
    })
}

impl Rate {
    /// The rates of rounds of `tokens` tokens that took `times`, of which there is at least one.
    fn new(tokens: usize, times: &[Duration]) -> Rate {
        let rate = |time: &Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
        let mut rates: Vec<f64> = times.iter().map(rate).collect();
        rates.sort_by(f64::total_cmp);
        let last = rates.len() - 1;
        let median = (rates[last / 2] + rates[last.div_ceil(2)]) / 2.0;
        Rate { median, min: rates[0], max: rates[last] }
    }
}

impl Weights {
    fn mean(sum: &Traffic, tokens: u64) -> Weights {
        Weights {
            dense: sum.dense / tokens,
            gate: sum.gate / tokens,
            up: sum.up / tokens,
            down: sum.down / tokens,
            output: sum.lm_head / tokens,
            total: sum.total() / tokens,
        }
    }
}

impl Report {
    /// The report for people.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mib = |bytes: u64| Mib(bytes as usize);
        let rate = |tokens, Rate { median, min, max }: &Rate| {
            format!(
                "{median:.2} tokens/s ({min:.2} to {max:.2} in {} rounds of {tokens} tokens)",
                self.rounds
            )
        };
        writeln!(out, "model      {}", line(&self.model))?;
        writeln!(out, "kernels    {}, {} threads", self.kernels, self.threads)?;
        writeln!(
            out,
            "start      {:.3} s until the model is loaded, {:.3} s until the first token",
            self.load_seconds, self.first_token_seconds
        )?;
        writeln!(out, "prefill    {}", rate(self.prompt, &self.prefill))?;
        writeln!(out, "decode     {}", rate(self.decoded, &self.decode))?;
        let w = &self.weights;
        writeln!(
            out,
            "weights    {} a token: dense {}, gate {}, up {}, down {}, LM head {}",
            mib(w.total),
            mib(w.dense),
            mib(w.gate),
            mib(w.up),
            mib(w.down),
            mib(w.output)
        )?;
        writeln!(out, "neurons    {:.1} % active", 100.0 * self.active_neurons)?;
        writeln!(out, "LM head    {:.2} % of the rows", 100.0 * self.output_rows)?;
        self.write_bandwidth(out)?;
        for (phase, streamed) in
            [("prefill", &self.prefill_experts), ("decode", &self.decode_experts)]
        {
            for (name, figures) in streamed.iter().flat_map(Streamed::lines) {
                writeln!(out, "{name:10} {phase}: {figures}")?;
            }
        }
        if let (Some(now), Some(most)) = (self.resident, self.peak_resident) {
            writeln!(out, "memory     {} resident, {} at most", mib(now), mib(most))?;
        }
        Ok(())
    }

    fn write_bandwidth(&self, out: &mut impl Write) -> io::Result<()> {
        let found = self.decode_bandwidth / 1e9;
        let Some(memory) = self.memory_bandwidth.map(|memory| memory / 1e9) else {
            return writeln!(out, "bandwidth  {found:.2} GB/s of weights");
        };
        let percent = 100.0 * found / memory;
        writeln!(
            out,
            "bandwidth  {found:.2} GB/s of weights, {percent:.0} % of the {memory:.2} GB/s at which \
             memory is read"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_between_the_two_in_the_middle() {
        let rate = |times: &[u64]| {
            let times: Vec<Duration> = times.iter().map(|s| Duration::from_secs(*s)).collect();
            let Rate { median, min, max } = Rate::new(100, &times);
            (median, min, max)
        };
        assert_eq!(rate(&[5]), (20.0, 20.0, 20.0));
        assert_eq!(rate(&[10, 2, 4]), (25.0, 10.0, 50.0));
        assert_eq!(rate(&[10, 2, 4, 5]), (22.5, 10.0, 50.0));
    }
}
