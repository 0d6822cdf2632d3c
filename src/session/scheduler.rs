//! Several generations in one step.

use crate::generation::{Generation, Held};
use crate::log_probability::MOST_LOG_PROBABILITIES;
use crate::prefix::{Prefix, PrefixStore};
use crate::request::{Ended, Failure, Request, StartError, check_logit_bias};
use alloc::vec::Vec;
use wick_core::{Candidates, Engine, Token};
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
}

/// A generation's part of a step.
#[derive(Clone, Copy, Debug)]
struct Part {
    sequence: usize,
    /// Where its tokens stand in the batch.
    start: usize,
    tokens: usize,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// Tokens of prompts that were read.
    pub prompt: usize,
    /// Drawn tokens that were taken in to draw the next ones.
    pub drawn: usize,
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
            started: 0,
            steps: 0,
        }
    }

    /// Takes at most so many tokens of prompts into a step from now on, at least one; so others wait
    /// less for their next token.
    pub fn limit_prompts(&mut self, tokens: usize) {
        self.chunk = tokens.max(1);
    }

    /// Starts a generation in the free sequence whose KV cache holds most of the beginning of the
    /// prompt, or with a copy of what a sequence holds that is in use, if that is more.
    ///
    /// # Errors
    /// No sequence is free, or the request cannot be served.
    pub fn start(&mut self, request: Request) -> Result<GenerationId, StartError> {
        self.start_with(request, &mut ())
    }

    /// The same with beginnings of texts that are kept elsewhere besides.
    ///
    /// # Errors
    /// As [`Scheduler::start`].
    pub fn start_with(
        &mut self,
        request: Request,
        store: &mut dyn PrefixStore,
    ) -> Result<GenerationId, StartError> {
        self.check(&request)?;
        let (sequence, common) = self.choose(&request)?;
        let (sequence, common) = match self.source(&request, common) {
            Some((from, to, common)) if self.copy(from, to, common, store) => (to, common),
            _ => {
                self.evict(sequence, common, store);
                self.truncate(sequence, common);
                (sequence, self.engine.len(sequence))
            }
        };
        self.restore(sequence, common, &request, store);
        self.started += 1;
        let (number, context) = (self.started, self.engine.options().context);
        let cached = self.engine.len(sequence);
        let place = &mut self.sequences[sequence];
        let held = core::mem::take(&mut place.held);
        place.generation = Some(Generation::new(request, sequence, context, cached, held));
        (place.number, place.row, place.stepped) = (number, None, self.steps);
        Ok(GenerationId { sequence, number })
    }

    /// Has a sequence hold no more than so many tokens; none, if the windowed layers do not hold any more what the next
    /// one would see.
    fn truncate(&mut self, sequence: usize, len: usize) {
        if self.engine.truncate(sequence, len).is_err() {
            let _emptying_is_always_possible = self.engine.truncate(sequence, 0);
        }
    }

    /// Tells the store what a sequence is about to lose, if it keeps only `common` tokens.
    fn evict(&self, sequence: usize, common: usize, store: &mut dyn PrefixStore) {
        if let Some(held) = self.held(sequence).filter(|held| held.ids.len() > common) {
            store.evict(&self.engine, sequence, held);
        }
    }

    /// Has the store add to the `common` tokens of a prompt that a sequence holds.
    fn restore(
        &mut self,
        sequence: usize,
        common: usize,
        request: &Request,
        store: &mut dyn PrefixStore,
    ) {
        let provenance = &self.sequences[sequence].held.provenance;
        if common > provenance.exact {
            return;
        }
        let ids = &request.prompt[..request.prompt.len() - 1];
        store.restore(&mut self.engine, sequence, Prefix { ids, owner: request.owner });
        let len = self.engine.len(sequence);
        if len != common {
            self.truncate(sequence, len.min(ids.len()));
            self.sequences[sequence].held.provenance.exact = self.engine.len(sequence);
        }
    }

    fn check(&self, request: &Request) -> Result<(), StartError> {
        let (vocab, context) = (self.engine.config().vocab, self.engine.options().context);
        let found = request.prompt.len();
        if found == 0 {
            return Err(StartError::Empty);
        }
        if found > context {
            return Err(StartError::TooLong { found, context });
        }
        if let Some(id) = request.prompt.iter().find(|id| **id as usize >= vocab) {
            return Err(StartError::Id { id: *id, vocab });
        }
        check_logit_bias(&request.logit_bias, vocab)?;
        let (found, most) = (request.log_probabilities.unwrap_or(0), MOST_LOG_PROBABILITIES);
        if found > most { Err(StartError::LogProbabilities { found, most }) } else { Ok(()) }
    }

    /// The free sequence that holds most of what the prompt begins with, of equal ones the one that was
    /// not used for longest, and how many tokens that are.
    fn choose(&self, request: &Request) -> Result<(usize, usize), StartError> {
        let free = self.sequences.iter().enumerate().filter(|(_, s)| s.generation.is_none());
        let rated = free.map(|(i, s)| {
            let Held { ids, provenance } = &s.held;
            (provenance.common(ids, request), core::cmp::Reverse(s.number), i)
        });
        let (common, _, sequence) =
            rated.max().ok_or(StartError::Busy { sequences: self.sequences.len() })?;
        Ok((sequence, common))
    }

    /// The sequence in use that holds most of what the prompt begins with, if that is more than `common` tokens, the free one
    /// that was not used for longest, and how many tokens the one can give the other.
    fn source(&self, request: &Request, common: usize) -> Option<(usize, usize, usize)> {
        let busy = self.sequences.iter().enumerate();
        let busy = busy.filter_map(|(i, s)| Some((s.generation.as_ref()?.common(request), i)));
        let (most, from) = busy.max()?;
        let free = self.sequences.iter().enumerate().filter(|(_, s)| s.generation.is_none());
        let (to, _) = free.min_by_key(|(_, s)| s.number)?;
        (most > common).then_some((from, to, most))
    }

    /// Copies so many tokens of a sequence in use to a free one; whether that could be done.
    fn copy(&mut self, from: usize, to: usize, len: usize, store: &mut dyn PrefixStore) -> bool {
        self.evict(to, 0, store);
        let Some(source) = &self.sequences[from].generation else { return false };
        let provenance = *source.provenance();
        let is_copied = self.engine.copy(from, to, len).is_ok();
        if is_copied {
            self.sequences[to].held.provenance = provenance;
        }
        is_copied
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

    /// Steps every generation that has not ended, as far as the batch has room. An error ends those
    /// that it concerns; it is in [`Generation::ended`].
    pub fn step(&mut self, tokenizer: &Tokenizer) -> Stepped {
        for place in &mut self.sequences {
            place.row = None;
            if let Some(generation) = &mut place.generation {
                generation.begin();
            }
        }
        self.compose();
        let result = self.engine.step(&self.batch);
        let mut stepped = Stepped::default();
        let mut row = 0;
        for i in 0..self.parts.len() {
            let Part { sequence, start, tokens } = self.parts[i];
            let failure = match result {
                // The whole batch was refused: what failed in the step before is still on record.
                Err(error) if !error.is_of_sequences() => Some(error),
                _ => self.engine.failure(start),
            };
            let wants = self.batch[start + tokens - 1].wants_logits();
            let logits = self.engine.logits(row).unwrap_or_default();
            let place = &mut self.sequences[sequence];
            place.row = wants.then_some(row);
            row += usize::from(wants);
            let Some(generation) = &mut place.generation else { continue };
            if let Some(error) = failure {
                generation.end(Ended::Failed(Failure::Step(error)));
                continue;
            }
            match generation.is_reading() {
                true => stepped.prompt += tokens,
                false => stepped.drawn += tokens,
            }
            generation.advance(tokens, logits, tokenizer, &mut self.candidates);
        }
        stepped
    }

    /// Composes the batch: the next tokens of those that draw, and a chunk of prompts beside them. Where
    /// not all find room, those come first that have waited longest.
    fn compose(&mut self) {
        self.batch.clear();
        self.parts.clear();
        self.steps += 1;
        let (room, mut logits) = (self.engine.options().batch, self.engine.options().logits);
        let mut chunk = self.chunk;
        if let Some((sequence, most)) = self.overdue_prompt(room) {
            chunk -= self.add(sequence, most.min(chunk), &mut logits);
        }
        while let Some(sequence) =
            self.next(false).filter(|_| self.batch.len() < room && logits > 0)
        {
            self.add(sequence, room - self.batch.len(), &mut logits);
        }
        while let Some(sequence) = self.next(true) {
            let tokens = self.add(sequence, chunk.min(room - self.batch.len()), &mut logits);
            if tokens == 0 {
                break;
            }
            chunk -= tokens;
        }
    }

    /// The prompt whose turn it is, if it has waited longer than all that draw, and how many of its
    /// tokens go before theirs: what they leave, or all of a step in which not all of them find room.
    fn overdue_prompt(&self, room: usize) -> Option<(usize, usize)> {
        let sequence = self.next(true)?;
        let longest = self.sequences[self.next(false)?].stepped;
        let draw = |place: &&Sequence| place.generation.as_ref().is_some_and(|g| g.is_drawing());
        let drawing = self.sequences.iter().filter(draw).count();
        let most = if drawing < room { room - drawing } else { room };
        (self.sequences[sequence].stepped < longest).then_some((sequence, most))
    }

    /// Adds up to `most` tokens of a sequence to the batch, without its last one if no more `logits`
    /// can be had; returns how many.
    fn add(&mut self, sequence: usize, most: usize, logits: &mut usize) -> usize {
        let place = &mut self.sequences[sequence];
        let Some(generation) = &place.generation else { return 0 };
        let most = if *logits == 0 { most.min(generation.left() - 1) } else { most };
        if most == 0 {
            return 0;
        }
        place.stepped = self.steps;
        let start = self.batch.len();
        let tokens = generation.feed(most, &mut self.batch);
        *logits -= usize::from(self.batch.last().is_some_and(Token::wants_logits));
        self.parts.push(Part { sequence, start, tokens });
        tokens
    }

    /// The sequence whose generation has waited longest for a part in a step, of those that read their
    /// prompts, or of those that draw. Prompts are read one after another.
    fn next(&self, reading: bool) -> Option<usize> {
        let is_fitting = |place: &Sequence| {
            let generation = place.generation.as_ref();
            place.stepped < self.steps
                && generation.is_some_and(|g| g.ended().is_none() && g.is_reading() == reading)
        };
        let places = self.sequences.iter().enumerate().filter(|(_, place)| is_fitting(place));
        let order = |place: &Sequence| if reading { place.number } else { place.stepped };
        places.min_by_key(|(_, place)| (order(place), place.number)).map(|(i, _)| i)
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

    /// Arranges sections of the model; see [`Engine::arrange`].
    pub fn arrange(&mut self, most: usize) -> usize {
        self.engine.arrange(most)
    }
}
