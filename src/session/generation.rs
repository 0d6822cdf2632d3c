//! One sequence being written.

use crate::constraint::Constraint;
use crate::draft::Draft;
use crate::embedding::Embedding;
use crate::log_probability::LogProbability;
use crate::prefix::Provenance;
use crate::request::{Ended, Failure, Request};
use crate::stop::StopStrings;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use wick_core::{Approximation, Candidates, Engine, Guidance, History, Logits, Sampler, Token};
use wick_text::{Detokenizer, Tokenizer};

/// Bytes of text that there is room for in one step: a token, and what a stop string held back.
const TEXT_ROOM: usize = 1024;

/// One sequence being written: what it has read and drawn, how it draws, and the text that has come.
///
/// A [`Scheduler`](crate::Scheduler) asks it what is to be stepped next, alone or with others, and
/// hands it the logits that came of that.
#[derive(Debug)]
pub struct Generation {
    sequence: usize,
    /// The prompt, then what was drawn.
    ids: Vec<u32>,
    prompt: usize,
    /// Of the ids: how many the KV cache holds, and how many it held at first.
    held: usize,
    cached: usize,
    /// Of those that it holds.
    provenance: Provenance,
    context: usize,
    most: usize,
    sampler: Sampler,
    logit_bias: Vec<(u32, f32)>,
    constraint: Option<Box<dyn Constraint>>,
    logits: Logits,
    detokenizer: Detokenizer,
    stops: StopStrings,
    log_probability: Option<LogProbability>,
    draft: Draft,
    /// What is wanted in place of a text.
    embedding: Option<Embedding>,
    /// Text of the last step.
    text: String,
    /// Whether the last step drew a token.
    has_drawn: bool,
    /// Whether that is part of the text.
    has_taken: bool,
    ended: Option<Ended>,
}

/// What the KV cache of a sequence holds, and where that comes from.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The tokens.
    pub(crate) ids: Vec<u32>,
    pub(crate) provenance: Provenance,
}

impl Generation {
    /// What its sequence holds for others too, and where that comes from.
    pub(crate) fn held(&self) -> (&[u32], Provenance) {
        let held = if self.embedding.is_some() { 0 } else { self.held };
        (&self.ids[..held], self.provenance)
    }

    /// Tokens of what it holds that are of use to another prompt.
    pub(crate) fn common(&self, request: &Request) -> usize {
        self.provenance.common(self.held().0, request)
    }

    /// Where that comes from.
    pub(crate) fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The generation of a request in a sequence of `context` positions, whose KV cache holds the
    /// first `cached` ids of the prompt already: not the last one, since its logits are wanted. `held` is what it held
    /// before, of which they come; it lends its memory.
    pub(crate) fn new(
        request: Request,
        sequence: usize,
        context: usize,
        cached: usize,
        held: Held,
    ) -> Generation {
        let provenance = held.provenance.continued(cached, &request);
        let mut ids = held.ids;
        let Request { prompt, most, sampler, stop, logit_bias, constraint, head_rows, .. } =
            request;
        ids.clear();
        ids.reserve_exact(prompt.len().saturating_add(most).min(context) + 1);
        ids.extend_from_slice(&prompt);
        let log_probability = request.log_probabilities.map(LogProbability::with_room);
        // A log-probability is that among all tokens.
        let logits = match log_probability {
            Some(_) => Logits::All,
            None if logit_bias.is_empty() && constraint.is_none() => {
                head_rows.logits(sampler.sampling().top())
            }
            // Any may be the largest with its bias, or of those that are allowed.
            None => head_rows.logits(0),
        };
        Generation {
            sequence,
            prompt: ids.len(),
            ids,
            held: cached,
            cached,
            context,
            most,
            sampler,
            logit_bias,
            constraint,
            logits,
            provenance,
            detokenizer: Detokenizer::new(request.control),
            stops: StopStrings::new(stop),
            log_probability,
            draft: Draft::new(0, 1.0),
            embedding: None,
            text: String::with_capacity(TEXT_ROOM),
            has_drawn: false,
            has_taken: false,
            ended: None,
        }
    }

    /// The same with drafts, unless its tokens may differ by what was stepped before.
    pub(crate) fn with_drafts(self, draft: Draft) -> Generation {
        if self.provenance.approximation == Approximation::NONE {
            return Generation { draft, ..self };
        }
        self
    }

    /// The same for the embedding of its prompt, of states of so many values.
    pub(crate) fn with_embedding(self, hidden: usize) -> Generation {
        let (embedding, logits) = (Some(Embedding::with_room(hidden)), Logits::None);
        Generation { embedding, logits, most: 0, ..self }
    }

    /// Adds the hidden states of tokens of its prompt, if it is for an embedding.
    pub(crate) fn embed(&mut self, engine: &mut Engine<'_>, tokens: Range<usize>) {
        if let Some(embedding) = &mut self.embedding {
            tokens.for_each(|i| embedding.add(|row| engine.hidden_state(i, row)));
        }
    }

    /// The embedding of its prompt, once all of that is read, if that was asked for.
    pub fn embedding(&self) -> Option<Vec<f32>> {
        self.embedding.as_ref()?.finish(self.prompt)
    }

    /// Appends up to `most` of the tokens that are to be stepped next to a batch; returns how many.
    pub(crate) fn feed(&self, most: usize, batch: &mut Vec<Token>) -> usize {
        let end = self.ids.len().min(self.held + most);
        for (i, id) in self.ids[..end].iter().enumerate().skip(self.held) {
            let logits = if i + 1 == self.ids.len() { self.logits } else { Logits::None };
            let drawn = i >= self.prompt;
            let wanted = self.provenance.approximation;
            let approximation = if drawn { wanted } else { Approximation::NONE };
            batch.push(Token { approximation, ..Token::new(*id, self.sequence, logits) });
        }
        end - self.held
    }

    /// Appends up to `most` tokens that may be drawn next; returns how many.
    pub(crate) fn feed_draft(&mut self, most: usize, batch: &mut Vec<Token>) -> usize {
        // Behind each of them, and behind the one before, a token is drawn.
        let room = most.min(self.most - self.drawn().len() - 1).min(self.context - self.held - 1);
        let draft = self.draft.write(&self.ids, room);
        batch.extend(draft.iter().map(|id| Token::new(*id, self.sequence, self.logits)));
        draft.len()
    }

    /// Compares the draft at hand with the token that was drawn last: whether it foresaw that one, so that the next one can
    /// be drawn at once.
    pub(crate) fn check_draft(&mut self) -> bool {
        match self.last_drawn() {
            Some(id) if self.ended.is_none() => self.draft.foresaw(id),
            _ => false,
        }
    }

    /// Ends the draft at hand; returns how many of its tokens were not drawn.
    pub(crate) fn end_draft(&mut self) -> usize {
        self.draft.end()
    }

    /// Drafts nothing any more.
    pub(crate) fn stop_drafts(&mut self) {
        self.draft.stop();
    }

    /// Forgets the text of the last step.
    pub(crate) fn begin(&mut self) {
        self.text.clear();
        self.has_drawn = false;
        self.has_taken = false;
    }

    /// Takes note that so many tokens were stepped. If they were all that there are, `logits` follow
    /// the last one, and the next token is drawn from them.
    pub(crate) fn advance(
        &mut self,
        tokens: usize,
        logits: &[f32],
        tokenizer: &Tokenizer,
        candidates: &mut Candidates<'_>,
    ) {
        let Provenance { exact, approximation, .. } = &mut self.provenance;
        if *exact == self.held {
            let end = if *approximation == Approximation::NONE { usize::MAX } else { self.prompt };
            *exact = (self.held + tokens).min(end).max(self.held);
        }
        self.held += tokens;
        if self.held < self.ids.len() {
            return;
        }
        if self.most == 0 {
            return self.end(Ended::Length);
        }
        match self.sample(logits, candidates) {
            Ok(id) => self.draw(id, logits, tokenizer),
            Err(failure) => self.end(Ended::Failed(failure)),
        }
    }

    fn sample(&mut self, logits: &[f32], candidates: &mut Candidates<'_>) -> Result<u32, Failure> {
        let allowed = match &mut self.constraint {
            Some(constraint) => constraint.allowed().map_err(Failure::Constraint)?,
            None => None,
        };
        let history = History { text: &self.ids, prompt: self.prompt };
        let guidance = Guidance { bias: &self.logit_bias, allowed };
        self.sampler.sample(logits, history, guidance, candidates).map_err(Failure::Sample)
    }

    /// Takes a token that was drawn.
    fn draw(&mut self, id: u32, logits: &[f32], tokenizer: &Tokenizer) {
        self.has_drawn = true;
        if let Some(log_probability) = &mut self.log_probability {
            log_probability.compute(logits, id);
        }
        if tokenizer.is_end(id) {
            return self.end(Ended::Stop);
        }
        self.ids.push(id);
        self.has_taken = true;
        let piece = self.detokenizer.push(tokenizer, id);
        let taken = self.constraint.as_mut().map_or(Ok(()), |constraint| constraint.take(id));
        if let Some(stop) = self.stops.push(piece, &mut self.text) {
            self.ended = Some(Ended::StopString(stop));
        } else if let Err(error) = taken {
            self.end(Ended::Failed(Failure::Constraint(error)));
        } else if self.constraint.as_ref().is_some_and(|constraint| constraint.is_complete()) {
            self.end(Ended::Stop);
        } else if self.drawn().len() == self.most {
            self.end(Ended::Length);
        } else if self.held == self.context {
            self.end(Ended::Context);
        }
    }

    /// Ends the generation; text that waited for more is shown.
    pub(crate) fn end(&mut self, ended: Ended) {
        let rest = self.detokenizer.finish();
        let stop = self.stops.push(rest, &mut self.text);
        if stop.is_none() {
            self.stops.finish(&mut self.text);
        }
        self.ended = Some(match (ended, stop) {
            // What went wrong is told, whatever the text ends with.
            (Ended::Failed(_), _) | (_, None) => ended,
            (_, Some(stop)) => Ended::StopString(stop),
        });
    }

    /// What the KV cache holds of it.
    pub(crate) fn into_held(mut self) -> Held {
        self.ids.truncate(self.held().0.len());
        Held { ids: self.ids, provenance: self.provenance }
    }

    /// The sequence of the engine that it is written in.
    pub fn sequence(&self) -> usize {
        self.sequence
    }

    /// The text that became certain with the last step; may be empty. All of them, joined, are the
    /// text, which never ends within a character, nor with part of a stop string that came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The token that the last step drew, if it drew one that is part of the text.
    pub fn last_drawn(&self) -> Option<u32> {
        self.drawn().last().copied().filter(|_| self.has_taken)
    }

    /// How likely the token was that the last step drew, if that was asked for. The token may be the
    /// one that ended the generation.
    pub fn log_probability(&self) -> Option<&LogProbability> {
        self.log_probability.as_ref().filter(|_| self.has_drawn)
    }

    /// The tokens drawn so far; the one that ended the sequence is not among them.
    pub fn drawn(&self) -> &[u32] {
        &self.ids[self.prompt..]
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt
    }

    /// Of these, tokens that the KV cache held already.
    pub fn cached_tokens(&self) -> usize {
        self.cached
    }

    /// Tokens that the KV cache holds.
    pub fn held_tokens(&self) -> usize {
        self.held
    }

    /// Whether some of the prompt is still to be read.
    pub fn is_reading(&self) -> bool {
        self.ended.is_none() && self.held < self.prompt
    }

    /// Whether its prompt is read, and it goes on.
    pub(crate) fn is_drawing(&self) -> bool {
        self.ended.is_none() && self.held >= self.prompt
    }

    /// Tokens that are to be stepped.
    pub(crate) fn left(&self) -> usize {
        self.ids.len() - self.held
    }

    /// Draws its tokens.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Why it ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }
}
