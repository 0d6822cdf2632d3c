//! Several generations in one step.

mod compose;
mod start;

use crate::generation::{Generation, Held};
use crate::prefix::Prefix;
use crate::request::{Ended, Failure};
use alloc::vec::Vec;
use wick_core::{Candidates, Engine, ExpertKey, StepError, Token};
use wick_text::Tokenizer;

/// Names a generation of a [`Scheduler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GenerationId {
    sequence: usize,
    /// Which of those that the scheduler has started.
    number: u64,
}

/// Runs generations side by side: each step takes the drawn tokens of all, and as much of the prompts
/// as the batch has room for, the oldest first. Where a step has no room for all, those have their turn
/// that have waited longest.
///
/// What is drawn does not depend on who else is served, unless the request allows approximations:
/// these depend on which experts have slots, and so on who wanted experts before. A sequence keeps what it holds when its
/// generation ends, and the next prompt that begins so does not read that again.
#[derive(Debug)]
pub struct Scheduler<'e> {
    engine: Engine<'e>,
    candidates: Candidates<'e>,
    sequences: Vec<Sequence>,
    /// Tokens of a step, and whose they are; taken once.
    batch: Vec<Token>,
    parts: Vec<Part>,
    /// Most tokens of prompts in a step.
    chunk: usize,
    /// Most tokens of a sequence that are drafted in a step.
    drafts: usize,
    /// Generations started so far.
    started: u64,
    /// Steps made so far.
    steps: u64,
}

/// A sequence of the engine.
#[derive(Debug, Default)]
struct Sequence {
    /// What its KV cache holds, while it has no generation.
    held: Held,
    generation: Option<Generation>,
    /// The number of its generation, or of the last one that it had.
    number: u64,
    /// The last step that it had a part in.
    stepped: u64,
    /// The row of logits that its last token was drawn from.
    row: Option<usize>,
    /// The row that its next token can be drawn from, since a draft foresaw the last one.
    foreseen: Option<usize>,
}

/// A generation's part of a step.
#[derive(Clone, Copy, Debug)]
struct Part {
    sequence: usize,
    /// Where its tokens stand in the batch.
    start: usize,
    tokens: usize,
    /// Tokens behind these that are drafted.
    drafted: usize,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// Tokens of prompts that were read.
    pub prompt: usize,
    /// Drawn tokens that were taken in to draw the next ones.
    pub drawn: usize,
    /// Tokens that were taken in beside these, since they may be drawn next.
    pub drafted: usize,
    /// Of those that were drafted before: tokens that were drawn, so that they need not be taken in any more.
    pub accepted: usize,
    /// Of those that were drafted before or now: tokens that were not.
    pub rejected: usize,
}

impl<'e> Scheduler<'e> {
    /// A scheduler for the sequences of an engine, all of them empty; `candidates` are for its
    /// vocabulary.
    pub fn new(engine: Engine<'e>, candidates: Candidates<'e>) -> Scheduler<'e> {
        let options = *engine.options();
        let mut sequences = Vec::new();
        sequences.resize_with(options.sequences, Sequence::default);
        Scheduler {
            engine,
            candidates,
            sequences,
            batch: Vec::with_capacity(options.batch),
            parts: Vec::with_capacity(options.sequences),
            chunk: options.batch,
            drafts: 0,
            started: 0,
            steps: 0,
        }
    }

    /// Takes at most so many tokens of prompts into a step from now on, at least one; so others wait
    /// less for their next token.
    pub fn limit_prompts(&mut self, tokens: usize) {
        self.chunk = tokens.max(1);
    }

    /// Has up to so many tokens of each sequence drafted in a step, as far as batch and logits have room for them and no
    /// prompt is read: where a text says again what it said before, a step may draw several of them. They are the same.
    pub fn draft(&mut self, tokens: usize) {
        self.drafts = tokens;
    }

    /// What a sequence holds that was computed as the model has it.
    pub fn held(&self, sequence: usize) -> Option<Prefix<'_>> {
        let place = self.sequences.get(sequence)?;
        let (ids, provenance) = match &place.generation {
            Some(generation) => generation.held(),
            None => (&place.held.ids[..], place.held.provenance),
        };
        Some(Prefix { ids: &ids[..provenance.exact.min(ids.len())], owner: provenance.owner })
    }

    /// Steps every generation that has not ended, as far as the batch has room; each draws one token at most. After a step
    /// that took drafts in, the next ones draw from what it left, as long as that is of use to any. An error ends those
    /// that it concerns; it is in [`Generation::ended`].
    pub fn step(&mut self, tokenizer: &Tokenizer) -> Stepped {
        for place in &mut self.sequences {
            place.row = None;
            if let Some(generation) = &mut place.generation {
                generation.begin();
            }
        }
        let mut stepped = Stepped::default();
        for sequence in 0..self.sequences.len() {
            if let Some(row) = self.sequences[sequence].foreseen.take() {
                stepped.accepted += 1;
                stepped.rejected += self.advance(sequence, 1, Some(row), tokenizer);
            }
        }
        if stepped.accepted == 0 {
            self.compose();
            self.compute(tokenizer, &mut stepped);
        }
        stepped
    }

    /// Steps the batch, and hands each generation what came of its part.
    fn compute(&mut self, tokenizer: &Tokenizer, stepped: &mut Stepped) {
        let result = self.engine.step(&self.batch);
        let mut row = 0;
        for i in 0..self.parts.len() {
            let Part { sequence, start, tokens, drafted } = self.parts[i];
            let failure = match result {
                // The whole batch was refused: what failed in the step before is still on record.
                Err(error) if !error.is_of_sequences() => Some(error),
                _ => self.engine.failure(start),
            };
            let wants = self.batch[start + tokens - 1].wants_logits();
            let first = wants.then_some(row);
            row += usize::from(wants) + drafted;
            let Some(generation) = &mut self.sequences[sequence].generation else { continue };
            if let Some(error) = failure {
                fail(generation, error, drafted);
                continue;
            }
            match generation.is_reading() {
                true => stepped.prompt += tokens,
                false => stepped.drawn += tokens,
            }
            generation.embed(&mut self.engine, start..start + tokens);
            stepped.drafted += drafted;
            stepped.rejected += self.advance(sequence, tokens, first, tokenizer);
        }
    }

    /// Takes note that so many tokens of a sequence were stepped, and draws the next one from a row of logits, if these were
    /// all. Returns how many drafted tokens came to nothing.
    fn advance(
        &mut self,
        sequence: usize,
        tokens: usize,
        row: Option<usize>,
        tokenizer: &Tokenizer,
    ) -> usize {
        let logits = row.and_then(|row| self.engine.logits(row)).unwrap_or_default();
        let place = &mut self.sequences[sequence];
        let Some(generation) = &mut place.generation else { return 0 };
        place.row = row;
        generation.advance(tokens, logits, tokenizer, &mut self.candidates);
        if generation.check_draft() {
            place.foreseen = row.map(|row| row + 1);
            return 0;
        }
        let (rejected, held) = (generation.end_draft(), generation.held_tokens());
        self.shorten(sequence, held);
        rejected
    }

    /// Takes what a sequence has beyond so many tokens off it, such as those that were drafted and not drawn.
    fn shorten(&mut self, sequence: usize, held: usize) {
        self.sequences[sequence].foreseen = None;
        if self.engine.len(sequence) > held {
            self.truncate(sequence, held);
        }
    }

    /// A generation that has not been released.
    pub fn generation(&self, id: GenerationId) -> Option<&Generation> {
        self.place(id)?.generation.as_ref()
    }

    /// The logits that the last step drew a generation's token from, one for each entry of the
    /// vocabulary.
    pub fn logits(&self, id: GenerationId) -> Option<&[f32]> {
        self.engine.logits(self.place(id)?.row?)
    }

    /// The sequence of a generation, while no other has been started there.
    fn place(&self, id: GenerationId) -> Option<&Sequence> {
        self.sequences.get(id.sequence).filter(|place| place.number == id.number)
    }

    /// Ends a generation, if it has not ended, and frees its sequence, which keeps what it holds.
    /// Returns why it ended; `None` if there is no such generation any more.
    pub fn release(&mut self, id: GenerationId) -> Option<Ended> {
        self.place(id)?;
        let place = &mut self.sequences[id.sequence];
        let generation = place.generation.take()?;
        let ended = generation.ended().unwrap_or(Ended::Cancelled);
        place.held = generation.into_held();
        let held = place.held.ids.len();
        self.shorten(id.sequence, held);
        Some(ended)
    }

    /// Whether no generation has anything left to do.
    pub fn is_idle(&self) -> bool {
        let mut generations = self.sequences.iter().filter_map(|place| place.generation.as_ref());
        generations.all(|generation| generation.ended().is_some())
    }

    /// The engine that steps.
    pub fn engine(&self) -> &Engine<'e> {
        &self.engine
    }

    /// Begins to read an expert that nobody wants yet; see [`Engine::preload`].
    pub fn preload(&mut self, key: ExpertKey, worth: f64) -> bool {
        self.engine.preload(key, worth)
    }

    /// Arranges sections of the model; see [`Engine::arrange`].
    pub fn arrange(&mut self, most: usize) -> usize {
        self.engine.arrange(most)
    }
}

/// What a generation does whose tokens could not be stepped: where some of them were drafted, it tries without.
fn fail(generation: &mut Generation, error: StepError, drafted: usize) {
    match drafted {
        0 => generation.end(Ended::Failed(Failure::Step(error))),
        _ => generation.stop_drafts(),
    }
}
