//! Reading a prompt and drawing an answer, token by token.

use crate::exit::{Exit, Failure, OrExit};
use crate::interrupt::Interrupt;
use crate::memory::Mib;
use crate::progress::Progress;
use crate::streaming::{Streamed, Streaming};
use std::io::{self, Write};
use std::time::{Duration, Instant};
use wick_core::{Approximation, Arena, Candidates, Engine, HeadRows, Sampler, Sampling};
use wick_session::{
    Ended, Failure as SessionFailure, Generation, GenerationId, Request, Scheduler,
};
use wick_text::Tokenizer;

/// Sections of the model that are arranged before each token that is taken in, until all are: so few
/// that text goes on.
const SECTIONS: usize = 4;

/// What the last prompt and its answer took.
#[derive(Default)]
pub(crate) struct Figures {
    /// Tokens read; those that the KV cache held already do not count.
    pub(crate) prompt: usize,
    /// Tokens of the prompt that it held.
    pub(crate) cached: usize,
    /// Time for reading the others.
    pub(crate) prefill: Duration,
    /// Tokens drawn.
    pub(crate) drawn: usize,
    /// Of these, tokens that were taken in again to draw the next one.
    pub(crate) steps: usize,
    /// Time for taking them in.
    pub(crate) decode: Duration,
    /// Time for arranging weights between them.
    arrange: Duration,
    /// What reading experts took for them, if they were read.
    streamed: Option<Streamed>,
}

impl Figures {
    /// Figures for people, on stderr.
    pub(crate) fn report(&self) -> io::Result<()> {
        let mut err = io::stderr().lock();
        let rate = |tokens: usize, time: Duration| {
            format!("{tokens} tokens, {:.2} tokens/s", tokens as f64 / time.as_secs_f64().max(1e-9))
        };
        writeln!(err, "prefill: {}", rate(self.prompt, self.prefill))?;
        writeln!(err, "decode:  {}", rate(self.steps, self.decode))?;
        writeln!(err, "drawn:   {} tokens", self.drawn)?;
        if !self.arrange.is_zero() {
            writeln!(err, "arrange: {:.3} s between the first tokens", self.arrange.as_secs_f64())?;
        }
        for (name, figures) in self.streamed.iter().flat_map(Streamed::lines) {
            writeln!(err, "{:8} {figures}", format!("{name}:"))?;
        }
        if let Some(bytes) = wick_linux::peak_resident() {
            writeln!(err, "memory:  {} resident at most", Mib(bytes as usize))?;
        }
        Ok(())
    }
}

/// How long it took until a model could answer, on stderr.
pub(crate) fn report_load(loaded: Duration) -> io::Result<()> {
    writeln!(io::stderr(), "load:    {:.3} s", loaded.as_secs_f64())
}

/// How answers are drawn.
#[derive(Clone, Copy)]
pub(crate) struct Drawing {
    pub(crate) sampling: Sampling,
    pub(crate) head_rows: HeadRows,
    pub(crate) approximation: Approximation,
}

/// How tokens are drawn, so that a text can be drawn again.
fn tell(sampling: &Sampling) {
    let Sampling { temperature, top_k, top_p, min_p, repeat_penalty, .. } = sampling;
    let Sampling { presence_penalty, frequency_penalty, seed, .. } = sampling;
    log::info!(
        "temperature {temperature}, top-k {top_k}, top-p {top_p}, min-p {min_p}, repeat penalty \
         {repeat_penalty}, presence penalty {presence_penalty}, frequency penalty \
         {frequency_penalty}, seed {seed}"
    );
}

/// A model that answers, one prompt at a time.
pub(crate) struct Answer<'a, 'e> {
    scheduler: Scheduler<'e>,
    drawing: Drawing,
    /// Goes on from answer to answer.
    sampler: Sampler,
    current: Option<GenerationId>,
    /// Texts that end an answer.
    pub(crate) stop: Vec<String>,
    /// Why the last answer ended.
    pub(crate) ended: Option<Ended>,
    tokenizer: &'a Tokenizer,
    interrupt: &'a Interrupt,
    /// Whether a long prompt shows on a terminal how far it is read.
    pub(crate) shows_progress: bool,
    pub(crate) figures: Figures,
}

impl<'a, 'e> Answer<'a, 'e> {
    /// A model that has read nothing yet. Ctrl-C stops it.
    pub(crate) fn new(
        engine: Engine<'e>,
        drawing: Drawing,
        tokenizer: &'a Tokenizer,
        interrupt: &'a Interrupt,
        arena: &mut Arena<'e>,
    ) -> Result<Answer<'a, 'e>, Failure> {
        let vocab = engine.config().vocab;
        let candidates = Candidates::new(vocab, arena).or_exit(Exit::Memory)?;
        tell(&drawing.sampling);
        Ok(Answer {
            scheduler: Scheduler::new(engine, candidates),
            sampler: Sampler::new(drawing.sampling),
            drawing,
            current: None,
            stop: Vec::new(),
            ended: None,
            tokenizer,
            interrupt,
            shows_progress: true,
            figures: Figures::default(),
        })
    }

    /// Reads a prompt in place of all that was read and drawn before, for an answer of up to `most`
    /// tokens. What the prompt and the text before begin with is in the KV cache and is not read
    /// again; the answer is the same.
    pub(crate) fn prefill(&mut self, ids: &[u32], most: usize) -> Result<(), Failure> {
        let start = Instant::now();
        let Drawing { head_rows, approximation, .. } = self.drawing;
        let request = Request::new(ids.to_vec(), most, self.sampler.clone());
        let request = Request { head_rows, approximation, stop: self.stop.clone(), ..request };
        self.ended = None;
        self.figures = Figures::default();
        let id = self.scheduler.start(request).or_exit(Exit::Input)?;
        self.current = Some(id);
        self.figures.cached = self.generation().map_or(0, Generation::cached_tokens);
        let progress = || Progress::count("reading the prompt", ids.len(), "tokens");
        let mut progress = self.shows_progress.then(progress);
        while self.generation().is_some_and(Generation::is_reading) {
            self.figures.prompt += self.scheduler.step(self.tokenizer).prompt;
            self.figures.prefill = start.elapsed();
            let held = self.generation().map_or(0, Generation::held_tokens);
            progress.iter_mut().for_each(|progress| progress.set(held as u64));
            let interrupted = self.interrupt.check();
            let ended = self.generation().and_then(Generation::ended);
            if let Some(Ended::Failed(SessionFailure::Step(error))) = ended {
                self.release();
                return Err(error.into());
            }
            if interrupted.is_err() {
                self.release();
                return interrupted;
            }
        }
        Ok(())
    }

    /// Hands the text of the answer to `each` as it is drawn, until the model, the context or the
    /// number of tokens ends it.
    pub(crate) fn decode(
        &mut self,
        mut each: impl FnMut(&str) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let before = Streaming::of(self.scheduler.engine());
        let done = self.draw(&mut each);
        let after = before.zip(Streaming::of(self.scheduler.engine()));
        let steps = self.figures.steps;
        self.figures.streamed = after.map(|(before, after)| after.since(&before, steps));
        self.ended = self.release();
        match self.ended {
            Some(Ended::Failed(failure)) => return done.and(Err(failure.into())),
            Some(Ended::Context) => {
                let context = self.scheduler.engine().options().context;
                log::warn!("the context of {context} positions is full");
            }
            _ => {}
        }
        done
    }

    fn draw(&mut self, each: &mut impl FnMut(&str) -> io::Result<()>) -> Result<(), Failure> {
        while let Some(generation) = self.generation() {
            each(generation.text())?;
            if generation.ended().is_some() {
                break;
            }
            self.interrupt.check()?;
            self.step();
        }
        Ok(())
    }

    fn generation(&self) -> Option<&Generation> {
        self.scheduler.generation(self.current?)
    }

    /// Ends the answer at hand; the KV cache keeps what it holds.
    fn release(&mut self) -> Option<Ended> {
        if let Some(generation) = self.current.and_then(|id| self.scheduler.generation(id)) {
            self.sampler = generation.sampler().clone();
            self.figures.drawn = generation.drawn().len();
        }
        self.scheduler.release(self.current.take()?)
    }

    /// Takes a drawn token in and draws the next one, after arranging some of the weights, if they are
    /// not yet.
    fn step(&mut self) {
        if self.scheduler.arrange(0) > 0 {
            let start = Instant::now();
            self.scheduler.arrange(SECTIONS);
            self.figures.arrange += start.elapsed();
        }
        let start = Instant::now();
        self.figures.steps += self.scheduler.step(self.tokenizer).drawn;
        self.figures.decode += start.elapsed();
    }
}
