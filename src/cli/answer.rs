//! Reading a prompt and drawing an answer, token by token.

use crate::exit::{Exit, Failure, OrExit};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wick_core::{Arena, Engine, Sampler, Sampling, Token};
use wick_text::{Control, Detokenizer, Tokenizer};

/// Tokens that go through the model together while a prompt is read; between batches it can be
/// interrupted.
pub(crate) const BATCH: usize = 64;

/// What reading and answering took.
#[derive(Default)]
pub(crate) struct Figures {
    /// Tokens read.
    pub(crate) prompt: usize,
    /// Time for reading them.
    pub(crate) prefill: Duration,
    /// Tokens drawn.
    pub(crate) drawn: usize,
    /// Of these, tokens that were taken in again to draw the next one.
    pub(crate) steps: usize,
    /// Time for taking them in.
    pub(crate) decode: Duration,
}

/// A model that answers.
pub(crate) struct Answer<'a, 'e> {
    engine: Engine<'e>,
    sampler: Sampler<'e>,
    tokenizer: &'a Tokenizer,
    interrupted: &'a AtomicBool,
    pub(crate) figures: Figures,
}

impl<'a, 'e> Answer<'a, 'e> {
    /// A model that has read nothing yet. It stops once `interrupted` is set.
    pub(crate) fn new(
        engine: Engine<'e>,
        sampling: Sampling,
        tokenizer: &'a Tokenizer,
        interrupted: &'a AtomicBool,
        arena: &mut Arena<'e>,
    ) -> Result<Answer<'a, 'e>, Failure> {
        let vocab = engine.config().vocab;
        let sampler = Sampler::new(sampling, vocab, arena).or_exit(Exit::Memory)?;
        log::info!("{sampling:?}");
        Ok(Answer { engine, sampler, tokenizer, interrupted, figures: Figures::default() })
    }

    /// Forgets what was read and drawn.
    pub(crate) fn forget(&mut self) -> Result<(), Failure> {
        self.engine.truncate(0, 0).or_exit(Exit::Failed)
    }

    /// Reads a prompt.
    pub(crate) fn prefill(&mut self, ids: &[u32]) -> Result<(), Failure> {
        let start = Instant::now();
        for chunk in ids.chunks(BATCH) {
            self.engine.prefill(0, chunk).or_exit(Exit::Input)?;
            chunk.iter().for_each(|id| self.sampler.accept(*id));
            self.figures.prompt += chunk.len();
            self.check_interrupt()?;
        }
        self.figures.prefill += start.elapsed();
        Ok(())
    }

    /// Draws up to `most` tokens and writes their text as it comes, until the model or the context
    /// ends; then a line break, after an interruption too.
    pub(crate) fn decode(&mut self, most: usize, out: &mut impl Write) -> Result<(), Failure> {
        let mut text = Detokenizer::new(Control::Hide);
        let done = self.draw(most, &mut text, out);
        writeln!(out, "{}", text.finish())?;
        done
    }

    fn draw(
        &mut self,
        most: usize,
        text: &mut Detokenizer,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        for drawn in 0..most {
            self.check_interrupt()?;
            let logits = self.engine.logits(0).unwrap_or_default();
            let id = self.sampler.sample(logits).or_exit(Exit::Model)?;
            if self.tokenizer.is_end(id) {
                break;
            }
            out.write_all(text.push(self.tokenizer, id).as_bytes())?;
            out.flush()?;
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
        let start = Instant::now();
        let next = Token { id, sequence: 0, wants_logits: true };
        self.engine.step(&[next]).or_exit(Exit::Input)?;
        self.figures.steps += 1;
        self.figures.decode += start.elapsed();
        Ok(true)
    }

    fn check_interrupt(&self) -> Result<(), Failure> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(Failure::new(Exit::Interrupted, "interrupted")),
            false => Ok(()),
        }
    }
}
