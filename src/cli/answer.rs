//! Reading a prompt and drawing an answer, token by token.

use crate::exit::{Exit, Failure, OrExit};
use crate::interrupt::Interrupt;
use crate::memory::Mib;
use crate::streaming::{Streamed, Streaming};
use std::io::{self, Write};
use std::time::{Duration, Instant};
use wick_core::{Arena, Engine, Sampler, Sampling, Token};
use wick_text::{Control, Detokenizer, Tokenizer};

/// Sections of the model that are arranged before each token that is taken in, until all are: so few
/// that text goes on.
const SECTIONS: usize = 4;

/// What the last prompt and its answer took.
#[derive(Default)]
pub(crate) struct Figures {
    /// Tokens read; those that the KV cache held already do not count.
    pub(crate) prompt: usize,
    /// Time for reading them.
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

/// Writes text that its reader sees at once.
pub(crate) fn write_now(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A model that answers.
pub(crate) struct Answer<'a, 'e> {
    engine: Engine<'e>,
    sampler: Sampler<'e>,
    tokenizer: &'a Tokenizer,
    interrupt: &'a Interrupt,
    /// What the KV cache holds.
    held: Vec<u32>,
    pub(crate) figures: Figures,
}

impl<'a, 'e> Answer<'a, 'e> {
    /// A model that has read nothing yet. Ctrl-C stops it.
    pub(crate) fn new(
        mut engine: Engine<'e>,
        sampling: Sampling,
        tokenizer: &'a Tokenizer,
        interrupt: &'a Interrupt,
        arena: &mut Arena<'e>,
    ) -> Result<Answer<'a, 'e>, Failure> {
        let vocab = engine.config().vocab;
        let sampler = Sampler::new(sampling, vocab, arena).or_exit(Exit::Memory)?;
        engine.want_top(sampling.top());
        log::info!("{sampling:?}");
        let (held, figures) = (Vec::new(), Figures::default());
        Ok(Answer { engine, sampler, tokenizer, interrupt, held, figures })
    }

    /// Reads a prompt in place of all that was read and drawn before. What both begin with is in the
    /// KV cache and is not read again; the answer is the same.
    pub(crate) fn prefill(&mut self, ids: &[u32]) -> Result<(), Failure> {
        let start = Instant::now();
        let kept = self.keep(ids)?;
        self.figures = Figures::default();
        self.sampler.forget();
        ids.iter().for_each(|id| self.sampler.accept(*id));
        for chunk in ids[kept..].chunks(self.engine.options().batch) {
            self.engine.prefill(0, chunk)?;
            self.held.extend(chunk);
            self.figures.prompt += chunk.len();
            self.figures.prefill = start.elapsed();
            self.interrupt.check()?;
        }
        Ok(())
    }

    /// Cuts the KV cache to what `ids` begin with, and returns how much that is. The last of them is
    /// left out, since its logits are wanted.
    fn keep(&mut self, ids: &[u32]) -> Result<usize, Failure> {
        let before_last = &ids[..ids.len().saturating_sub(1)];
        let mut kept = self.held.iter().zip(before_last).take_while(|(a, b)| a == b).count();
        if self.engine.truncate(0, kept).is_err() {
            // The windowed layers no longer hold what the next token would see there.
            kept = 0;
            self.engine.truncate(0, 0).or_exit(Exit::Failed)?;
        }
        self.held.truncate(kept);
        Ok(kept)
    }

    /// Draws up to `most` tokens and hands their text to `each` as it comes, until the model or the
    /// context ends.
    pub(crate) fn decode(
        &mut self,
        most: usize,
        mut each: impl FnMut(&str) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut text = Detokenizer::new(Control::Hide);
        let before = Streaming::of(&self.engine);
        let done = self.draw(most, &mut text, &mut each);
        let after = before.zip(Streaming::of(&self.engine));
        let steps = self.figures.steps;
        self.figures.streamed = after.map(|(before, after)| after.since(&before, steps));
        each(text.finish())?;
        done
    }

    fn draw(
        &mut self,
        most: usize,
        text: &mut Detokenizer,
        each: &mut impl FnMut(&str) -> io::Result<()>,
    ) -> Result<(), Failure> {
        for drawn in 0..most {
            self.interrupt.check()?;
            let logits = self.engine.logits(0).unwrap_or_default();
            let id = self.sampler.sample(logits).or_exit(Exit::Model)?;
            if self.tokenizer.is_end(id) {
                break;
            }
            each(text.push(self.tokenizer, id))?;
            self.sampler.accept(id);
            self.figures.drawn += 1;
            if drawn + 1 < most && !self.step(id)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes a drawn token in; `false` if the context has no room for it.
    fn step(&mut self, id: u32) -> Result<bool, Failure> {
        if self.engine.len(0) == self.engine.options().context {
            log::warn!("the context of {} positions is full", self.engine.len(0));
            return Ok(false);
        }
        if self.engine.arrange(0) > 0 {
            let start = Instant::now();
            self.engine.arrange(SECTIONS);
            self.figures.arrange += start.elapsed();
        }
        let start = Instant::now();
        let next = Token { id, sequence: 0, wants_logits: true };
        self.engine.step(&[next])?;
        self.held.push(id);
        self.figures.steps += 1;
        self.figures.decode += start.elapsed();
        Ok(true)
    }
}
