//! Running a synthetic model to see what its neurons and experts do.

use crate::exit::{Exit, Failure, OrExit};
use crate::interrupt::Interrupt;
use std::io::{self, Write};
use wick_core::{Arena, Candidates, Engine, Guidance, History, Logits, Sampler, Sampling, Token};
use wick_prepare::Synthetic;

/// A run of the model that counts what neurons and experts do.
pub(crate) struct Trial<'a, 'e> {
    engine: Engine<'e>,
    sampler: Sampler,
    candidates: Candidates<'e>,
    interrupt: &'a Interrupt,
    /// State of the generator of random tokens.
    random: u64,
    /// Tokens run.
    tokens: usize,
    /// How often each expert was chosen, for each layer.
    chosen: Vec<Vec<usize>>,
    /// Neurons that were not zero, for each layer.
    neurons: Vec<usize>,
    /// Sum over tokens of the mean square of the residual stream after the last layer.
    residual: f64,
}

impl<'a, 'e> Trial<'a, 'e> {
    pub(crate) fn new(
        engine: Engine<'e>,
        seed: u64,
        interrupt: &'a Interrupt,
        arena: &mut Arena<'e>,
    ) -> Result<Trial<'a, 'e>, Failure> {
        let config = engine.config();
        let (experts, layers, vocab) = (config.experts, config.layers, config.vocab);
        // As recommended for the published models.
        let sampling =
            Sampling { temperature: 0.6, top_k: 20, top_p: 0.95, seed, ..Sampling::GREEDY };
        let sampler = Sampler::new(sampling);
        let candidates = Candidates::new(vocab, arena).or_exit(Exit::Memory)?;
        let (chosen, neurons) = (vec![vec![0; experts]; layers], vec![0; layers]);
        let (random, tokens, residual) = (seed, 0, 0.0);
        Ok(Trial {
            engine,
            sampler,
            candidates,
            interrupt,
            random,
            tokens,
            chosen,
            neurons,
            residual,
        })
    }

    /// Runs as many tokens: three quarters random, then the model's own.
    pub(crate) fn run(&mut self, tokens: usize) -> Result<(), Failure> {
        let (vocab, batch) = (self.engine.config().vocab, self.engine.options().batch);
        let prompt: Vec<u32> = (0..tokens.div_ceil(4) * 3).map(|_| self.id(vocab)).collect();
        let prompt = &prompt[..prompt.len().min(tokens)];
        prompt.chunks(batch).try_for_each(|chunk| self.step(chunk))?;
        for _ in prompt.len()..tokens {
            let (history, candidates) = (History::default(), &mut self.candidates);
            let draw =
                |logits| self.sampler.sample(logits, history, Guidance::default(), candidates);
            let id = self
                .engine
                .logits(0)
                .map(draw)
                .transpose()
                .or_exit(Exit::Model)?
                .unwrap_or_default();
            self.step(&[id])?;
        }
        Ok(())
    }

    /// The next random token (a linear congruential generator).
    fn id(&mut self, vocab: usize) -> u32 {
        self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        ((self.random >> 33) as usize % vocab) as u32
    }

    fn step(&mut self, ids: &[u32]) -> Result<(), Failure> {
        self.interrupt.check()?;
        let last = ids.len() - 1;
        let logits = |i| if i == last { Logits::All } else { Logits::None };
        let token = |(i, id): (usize, &u32)| Token::new(*id, 0, logits(i));
        let batch: Vec<Token> = ids.iter().enumerate().map(token).collect();
        self.engine.step(&batch)?;
        for (layer, (chosen, neurons)) in self.chosen.iter_mut().zip(&mut self.neurons).enumerate()
        {
            let experts = self.engine.chosen_experts(layer);
            experts.iter().for_each(|expert| chosen[*expert as usize] += 1);
            *neurons += self.engine.active_neurons(layer);
        }
        let streams = (0..ids.len()).filter_map(|i| self.engine.residual(i));
        self.residual += streams.map(mean_square).sum::<f64>();
        self.tokens += ids.len();
        Ok(())
    }

    /// A line for each layer: what was wanted and what was reached.
    pub(crate) fn report(&self, synthetic: &Synthetic) -> io::Result<()> {
        let (config, statistics) = (self.engine.config(), synthetic.statistics());
        let mut out = io::stdout().lock();
        let tokens = self.tokens as f64;
        writeln!(out, "{} tokens; by layer, in percent:", self.tokens)?;
        writeln!(out, "       neurons at zero  tokens that choose an expert")?;
        writeln!(out, "layer  wanted  reached  off  (chance)  most: wanted  reached")?;
        let neurons = tokens * (config.active * config.expert_width) as f64;
        let mut sums = [0.0; 4];
        for layer in 0..config.layers {
            let frequency = &statistics.frequency[layer];
            let wanted = statistics.sparsity[layer];
            let reached = 1.0 - self.neurons[layer] as f64 / neurons;
            let choice = Choice::new(frequency, &self.chosen[layer], tokens);
            let row = [wanted, reached, choice.off, choice.chance, choice.most, choice.reached];
            let [a, b, c, d, e, f] = row.map(|share| 100.0 * share);
            writeln!(out, "{layer:5}  {a:6.1}  {b:7.1}  {c:4.1}  {d:7.1}  {e:12.1}  {f:7.1}")?;
            sums.iter_mut().zip(row).for_each(|(sum, share)| *sum += share);
        }
        let [a, b, c, d] = sums.map(|sum| 100.0 * sum / config.layers as f64);
        writeln!(out, " mean  {a:6.1}  {b:7.1}  {c:4.1}  {d:7.1}")?;
        let (wanted, reached) =
            (synthetic.residual(config.layers), (self.residual / tokens).sqrt());
        writeln!(
            out,
            "residual stream after the last layer: {wanted:.2} wanted, {reached:.2} reached"
        )
    }
}

fn mean_square(x: &[f32]) -> f64 {
    x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64
}

/// How the choice of experts in a layer compares with what was wanted.
struct Choice {
    /// Total variation distance of the shares of all choices: 0 where they are those wanted, 1 where
    /// no expert was chosen that should have been.
    off: f64,
    /// About the distance that so many independent tokens have in the mean.
    chance: f64,
    /// The frequency wanted of the expert that should be chosen most.
    most: f64,
    /// The frequency that it reached.
    reached: f64,
}

impl Choice {
    fn new(frequency: &[f64], chosen: &[usize], tokens: f64) -> Choice {
        let active: f64 = frequency.iter().sum();
        let reached = |e: usize| chosen[e] as f64 / tokens;
        let distances = frequency.iter().enumerate().map(|(e, f)| (f - reached(e)).abs());
        // The mean distance of a normal number from its mean.
        let spread = |f: &f64| (f * (1.0 - f) / tokens).sqrt() * std::f64::consts::FRAC_2_PI.sqrt();
        let first = frequency.iter().zip(0..).max_by(|a, b| a.0.total_cmp(b.0));
        let (most, expert) = first.unwrap_or((&0.0, 0));
        Choice {
            off: 0.5 * distances.sum::<f64>() / active,
            chance: 0.5 * frequency.iter().map(spread).sum::<f64>() / active,
            most: *most,
            reached: reached(expert),
        }
    }
}
