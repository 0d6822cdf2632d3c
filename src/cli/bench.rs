//! `wick bench`: how fast a model runs here, and what bounds it.

mod rounds;

use crate::engine::{EngineArguments, HeadRowsArguments, with_engine};
use crate::exit::{Exit, Failure};
use crate::memory::Mib;
use crate::model::{ModelArguments, tokenizer};
use crate::number;
use crate::report::print;
use crate::screen::line;
use crate::streaming::Streamed;
use clap::Args;
use rounds::{Measurement, Rounds, rounds};
use serde::Serialize;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use wick_core::{Config, Engine, Options, Sampling, Traffic};
use wick_linux::host::one_sequence;

/// Tokens of the prompt where there is room for them.
const PROMPT: usize = 512;

/// Measure how fast a model runs here
///
/// Each round reads a prompt and decodes tokens after it, of ids that look random and are always
/// the same. Weights are the bytes of the model that a decoded token reads; next to them stands how
/// fast the same threads read memory when they do nothing else, which no decoding can exceed.
///
/// With --parallel, sequences decode side by side as in a service, and rates are those of all together.
///
///   wick bench model.gguf
///   wick bench model.gguf -p 16 -n 128 --json
///   wick bench model.gguf --memory 1G --parallel 4
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
    /// Sequences that decode side by side, each with a prompt of its own
    #[arg(long, value_name = "N", default_value = "1", value_parser = number::up_to(64))]
    parallel: usize,
    /// Positions of a sequence, for prompt and decoded tokens [default: as many as are used]
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
    sequences: usize,
    /// Tokens of a sequence.
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
    /// Mean of the different experts that a layer computed for all sequences in a step.
    experts: f64,
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

/// Mean bytes of weights that a decoded token reads; of several in a step, its share at most.
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

    fn measurement(&self, prompt: usize) -> Measurement {
        Measurement {
            rounds: self.rounds,
            sequences: self.parallel,
            prompt,
            decoded: self.n,
            logits: self.output.head_rows().logits(Sampling::default().top()),
            approximation: self.engine.approximation(),
        }
    }

    /// As many sequences of this length as were asked for.
    fn options(&self, one: Options) -> Options {
        let sequences = self.parallel;
        Options { sequences, batch: one.batch.max(sequences), logits: sequences, ..one }
    }
}

/// `started` is when the process did.
pub(crate) fn run(arguments: &Arguments, started: Instant) -> Result<(), Failure> {
    let files = arguments.model.open()?;
    let model = files.model(arguments.model.overrides())?;
    // Not needed, but part of what it takes to load a model that answers.
    let _tokenizer = tokenizer(&files, model.metadata()).ok();
    let (prompt, context) = arguments.room(&model.config)?;
    let options =
        arguments.options(arguments.output.apply(one_sequence(&model.config, Some(context))));
    let report = with_engine(&model, options, Some(prompt), &arguments.engine, |mut engine, _| {
        let load = started.elapsed();
        let rounds = rounds(&mut engine, &arguments.measurement(prompt), started)?;
        report(&engine, arguments, prompt, (files.name(), load), &rounds)
    })?;
    print(&report, arguments.json, |report, out| report.write(out))
}

fn report(
    engine: &Engine<'_>,
    arguments: &Arguments,
    prompt: usize,
    (model, load): (&str, Duration),
    rounds: &Rounds,
) -> Result<Report, Failure> {
    let decoded = arguments.n;
    let (config, parallel) = (engine.config(), arguments.parallel);
    let steps = decoded * arguments.rounds;
    let tokens = steps * parallel;
    // Before memory for the bandwidth is taken.
    let (resident, peak_resident) = (wick_linux::resident(), wick_linux::peak_resident());
    let decode = Rate::new(decoded * parallel, &rounds.decode);
    let weights = Weights::mean(&rounds.traffic, tokens as u64);
    let neurons = tokens * config.layers * config.active * config.expert_width;
    let bandwidth = || wick_linux::read_bandwidth(engine.parallel());
    Ok(Report {
        model: model.into(),
        kernels: engine.kernels().name(),
        threads: engine.parallel().threads(),
        sequences: parallel,
        prompt,
        decoded,
        rounds: arguments.rounds,
        load_seconds: load.as_secs_f64(),
        first_token_seconds: rounds.first_token.unwrap_or(load).as_secs_f64(),
        prefill: Rate::new(prompt * parallel, &rounds.prefill),
        decode_bandwidth: weights.total as f64 * decode.median,
        decode,
        weights,
        active_neurons: rounds.neurons as f64 / neurons as f64,
        output_rows: rounds.output_rows as f64 / (tokens * config.vocab) as f64,
        experts: rounds.experts as f64 / (steps * config.layers) as f64,
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
        let each = match self.sequences {
            1 => String::new(),
            n => format!(" in each of {n} sequences"),
        };
        let rate = |tokens, Rate { median, min, max }: &Rate| {
            format!(
                "{median:.2} tokens/s ({min:.2} to {max:.2} in {} rounds of {tokens} tokens{each})",
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
        if self.sequences > 1 {
            writeln!(out, "experts    {:.1} different ones in a layer of a step", self.experts)?;
        }
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
