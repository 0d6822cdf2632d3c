//! `POST /v1/chat/completions`.

use super::log_probabilities::of_chat;
use super::{EVENTS, StreamOptions, Usage, finish_reason, id, send_beat, send_error, send_event};
use crate::http::App;
use crate::http::answer::{Answers, Asker, Collected, failure};
use crate::http::calls::{CallReader, Piece, call, read, whole_call};
use crate::http::error::ApiError;
use crate::http::extract::Body;
use crate::http::fields::Fields;
use crate::http::format::{constrain, json_form, response_format};
use crate::http::guard::Caller;
use crate::http::health::ready;
use crate::http::keep_alive::{Gone, Sink, plain, stream};
use crate::http::prompt::Conversation;
use crate::http::tools::tools;
use crate::service::{Event, Outcome, Ready, now};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use wick_session::Request;

#[derive(Default, Deserialize)]
pub(in crate::http) struct ChatRequest {
    pub(super) messages: Vec<Value>,
    #[serde(flatten)]
    pub(super) fields: Fields,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) logprobs: Option<bool>,
    pub(super) top_logprobs: Option<usize>,
    pub(super) tools: Option<Vec<Value>>,
    pub(super) tool_choice: Option<Value>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) response_format: Option<Value>,
}

pub(in crate::http) async fn complete(
    State(service): State<App>,
    Extension(owner): Extension<Caller>,
    Body(body): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let ready = ready(&service).await?;
    check(&body)?;
    let priority = body.fields.priority.unwrap_or(0);
    let (is_stream, options) = (body.stream.unwrap_or(false), body.stream_options);
    let log_probabilities = body.logprobs.unwrap_or(false).then(|| body.top_logprobs.unwrap_or(0));
    let (requests, with_calls) = requests(&ready, body, log_probabilities).await?;
    let choices = Choices {
        answers: Answers::ask(Asker { service, owner, priority }, requests)?,
        head: Head { id: id("chatcmpl"), created: now(), model: ready.name.clone() },
        ready,
        with_log_probabilities: log_probabilities.is_some(),
        with_calls,
    };
    if is_stream {
        let options = options.unwrap_or_default();
        return Ok(stream(EVENTS, move |sink| choices.stream(sink, options)));
    }
    Ok(plain(choices.ready.silence, choices.collect()).await)
}

/// The choices that are asked for, and whether there may be calls of tools in them.
pub(super) async fn requests(
    ready: &Arc<Ready>,
    body: ChatRequest,
    log_probabilities: Option<usize>,
) -> Result<(Vec<Request>, bool), ApiError> {
    let schema = response_format(body.response_format.as_ref())?;
    let form = json_form(ready, "response_format", schema).await?;
    let (choice, is_parallel) = (body.tool_choice.as_ref(), body.parallel_tool_calls);
    let tools = tools(ready, body.tools, choice, is_parallel).await?;
    if form.is_some() && tools.is_some() {
        let message = "text expected where tools may be called, or tool_choice none";
        return Err(ApiError::unsupported("response_format", message));
    }
    let described = tools.as_ref().map(|tools| tools.described.clone());
    let conversation = Conversation::new(ready, body.messages, described)?;
    let prompt = conversation.encode(ready).await?;
    let mut requests = body.fields.requests(ready, prompt, log_probabilities)?;
    constrain(&mut requests, form.as_ref());
    if let Some(tools) = &tools {
        tools.constrain(ready, &mut requests);
    }
    Ok((requests, tools.is_some()))
}

/// Refuses what is not served.
fn check(body: &ChatRequest) -> Result<(), ApiError> {
    if body.top_logprobs.is_some() && !body.logprobs.unwrap_or(false) {
        return Err(ApiError::field("top_logprobs", "logprobs: true expected beside it"));
    }
    Ok(())
}

/// What all parts of an answer have.
struct Head {
    id: String,
    created: u64,
    model: String,
}

/// The choices of a request.
struct Choices {
    answers: Answers,
    ready: Arc<Ready>,
    head: Head,
    with_log_probabilities: bool,
    /// Whether there may be calls of tools in the text.
    with_calls: bool,
}

impl Choices {
    /// All of it as one object.
    async fn collect(mut self) -> Result<Value, ApiError> {
        let (mut choices, mut usage) = (Vec::new(), Usage::default());
        while let Some(answer) = self.answers.next() {
            let Collected { text, log_probabilities, outcome } = answer.collect().await?;
            usage.add(&outcome, choices.is_empty());
            let told = self.with_log_probabilities;
            let logprobs = told.then(|| of_chat(&self.ready.tokenizer, &log_probabilities));
            let (content, calls) = if self.with_calls { read(&text) } else { (text, Vec::new()) };
            let reason = reason(&outcome, !calls.is_empty());
            choices.push(json!({
                "index": choices.len(),
                "message": message(content, calls),
                "logprobs": logprobs,
                "finish_reason": reason,
            }));
        }
        let Head { id, created, model } = &self.head;
        Ok(json!({
            "id": id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": choices,
            "usage": usage.to_json(),
        }))
    }

    /// All of it as it comes.
    async fn stream(mut self, sink: Sink, options: StreamOptions) -> Result<(), Gone> {
        let mut usage = Usage::default();
        for index in 0.. {
            let Some(mut answer) = self.answers.next() else { break };
            let (mut reader, mut calls) = (CallReader::default(), 0);
            let role = json!({"role": "assistant", "content": "", "refusal": null});
            send_event(&sink, &self.chunk(index, role, None, Value::Null)).await?;
            loop {
                let Some(event) = sink.next(&mut answer).await? else {
                    send_beat(&sink).await?;
                    continue;
                };
                match event {
                    Event::Reading { prompt, held, cached } if options.include_progress => {
                        let progress = json!({"prompt": prompt, "held": held, "cached": cached});
                        send_event(&sink, &self.extra("progress", &progress)).await?;
                    }
                    Event::Reading { .. } => {}
                    Event::Token { text, log_probability } => {
                        let told = log_probability.filter(|_| self.with_log_probabilities);
                        let told = told.map(|told| of_chat(&self.ready.tokenizer, &[told]));
                        if text.is_empty() && told.is_none() {
                            continue;
                        }
                        let deltas = match self.with_calls {
                            true => deltas(reader.push(&text), &mut calls),
                            false => vec![json!({"content": text})],
                        };
                        for part in self.parts(index, deltas, told) {
                            send_event(&sink, &part).await?;
                        }
                    }
                    Event::Ended(outcome) => {
                        if let Err(error) = failure(&outcome) {
                            return send_error(&sink, &error).await;
                        }
                        usage.add(&outcome, index == 0);
                        let rest = deltas(reader.finish(), &mut calls);
                        for part in self.parts(index, rest, None) {
                            send_event(&sink, &part).await?;
                        }
                        let reason = reason(&outcome, calls > 0).into();
                        send_event(&sink, &self.chunk(index, json!({}), None, reason)).await?;
                        break;
                    }
                }
            }
        }
        if options.include_usage {
            send_event(&sink, &self.extra("usage", &usage.to_json())).await?;
        }
        sink.send("data: [DONE]\n\n").await
    }

    /// Parts of a choice; what is told of their token goes with the first.
    fn parts(&self, index: usize, mut deltas: Vec<Value>, mut told: Option<Value>) -> Vec<Value> {
        if deltas.is_empty() && told.is_some() {
            deltas.push(json!({"content": ""}));
        }
        let part = |delta| self.chunk(index, delta, told.take(), Value::Null);
        deltas.into_iter().map(part).collect()
    }

    fn chunk(&self, index: usize, delta: Value, logprobs: Option<Value>, reason: Value) -> Value {
        let mut chunk = self.extra("usage", &Value::Null);
        chunk["choices"] = json!([
            {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        ]);
        chunk
    }

    /// A part without a choice, that tells something else.
    fn extra(&self, name: &str, value: &Value) -> Value {
        let Head { id, created, model } = &self.head;
        json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "choices": [],
            name: value,
        })
    }
}

/// A whole message.
fn message(content: String, calls: Vec<(String, String)>) -> Value {
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !calls.is_empty() {
        if content.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = calls.into_iter().map(whole_call).collect();
    }
    message
}

/// Why an answer ended, which may have called tools.
fn reason(outcome: &Outcome, has_called: bool) -> &'static str {
    match finish_reason(outcome) {
        "stop" if has_called => "tool_calls",
        reason => reason,
    }
}

/// Pieces as a stream tells them; `calls` are those that have begun.
fn deltas(pieces: Vec<Piece>, calls: &mut usize) -> Vec<Value> {
    let delta = |piece| match piece {
        Piece::Content(text) => json!({"content": text}),
        Piece::Call { name } => {
            *calls += 1;
            let mut call = call(&name);
            call["index"] = (*calls - 1).into();
            json!({"tool_calls": [call]})
        }
        Piece::Arguments(text) => {
            let function = json!({"arguments": text});
            json!({"tool_calls": [{"index": calls.saturating_sub(1), "function": function}]})
        }
    };
    pieces.into_iter().map(delta).collect()
}
