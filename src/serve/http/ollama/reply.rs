//! What Ollama's clients are told of an answer.

use crate::http::answer::{Answer, Asker, failure};
use crate::http::error::{ApiError, OllamaError};
use crate::http::keep_alive::{Gone, Sink, plain, stream};
use crate::service::{Event, Outcome, Ready};
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
) -> Result<Response, OllamaError> {
    let answer = Answer::ask(asker, request)?;
    let writer = Writer { model: ready.name.clone(), start: Instant::now(), piece };
    if is_stream {
        return Ok(stream(LINES, move |sink| writer.stream(answer, sink)));
    }
    let response = plain(async move {
        let found = answer.collect().await?;
        Ok(writer.last(&found.text, &found.outcome))
    });
    Ok(response.await.into_response())
}

struct Writer {
    model: String,
    start: Instant,
    piece: Piece,
}

impl Writer {
    async fn stream(self, mut answer: Answer, sink: Sink) -> Result<(), Gone> {
        let line = |value: Value| format!("{value}\n");
        loop {
            match sink.next(&mut answer).await? {
                // Its client reads each line as an object, so that there are no comments.
                None => sink.send(line(self.part(""))).await?,
                Some(Event::Reading { .. }) => {}
                Some(Event::Token { text, .. }) if text.is_empty() => {}
                Some(Event::Token { text, .. }) => sink.send(line(self.part(&text))).await?,
                Some(Event::Ended(outcome)) => {
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
