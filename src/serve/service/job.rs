//! What a request asks of the engine's thread, and what that tells it.

use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use wick_session::{Ended, LogProbability, Request};

/// A request on its way to the engine's thread.
#[derive(Debug)]
pub struct Job {
    /// What is asked for.
    pub request: Request,
    /// Jobs of higher priority go first.
    pub priority: i32,
    /// When it was made.
    pub(crate) made: Instant,
    /// Where it is told what comes of it. Nobody holds the other end once the client has gone.
    pub(crate) events: UnboundedSender<Event>,
}

impl Job {
    /// A job, and what will be told of it. Events are no more than the tokens that were asked for, and a few.
    pub fn new(request: Request, priority: i32) -> (Job, UnboundedReceiver<Event>) {
        let (events, receiver) = unbounded_channel();
        (Job { request, priority, made: Instant::now(), events }, receiver)
    }
}

/// What becomes of a job.
#[derive(Clone, Debug)]
pub enum Event {
    /// Its prompt is being read.
    Reading {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of it that the KV cache holds so far.
        held: usize,
        /// Tokens of it that were there before.
        cached: usize,
    },
    /// A token was drawn.
    Token {
        /// Text that became certain with it; may be empty.
        text: String,
        /// How likely it was, if that was asked for.
        log_probability: Option<LogProbability>,
    },
    /// It has ended.
    Ended(Outcome),
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Why.
    pub ended: Ended,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of it that were not read, since the KV cache held them.
    pub cached: usize,
    /// Tokens drawn, but for the one that ended it.
    pub drawn: usize,
    /// Tokens that were taken in again to draw the next one, and the seconds that took.
    pub decode_seconds: f64,
    /// Seconds from when the job was taken up until its prompt was read.
    pub prefill_seconds: f64,
    /// The embedding of the prompt, if that was asked for.
    pub embedding: Option<Vec<f32>>,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

impl Outcome {
    /// Of a job with a prompt of so many tokens for which nothing was done.
    pub(crate) fn of_nothing(prompt: usize, error: Option<String>) -> Outcome {
        Outcome {
            ended: Ended::Cancelled,
            prompt,
            cached: 0,
            drawn: 0,
            decode_seconds: 0.0,
            prefill_seconds: 0.0,
            embedding: None,
            error,
        }
    }
}
