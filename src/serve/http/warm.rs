//! Prompts that are read before anybody asks.

use super::prompt::Conversation;
use super::texts::ids;
use crate::service::{Event, Job, Queue, Ready};
use serde::Deserialize;
use serde_json::Value as Json;
use std::fmt;
use tokio::sync::mpsc::UnboundedReceiver;
use wick_core::{Sampler, Sampling};
use wick_session::Request;

/// A line of a file of prompts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Chat { messages: Vec<Json>, tools: Option<Json> },
    Text { prompt: String },
}

/// Prompts that are being read; given up when this is dropped.
#[derive(Debug)]
pub struct Warming {
    _wanted: Vec<UnboundedReceiver<Event>>,
}

/// A line of a file of prompts cannot be read.
#[derive(Debug)]
pub struct WarmError {
    line: usize,
    reason: String,
}

impl fmt::Display for WarmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for WarmError {}

impl Warming {
    /// Has prompts read after all else that waits: a request a line, as chat or text completions have it. Whoever asks has
    /// them read already, with any key.
    ///
    /// # Errors
    /// A line is none, or there are more than may wait.
    pub fn begin(text: &str, ready: &Ready, queue: &Queue) -> Result<Warming, WarmError> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let begun = lines.map(|(i, line)| {
            let blame = |reason| WarmError { line: i + 1, reason };
            let ids = encode(line, ready).map_err(blame)?;
            let request = Request::new(ids, 0, Sampler::new(Sampling::GREEDY));
            let (job, events) = Job::new(Request { owner: Request::ANYBODY, ..request }, i32::MIN);
            let refused = |_| blame("more prompts than requests may wait (--max-queue)".into());
            queue.push(job).map_err(refused).map(|()| events)
        });
        Ok(Warming { _wanted: begun.collect::<Result<_, _>>()? })
    }
}

/// The ids of the prompt of a line.
fn encode(line: &str, ready: &Ready) -> Result<Vec<u32>, String> {
    let expected = |_| "{\"messages\": […]} or {\"prompt\": \"…\"} expected".to_owned();
    let ids = match serde_json::from_str(line).map_err(expected)? {
        Line::Chat { messages, tools } => {
            let conversation = Conversation::new(ready, messages, tools);
            let ids = conversation.and_then(|conversation| conversation.render(ready));
            ids.map_err(|error| error.message)?
        }
        Line::Text { prompt } => ids(ready, &prompt),
    };
    match ids.len() {
        0 => Err("the prompt is empty".into()),
        found if found > ready.context => {
            Err(format!("the prompt has {found} tokens, and the context {}", ready.context))
        }
        _ => Ok(ids),
    }
}
