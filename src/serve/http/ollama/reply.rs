//! What Ollama's clients are told of an answer.

use crate::http::answer::{Answer, Asker, failure};
use crate::http::calls::{CallReader, gather, read};
use crate::http::error::{ApiError, OllamaError};
use crate::http::keep_alive::{Gone, Sink, plain, stream};
use crate::service::{Event, Outcome, Ready};
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use wick_session::{Ended, Request};

const LINES: &str = "application/x-ndjson";

/// How a piece of text is put into an object.
pub(super) type Piece = fn(&str) -> (&'static str, Value);

/// Asks for an answer and tells it line by line, or as one object.
pub(super) async fn reply(
    asker: &Asker,
    ready: &Arc<Ready>,
    request: Request,
    is_stream: bool,
    piece: Piece,
    with_calls: bool,
) -> Result<Response, OllamaError> {
    let answer = Answer::ask(asker, request)?;
    let writer = Writer { model: ready.name.clone(), start: Instant::now(), piece, with_calls };
    if is_stream {
        return Ok(stream(LINES, move |sink| writer.stream(answer, sink)));
    }
    let response = plain(ready.silence, async move {
        let found = answer.collect().await?;
        let (text, calls) =
            if writer.with_calls { read(&found.text) } else { (found.text, Vec::new()) };
        let mut last = writer.last(&text, &found.outcome);
        if !calls.is_empty() {
            last["message"]["tool_calls"] = calls_of(&calls);
        }
        Ok(last)
    });
    Ok(response.await.into_response())
}

/// What a request without anything to answer is told, by which Ollama's clients load a model.
pub(super) fn loaded(ready: &Ready, piece: Piece) -> Response {
    let (name, value) = piece("");
    let created = super::models::timestamp();
    Json(json!({
        "model": ready.name,
        "created_at": created,
        name: value,
        "done": true,
        "done_reason": "load",
    }))
    .into_response()
}

struct Writer {
    model: String,
    start: Instant,
    piece: Piece,
    /// Whether there may be calls of tools in the text.
    with_calls: bool,
}

impl Writer {
    async fn stream(self, mut answer: Answer, sink: Sink) -> Result<(), Gone> {
        let line = |value: Value| format!("{value}\n");
        let (mut reader, mut calls) = (CallReader::default(), Vec::new());
        loop {
            match sink.next(&mut answer).await? {
                // Its client reads each line as an object, so that there are no comments.
                None => sink.send(line(self.part(""))).await?,
                Some(Event::Reading { .. }) => {}
                Some(Event::Token { text, .. }) => {
                    let text = match self.with_calls {
                        true => said(reader.push(&text), &mut calls),
                        false => text,
                    };
                    if !text.is_empty() {
                        sink.send(line(self.part(&text))).await?;
                    }
                }
                Some(Event::Ended(outcome)) => {
                    let mut rest = self.part(&said(reader.finish(), &mut calls));
                    if !calls.is_empty() {
                        rest["message"]["tool_calls"] = calls_of(&calls);
                    }
                    if self.with_calls {
                        sink.send(line(rest)).await?;
                    }
                    let last = match failure(&outcome) {
                        Ok(()) => self.last("", &outcome),
                        Err(ApiError { message, .. }) => json!({"error": message}),
                    };
                    return sink.send(line(last)).await;
                }
            }
        }
    }

    fn part(&self, text: &str) -> Value {
        let (name, value) = (self.piece)(text);
        let created = super::models::timestamp();
        json!({"model": self.model, "created_at": created, name: value, "done": false})
    }

    fn last(&self, text: &str, outcome: &Outcome) -> Value {
        let reason = match outcome.ended {
            Ended::Length | Ended::Context => "length",
            _ => "stop",
        };
        let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
        let mut last = self.part(text);
        let more = json!({
            "done": true,
            "done_reason": reason,
            "total_duration": self.start.elapsed().as_nanos() as u64,
            "load_duration": 0,
            "prompt_eval_count": outcome.prompt,
            "prompt_eval_duration": nanoseconds(outcome.prefill_seconds),
            "eval_count": outcome.drawn,
            "eval_duration": nanoseconds(outcome.decode_seconds),
        });
        if let (Value::Object(last), Value::Object(more)) = (&mut last, more) {
            last.extend(more);
        }
        last
    }
}

/// The text of some pieces; calls are added to those that were made.
fn said(pieces: Vec<crate::http::calls::Piece>, calls: &mut Vec<(String, String)>) -> String {
    let mut text = String::new();
    pieces.into_iter().for_each(|piece| gather(piece, &mut text, calls));
    text
}

/// Calls in Ollama's form; one that was cut off is none.
fn calls_of(calls: &[(String, String)]) -> Value {
    let call = |(name, arguments): &(String, String)| {
        let arguments: Value = serde_json::from_str(arguments).ok()?;
        Some(json!({"function": {"name": name, "arguments": arguments}}))
    };
    calls.iter().filter_map(call).collect()
}
