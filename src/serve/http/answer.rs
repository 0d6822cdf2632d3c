//! From a request to what the engine's thread tells of it.

use super::App;
use super::error::ApiError;
use super::guard::Caller;
use crate::room::Share;
use crate::service::{Event, Job, Outcome, Refused};
use axum::http::StatusCode;
use std::collections::VecDeque;
use tokio::sync::mpsc::UnboundedReceiver;
use wick_session::{Ended, LogProbability, Request};

/// Who asks, and how soon.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) service: App,
    pub(crate) owner: Caller,
    pub(crate) priority: i32,
}

/// What is told of a token takes so much until the client has read it, and so much for each that might have come in its place.
const PER_TOKEN: usize = size_of::<Event>() + 48;
const PER_LIKELY: usize = 16;

/// An answer that is being written. The sequence is free again when this is dropped.
pub(crate) struct Answer {
    events: UnboundedReceiver<Event>,
    /// Memory for what is told of it, unless it belongs to several.
    _share: Option<Share>,
}

/// Answers to several requests. One is asked for after the other, so that a prompt that they share is read once.
pub(crate) struct Answers {
    asker: Asker,
    first: Option<Answer>,
    rest: VecDeque<Request>,
    /// Memory for what is told of the one that is being written.
    _share: Share,
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.asker.service.queue.forget(self.rest.len());
    }
}

impl Answers {
    /// Asks for the first, which takes its place in the queue now: who is refused is told so at once. Nobody whose first was
    /// taken is refused the rest.
    ///
    /// # Errors
    /// As [`Answer::ask`].
    pub(crate) fn ask(asker: Asker, requests: Vec<Request>) -> Result<Answers, ApiError> {
        let largest = requests.iter().map(told_bytes).max().unwrap_or(0);
        let share = asker.service.room.take(largest)?;
        let mut rest = VecDeque::from(requests);
        let first = rest.pop_front().map(|request| asker.push(request)).transpose()?;
        asker.service.queue.promise(rest.len());
        Ok(Answers { asker, first, rest, _share: share })
    }

    /// The next answer, if there is one more.
    pub(crate) fn next(&mut self) -> Option<Answer> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let (job, events) = self.asker.job(self.rest.pop_front()?);
        self.asker.service.queue.keep(job);
        Some(Answer { events, _share: None })
    }
}

/// Bytes of what is told of an answer at most.
fn told_bytes(request: &Request) -> usize {
    request.most * (PER_TOKEN + PER_LIKELY * request.log_probabilities.unwrap_or(0))
}

impl Asker {
    fn job(&self, request: Request) -> (Job, UnboundedReceiver<Event>) {
        let Caller(owner) = self.owner;
        Job::new(Request { owner, ..request }, self.priority)
    }

    /// Asks for an answer, for which there is memory.
    fn push(&self, request: Request) -> Result<Answer, ApiError> {
        let (job, events) = self.job(request);
        self.service.queue.push(job).map_err(|refused| match refused {
            Refused::Full(waiting) => {
                ApiError::busy(format_args!("{waiting} wait already; try again later"))
            }
            Refused::Closed => ending(),
        })?;
        Ok(Answer { events, _share: None })
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) text: String,
    pub(crate) log_probabilities: Vec<LogProbability>,
    pub(crate) outcome: Outcome,
}

impl Answer {
    /// Asks for an answer.
    ///
    /// # Errors
    /// Too many wait already, there is no memory for what will be told, or the service is ending.
    pub(crate) fn ask(asker: &Asker, request: Request) -> Result<Answer, ApiError> {
        let share = asker.service.room.take(told_bytes(&request))?;
        Ok(Answer { _share: Some(share), ..asker.push(request)? })
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Event {
        let lost = || Event::Ended(Outcome::of_nothing(0, None));
        self.events.recv().await.unwrap_or_else(lost)
    }

    /// Waits for all of it.
    pub(crate) async fn collect(mut self) -> Result<Collected, ApiError> {
        let (mut text, mut log_probabilities) = (String::new(), Vec::new());
        loop {
            match self.next().await {
                Event::Reading { .. } => {}
                Event::Token { text: piece, log_probability } => {
                    text.push_str(&piece);
                    log_probabilities.extend(log_probability);
                }
                Event::Ended(outcome) => {
                    failure(&outcome)?;
                    return Ok(Collected { text, log_probabilities, outcome });
                }
            }
        }
    }
}

/// Fails where an answer did not end of itself.
pub(crate) fn failure(outcome: &Outcome) -> Result<(), ApiError> {
    match (&outcome.error, outcome.ended) {
        (Some(error), _) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error)),
        (None, Ended::Cancelled) => Err(ending()),
        _ => Ok(()),
    }
}

fn ending() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the service is ending").retry_after(10)
}
