//! The rounds of a measurement: prompts are read, and tokens decoded after them.

use crate::exit::{Exit, Failure, OrExit};
use crate::progress::Progress;
use crate::streaming::{Streamed, Streaming};
use std::ops::Range;
use std::time::{Duration, Instant};
use wick_core::{Approximation, Engine, Logits, Token, Traffic};

/// What is to be measured.
#[derive(Clone, Copy)]
pub(super) struct Measurement {
    pub(super) rounds: usize,
    pub(super) sequences: usize,
    /// Tokens that each sequence reads.
    pub(super) prompt: usize,
    /// Tokens that each decodes.
    pub(super) decoded: usize,
    /// Which logits a token wants.
    pub(super) logits: Logits,
    pub(super) approximation: Approximation,
}

/// What the rounds took and used.
#[derive(Default)]
pub(super) struct Rounds {
    /// When the logits of the first prompt were there. A short one is read once more, before weights
    /// are arranged.
    pub(super) first_token: Option<Duration>,
    pub(super) prefill: Vec<Duration>,
    pub(super) decode: Vec<Duration>,
    /// Sums over all decoded tokens.
    pub(super) traffic: Traffic,
    pub(super) neurons: usize,
    /// Different experts in each layer of each step.
    pub(super) experts: usize,
    pub(super) output_rows: usize,
    /// What reading experts took in prefill and in decoding, round by round, if they were read.
    pub(super) streamed: Vec<(Streamed, Streamed)>,
}

/// What sequences read and then decode.
struct Work<'i> {
    /// A prompt for each sequence, and the tokens after it.
    sequences: Vec<(&'i [u32], &'i [u32])>,
    measurement: &'i Measurement,
}

impl Work<'_> {
    /// Empties some sequences and reads their prompts.
    fn read(&self, engine: &mut Engine<'_>, sequences: Range<usize>) -> Result<(), Failure> {
        for sequence in sequences {
            engine.truncate(sequence, 0).or_exit(Exit::Failed)?;
            for chunk in self.sequences[sequence].0.chunks(engine.options().batch) {
                engine.prefill(sequence, chunk, self.measurement.logits)?;
            }
        }
        Ok(())
    }

    /// The tokens of a step: of each sequence the one at `place` after its prompt.
    fn tokens(&self, place: usize) -> impl Iterator<Item = Token> {
        let Measurement { logits, approximation, .. } = *self.measurement;
        self.sequences.iter().enumerate().map(move |(sequence, (_, drawn))| Token {
            approximation,
            ..Token::new(drawn[place], sequence, logits)
        })
    }
}

/// Reads and decodes; `started` is when the process did.
pub(super) fn rounds(
    engine: &mut Engine<'_>,
    measurement: &Measurement,
    started: Instant,
) -> Result<Rounds, Failure> {
    let Measurement { sequences: parallel, prompt, decoded: n, .. } = *measurement;
    let ids = ids((prompt + n) * parallel, engine.config().vocab);
    let work = Work {
        sequences: ids.chunks(prompt + n).map(|ids| ids.split_at(prompt)).collect(),
        measurement,
    };
    let mut rounds = Rounds::default();
    let mut progress = Progress::count("measuring", measurement.rounds * ids.len(), "tokens");
    let mut done = 0;
    if engine.arrange(0) > 0 {
        work.read(engine, 0..1)?;
        rounds.first_token = Some(started.elapsed());
        engine.arrange(usize::MAX);
    }
    let mut step = Vec::with_capacity(parallel);
    for _ in 0..measurement.rounds {
        let before = Streaming::of(engine);
        let start = Instant::now();
        work.read(engine, 0..1)?;
        rounds.first_token.get_or_insert_with(|| started.elapsed());
        work.read(engine, 1..parallel)?;
        rounds.prefill.push(start.elapsed());
        done += prompt * parallel;
        progress.set(done as u64);
        let filled = Streaming::of(engine);
        let start = Instant::now();
        for place in 0..n {
            step.clear();
            step.extend(work.tokens(place));
            engine.step(&step)?;
            rounds.count(engine);
            done += parallel;
            progress.set(done as u64);
        }
        rounds.decode.push(start.elapsed());
        if let (Some(before), Some(filled), Some(now)) = (before, filled, Streaming::of(engine)) {
            let prefill = filled.since(&before, prompt * parallel);
            rounds.streamed.push((prefill, now.since(&filled, n * parallel)));
        }
    }
    Ok(rounds)
}

impl Rounds {
    /// Adds what the last step used, a few thousand additions that do not show in its time.
    fn count(&mut self, engine: &Engine<'_>) {
        let (config, tokens) = (engine.config(), engine.options().sequences);
        let neurons = |layer| engine.active_neurons(layer);
        let mut is_chosen = vec![false; config.experts];
        let mut count = |layer| {
            is_chosen.fill(false);
            engine.chosen_experts(layer).iter().for_each(|e| is_chosen[*e as usize] = true);
            is_chosen.iter().filter(|chosen| **chosen).count()
        };
        let experts: Vec<usize> = (0..config.layers).map(&mut count).collect();
        let rows = engine.lm_head_rows();
        let multiplied = (engine.options().head_rows, rows);
        let weights = engine.weights();
        self.traffic += Traffic::of_step(weights, tokens, |i| experts[i], multiplied, neurons);
        self.output_rows += rows;
        self.neurons += (0..config.layers).map(neurons).sum::<usize>();
        self.experts += experts.iter().sum::<usize>();
    }
}

/// `n` ids below `vocab`, of a linear congruential generator.
fn ids(n: usize, vocab: usize) -> Vec<u32> {
    let next = |seed: &u32| Some(seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let seeds = std::iter::successors(Some(12_345), next);
    seeds.skip(1).take(n).map(|seed| ((seed >> 8) as usize % vocab) as u32).collect()
}
