//! A response as it comes: events with a name and a number each.

use super::Answering;
use super::output::{Output, status};
use crate::http::answer::{Answer, failure};
use crate::http::calls::{CallReader, Piece};
use crate::http::error::ApiError;
use crate::http::keep_alive::{Gone, Sink};
use crate::http::openai::send_beat;
use crate::service::{Event, Outcome};
use serde_json::{Value, json};

/// Where events go, and how many have gone.
struct Events {
    sink: Sink,
    sent: u64,
}

impl Events {
    async fn send(&mut self, mut event: Value) -> Result<(), Gone> {
        event["sequence_number"] = self.sent.into();
        self.sent += 1;
        let kind = event["type"].as_str().unwrap_or_default();
        self.sink.send(format!("event: {kind}\ndata: {event}\n\n")).await
    }

    async fn send_all(&mut self, events: Vec<Value>) -> Result<(), Gone> {
        for event in events {
            self.send(event).await?;
        }
        Ok(())
    }

    /// An event that tells all of a response.
    async fn tell(&mut self, kind: &str, response: Value) -> Result<(), Gone> {
        self.send(json!({"type": kind, "response": response})).await
    }
}

impl Answering {
    /// All of it as it comes.
    pub(super) async fn stream(self, sink: Sink) -> Result<(), Gone> {
        let mut events = Events { sink, sent: 0 };
        events.tell("response.created", self.head.begun()).await?;
        events.tell("response.in_progress", self.head.begun()).await?;
        let mut output = Output::default();
        match tell(self.answer, &mut output, &mut events, self.with_calls).await? {
            Ok(outcome) => {
                events.send_all(output.end(status(&outcome))).await?;
                let kind = format!("response.{}", status(&outcome));
                events.tell(&kind, self.head.ended(&output, &outcome)).await
            }
            Err(error) => events.tell("response.failed", self.head.failed(&output, &error)).await,
        }
    }
}

/// Tells the items of an answer up to its end; `with_calls` if there may be calls of tools in its text.
async fn tell(
    mut answer: Answer,
    output: &mut Output,
    events: &mut Events,
    with_calls: bool,
) -> Result<Result<Outcome, ApiError>, Gone> {
    let mut reader = CallReader::default();
    loop {
        let pieces = match events.sink.next(&mut answer).await? {
            None => {
                send_beat(&events.sink).await?;
                continue;
            }
            Some(Event::Reading { .. }) => continue,
            Some(Event::Token { text, .. }) if text.is_empty() => continue,
            Some(Event::Token { text, .. }) if with_calls => reader.push(&text),
            Some(Event::Token { text, .. }) => vec![Piece::Content(text)],
            Some(Event::Ended(outcome)) => {
                events.send_all(output.push(reader.finish())).await?;
                return Ok(failure(&outcome).map(|()| outcome));
            }
        };
        events.send_all(output.push(pieces)).await?;
    }
}
