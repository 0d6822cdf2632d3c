//! OpenAI's API.

pub(super) mod chat;
pub(super) mod completions;
pub(super) mod embeddings;
mod log_probabilities;
pub(super) mod models;
pub(super) mod responses;

use crate::http::error::ApiError;
use crate::http::fields::random;
use crate::http::keep_alive::{Gone, Sink};
use crate::service::Outcome;
use serde::Deserialize;
use serde_json::{Value, json};
use wick_session::Ended;

/// What a stream tells besides the answer.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
    /// How far the prompt is; wick's own.
    #[serde(default)]
    include_progress: bool,
}

/// Tokens that were read and drawn for a request.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    prompt: usize,
    cached: usize,
    drawn: usize,
}

impl Usage {
    /// Adds a choice: the first one of its prompt, or another one.
    fn add(&mut self, outcome: &Outcome, is_first: bool) {
        if is_first {
            self.prompt += outcome.prompt;
            self.cached += outcome.cached;
        }
        self.drawn += outcome.drawn;
    }

    fn to_json(self) -> Value {
        let Usage { prompt, cached, drawn } = self;
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": drawn,
            "total_tokens": prompt + drawn,
            "prompt_tokens_details": {"cached_tokens": cached},
        })
    }
}

/// OpenAI's word for why an answer ended.
fn finish_reason(outcome: &Outcome) -> &'static str {
    match outcome.ended {
        Ended::Length | Ended::Context => "length",
        _ => "stop",
    }
}

/// A name that no other answer has.
fn id(kind: &str) -> String {
    format!("{kind}-{:016x}{:08x}", random(), random() as u32)
}

/// Server-sent events.
const EVENTS: &str = "text/event-stream; charset=utf-8";

async fn send_event(sink: &Sink, value: &Value) -> Result<(), Gone> {
    sink.send(format!("data: {value}\n\n")).await
}

/// A comment, which clients leave out.
async fn send_beat(sink: &Sink) -> Result<(), Gone> {
    sink.send(": still at it\n\n").await
}

/// What goes wrong after the status has gone out.
async fn send_error(sink: &Sink, error: &ApiError) -> Result<(), Gone> {
    send_event(sink, &error.to_json()).await
}
