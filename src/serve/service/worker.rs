//! The engine's thread: takes jobs, steps them together, and tells what comes of them.

use super::chunk::Chunk;
use super::job::{Event, Job, Outcome};
use super::metrics::Metrics;
use super::queue::Queue;
use crate::saved::SavedPrefixes;
use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use wick_core::{StepError, StoreReason};
use wick_session::{
    Ended, Failure, Generation, GenerationId, Request, Scheduler, StartError, Stepped,
};
use wick_text::Tokenizer;

/// How long the thread sleeps at most when there is nothing to do.
const TURN: Duration = Duration::from_millis(100);
/// How long there must have been nothing to do before what sequences hold is saved.
const QUIET: Duration = Duration::from_secs(2);
/// How long the end of a service may be held up to save it.
const LAST_SAVE: Duration = Duration::from_secs(5);

/// Says what has failed.
type Name<'w> = &'w dyn Fn(&Failure) -> String;

/// Answers jobs with one engine until the queue is closed and empty.
pub struct Worker<'w, 'e> {
    scheduler: Scheduler<'e>,
    tokenizer: &'w Tokenizer,
    queue: &'w Queue,
    metrics: &'w Metrics,
    running: Vec<Running>,
    chunk: Chunk,
    saved: Option<SavedPrefixes>,
    name: Name<'w>,
    /// When there was something to do.
    busy: Instant,
}

/// A job with a sequence.
#[derive(Debug)]
struct Running {
    id: GenerationId,
    /// Tokens of its prompt.
    prompt: usize,
    made: Instant,
    events: UnboundedSender<Event>,
    cached: usize,
    taken: Instant,
    /// When its first token was there, and its last one.
    first: Option<Instant>,
    last: Instant,
}

impl fmt::Debug for Worker<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("running", &self.running).finish_non_exhaustive()
    }
}

impl<'w, 'e> Worker<'w, 'e> {
    /// A worker on the sequences of a scheduler. Where experts are read as they are wanted, nobody who is being answered
    /// waits longer than about `most_stall` for a part of somebody's prompt.
    pub fn new(
        scheduler: Scheduler<'e>,
        tokenizer: &'w Tokenizer,
        queue: &'w Queue,
        metrics: &'w Metrics,
        most_stall: Duration,
    ) -> Worker<'w, 'e> {
        let engine = scheduler.engine();
        let stall = engine.expert_figures().map(|_| most_stall);
        let chunk = Chunk::new(engine.options().batch, stall);
        let (running, saved, busy) = (Vec::new(), None, Instant::now());
        let name: Name<'w> = &Failure::to_string;
        Worker { scheduler, tokenizer, queue, metrics, running, chunk, saved, name, busy }
    }

    /// Has `name` say what has failed, such as which file cannot be read.
    pub fn naming(self, name: Name<'w>) -> Worker<'w, 'e> {
        Worker { name, ..self }
    }

    /// Has beginnings of prompts saved and read back.
    pub fn with_saved(self, saved: Option<SavedPrefixes>) -> Worker<'w, 'e> {
        Worker { saved, ..self }
    }

    /// Answers until the queue is closed and empty, or `turn`, which is called between steps, breaks off; then what
    /// runs and waits is cancelled.
    ///
    /// # Errors
    /// The model's file is not any more what it was, so that nothing more can be answered; what runs and waits is cancelled then, too.
    pub fn run(&mut self, turn: impl FnMut() -> ControlFlow<()>) -> Result<(), StepError> {
        let done = self.answer(turn);
        if done.is_err() {
            self.cancel();
        }
        done
    }

    fn answer(&mut self, mut turn: impl FnMut() -> ControlFlow<()>) -> Result<(), StepError> {
        loop {
            if turn().is_break() {
                self.cancel();
                break;
            }
            self.take();
            if self.running.is_empty() {
                if self.queue.is_finished() {
                    break;
                }
                if self.preload_one() {
                    continue;
                }
                if self.busy.elapsed() < QUIET || !self.save_one() {
                    self.queue.wait(TURN);
                }
                continue;
            }
            self.scheduler.arrange(4);
            self.step()?;
        }
        self.save_rest();
        Ok(())
    }

    /// Begins to read an expert that was used much before the start; whether there may be more.
    fn preload_one(&mut self) -> bool {
        let Some(saved) = &mut self.saved else { return false };
        let may_be_more = saved.preload_one(&mut self.scheduler);
        if may_be_more {
            self.metrics.step(self.scheduler.engine(), Stepped::default());
        }
        may_be_more
    }

    /// Saves what sequences hold, as far as there is time for it at the end, and which experts are used.
    fn save_rest(&mut self) {
        self.saved.iter_mut().for_each(|saved| saved.save_experts(self.scheduler.engine(), true));
        let end = Instant::now() + LAST_SAVE;
        while Instant::now() < end && self.save_one() {}
    }

    /// Saves a part of what sequences hold; whether there may be more.
    fn save_one(&mut self) -> bool {
        let Some(saved) = &mut self.saved else { return false };
        saved.save_experts(self.scheduler.engine(), false);
        let may_be_more = saved.save_one(&self.scheduler);
        self.metrics.saved(&saved.figures);
        may_be_more
    }

    /// Gives free sequences to those who wait.
    fn take(&mut self) {
        while self.running.len() < self.scheduler.engine().options().sequences {
            let Some(job) = self.queue.take() else { return };
            let Job { request, made, events, .. } = job;
            let prompt = request.prompt.len();
            match self.start(request) {
                Ok(id) => self.begin(id, prompt, made, events),
                Err(error) => self.refuse(prompt, &events, error),
            }
        }
    }

    fn start(&mut self, request: Request) -> Result<GenerationId, StartError> {
        let Some(saved) = &mut self.saved else { return self.scheduler.start(request) };
        saved.learn(self.chunk.token_seconds());
        let started = self.scheduler.start_with(request, saved);
        self.metrics.saved(&saved.figures);
        started
    }

    fn begin(
        &mut self,
        id: GenerationId,
        prompt: usize,
        made: Instant,
        events: UnboundedSender<Event>,
    ) {
        let now = Instant::now();
        let generation = self.scheduler.generation(id);
        let cached = generation.map_or(0, Generation::cached_tokens);
        self.metrics.begin(prompt, cached, now - made);
        let _gone = events.send(Event::Reading { prompt, held: cached, cached });
        let (taken, first, last) = (now, None, now);
        self.running.push(Running { id, prompt, made, events, cached, taken, first, last });
    }

    fn refuse(&self, prompt: usize, events: &UnboundedSender<Event>, error: StartError) {
        let outcome = Outcome::of_nothing(prompt, Some(error.to_string()));
        let _gone = events.send(Event::Ended(outcome));
        self.queue.done();
    }

    /// Steps all that run once, and tells what came of it.
    fn step(&mut self) -> Result<(), StepError> {
        let is_shared = self.running.iter().any(|running| running.first.is_some());
        self.scheduler.limit_prompts(if is_shared { self.chunk.tokens() } else { usize::MAX });
        let start = Instant::now();
        let stepped = self.scheduler.step(self.tokenizer);
        let now = Instant::now();
        self.busy = now;
        self.saved.iter_mut().for_each(|saved| saved.save_passing(&self.scheduler));
        self.chunk.learn(stepped, now - start);
        self.metrics.step(self.scheduler.engine(), stepped);
        let mut lost = None;
        for mut running in std::mem::take(&mut self.running) {
            match self.tell(&mut running, now) {
                Told::GoesOn => self.running.push(running),
                Told::Ended => {}
                Told::Lost(error) => lost = Some(error),
            }
        }
        lost.map_or(Ok(()), Err)
    }

    /// Tells one job what the last step did for it, and frees its sequence if it has ended.
    fn tell(&mut self, running: &mut Running, now: Instant) -> Told {
        let Some(generation) = self.scheduler.generation(running.id) else { return Told::Ended };
        let events = &running.events;
        let mut is_gone = events.is_closed();
        if generation.is_reading() {
            let (prompt, held) = (generation.prompt_tokens(), generation.held_tokens());
            let reading = Event::Reading { prompt, held, cached: running.cached };
            is_gone |= events.send(reading).is_err();
        } else if generation.last_drawn().is_some() || !generation.text().is_empty() {
            match running.first {
                None => self.metrics.first_token(now - running.made),
                Some(_) => self.metrics.next_token(now - running.last),
            }
            running.first.get_or_insert(now);
            running.last = now;
            // What ended the text is no part of it.
            let taken = generation.last_drawn().and(generation.log_probability());
            let log_probability = taken.cloned();
            let text = generation.text().to_owned();
            is_gone |= events.send(Event::Token { text, log_probability }).is_err();
        }
        let Some(ended) = generation.ended() else {
            if is_gone {
                self.release(running, Ended::Cancelled, now);
                return Told::Ended;
            }
            return Told::GoesOn;
        };
        self.release(running, ended, now);
        match ended {
            Ended::Failed(Failure::Step(error)) if is_lost(&error) => Told::Lost(error),
            _ => Told::Ended,
        }
    }

    fn release(&mut self, running: &Running, ended: Ended, now: Instant) {
        let generation = self.scheduler.generation(running.id);
        let drawn = generation.map_or(0, |g| g.drawn().len());
        let embedding = generation.and_then(Generation::embedding);
        self.scheduler.release(running.id);
        self.saved.iter_mut().for_each(SavedPrefixes::changed);
        self.queue.done();
        let first = running.first.unwrap_or(now);
        let outcome = Outcome {
            ended,
            prompt: running.prompt,
            cached: running.cached,
            drawn,
            decode_seconds: (running.last.max(first) - first).as_secs_f64(),
            prefill_seconds: (first - running.taken).as_secs_f64(),
            embedding,
            error: match ended {
                Ended::Failed(failure) => Some((self.name)(&failure)),
                _ => None,
            },
        };
        self.metrics.end(&outcome);
        let _gone = running.events.send(Event::Ended(outcome));
    }

    /// Ends all that runs and that waits.
    fn cancel(&mut self) {
        let now = Instant::now();
        for running in std::mem::take(&mut self.running) {
            self.release(&running, Ended::Cancelled, now);
        }
        while self.queue.take().is_some() {
            self.queue.done();
        }
    }
}

/// What became of a job after a step.
enum Told {
    GoesOn,
    Ended,
    /// No job can be answered any more.
    Lost(StepError),
}

/// Whether no other request can be answered either.
fn is_lost(error: &StepError) -> bool {
    matches!(error, StepError::Store(error) if error.reason == StoreReason::Changed)
        || matches!(error, StepError::Damaged(_))
}
