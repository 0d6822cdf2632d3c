//! Where a generation starts: the sequence that holds most of what its prompt begins with.

use super::{GenerationId, Scheduler};
use crate::draft::Draft;
use crate::generation::{Generation, Held};
use crate::log_probability::MOST_LOG_PROBABILITIES;
use crate::prefix::{Prefix, PrefixStore};
use crate::request::{Request, StartError, check_logit_bias};

/// What a drafted token costs, of a step: with all experts in memory, and where each has experts of its own to be read.
const IN_MEMORY: f32 = 0.6;
const STREAMED: f32 = 0.9;

impl Scheduler<'_> {
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
        let sequence = match request.embedding {
            true => self.empty(store)?,
            false => self.prepare(&request, store)?,
        };
        self.started += 1;
        let number = self.started;
        let generation = self.generate(request, sequence);
        let place = &mut self.sequences[sequence];
        place.generation = Some(generation);
        (place.number, place.row, place.stepped) = (number, None, self.steps);
        Ok(GenerationId { sequence, number })
    }

    /// The generation of a request that goes on from what a sequence holds.
    fn generate(&mut self, request: Request, sequence: usize) -> Generation {
        let held = core::mem::take(&mut self.sequences[sequence].held);
        let (context, cached) = (self.engine.options().context, self.engine.len(sequence));
        let is_embedding = request.embedding;
        let generation = Generation::new(request, sequence, context, cached, held);
        if is_embedding {
            return generation.with_embedding(self.engine.config().hidden);
        }
        let cost = if self.engine.expert_figures().is_some() { STREAMED } else { IN_MEMORY };
        generation.with_drafts(Draft::new(self.drafts, cost))
    }

    /// A sequence that holds as much of the beginning of a prompt as can be had.
    fn prepare(
        &mut self,
        request: &Request,
        store: &mut dyn PrefixStore,
    ) -> Result<usize, StartError> {
        let (sequence, common) = self.choose(request)?;
        let (sequence, common) = match self.source(request, common) {
            Some((from, to, common)) if self.copy(from, to, common, store) => (to, common),
            _ => {
                self.evict(sequence, common, store);
                self.truncate(sequence, common);
                (sequence, self.engine.len(sequence))
            }
        };
        self.restore(sequence, common, request, store);
        Ok(sequence)
    }

    /// A sequence that holds nothing: a free one that did not before, or the one that was not used for longest.
    fn empty(&mut self, store: &mut dyn PrefixStore) -> Result<usize, StartError> {
        let free = self.sequences.iter().enumerate().filter(|(_, s)| s.generation.is_none());
        let rated = free.map(|(i, s)| (!s.held.ids.is_empty(), s.number, i));
        let (_, _, sequence) = rated.min().ok_or(self.busy())?;
        self.evict(sequence, 0, store);
        self.truncate(sequence, 0);
        Ok(sequence)
    }

    fn busy(&self) -> StartError {
        StartError::Busy { sequences: self.sequences.len() }
    }

    /// Has a sequence hold no more than so many tokens; none, if the windowed layers do not hold any more what the next
    /// one would see.
    pub(super) fn truncate(&mut self, sequence: usize, len: usize) {
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
        let (common, _, sequence) = rated.max().ok_or(self.busy())?;
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
}
