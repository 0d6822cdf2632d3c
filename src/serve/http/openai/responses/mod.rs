//! `POST /v1/responses`: OpenAI's Responses API, without anything that is kept between requests.

mod input;
mod output;
mod stream;

use super::EVENTS;
use super::chat::{ChatRequest, requests};
use crate::http::App;
use crate::http::answer::{Answer, Asker, Collected};
use crate::http::calls::{Piece, pieces};
use crate::http::error::ApiError;
use crate::http::extract::Body;
use crate::http::fields::Fields;
use crate::http::guard::Caller;
use crate::http::health::ready;
use crate::http::keep_alive::{plain, stream};
use crate::service::now;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use input::Input;
use output::{Head, Output};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(in crate::http) struct ResponseRequest {
    input: Input,
    instructions: Option<String>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    text: Option<Value>,
    max_output_tokens: Option<i64>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    stream: Option<bool>,
    metadata: Option<Value>,
    truncation: Option<String>,
    top_logprobs: Option<usize>,
    background: Option<bool>,
    previous_response_id: Option<Value>,
    conversation: Option<Value>,
    prompt: Option<Value>,
    /// wick's own, as in chat completions.
    seed: Option<i64>,
    priority: Option<i32>,
}

pub(in crate::http) async fn respond(
    State(service): State<App>,
    Extension(owner): Extension<Caller>,
    Body(body): Body<ResponseRequest>,
) -> Result<Response, ApiError> {
    let ready = ready(&service).await?;
    check(&body)?;
    let (is_stream, priority) = (body.stream.unwrap_or(false), body.priority.unwrap_or(0));
    let head = Head::new(&ready.name, now(), &body);
    let (mut requests, with_calls) =
        requests(&ready, chat(body)?, None).await.map_err(|error| error.renamed(&NAMES))?;
    let answer = Answer::ask(&Asker { service, owner, priority }, requests.remove(0))?;
    let answer = Answering { answer, head, with_calls };
    if is_stream {
        return Ok(stream(EVENTS, move |sink| answer.stream(sink)));
    }
    Ok(plain(ready.silence, answer.collect()).await)
}

/// Refuses what is not served.
fn check(body: &ResponseRequest) -> Result<(), ApiError> {
    let kept = "nothing is kept here between requests; send the whole conversation";
    let refused = [
        (body.previous_response_id.is_some(), "previous_response_id", kept),
        (body.conversation.is_some(), "conversation", kept),
        (body.background.unwrap_or(false), "background", kept),
        (body.prompt.is_some(), "prompt", "there are no prompts here by name"),
        (body.truncation.as_deref() == Some("auto"), "truncation", "it is not served"),
        (body.top_logprobs.unwrap_or(0) > 0, "top_logprobs", "use /v1/chat/completions"),
    ];
    match refused.into_iter().find(|(is_asked, ..)| *is_asked) {
        Some((_, field, message)) => Err(ApiError::unsupported(field, message)),
        None => Ok(()),
    }
}

/// The same as a request for a chat completion.
fn chat(body: ResponseRequest) -> Result<ChatRequest, ApiError> {
    let ResponseRequest { temperature, top_p, seed, .. } = body;
    let max_tokens = body.max_output_tokens;
    Ok(ChatRequest {
        messages: body.input.messages(body.instructions)?,
        fields: Fields { max_tokens, temperature, top_p, seed, ..Fields::default() },
        tools: body.tools.map(input::tools).transpose()?,
        tool_choice: body.tool_choice.map(input::tool_choice).transpose()?,
        parallel_tool_calls: body.parallel_tool_calls,
        response_format: body.text.map(input::format).transpose()?,
        ..ChatRequest::default()
    })
}

/// Fields of chat completions, and what they are called here.
const NAMES: [(&str, &str); 3] = [
    ("messages", "input"),
    ("max_tokens", "max_output_tokens"),
    ("response_format", "text.format"),
];

/// A response that is being written.
struct Answering {
    answer: Answer,
    head: Head,
    /// Whether there may be calls of tools in the text.
    with_calls: bool,
}

impl Answering {
    /// All of it as one object.
    async fn collect(self) -> Result<Value, ApiError> {
        let mut output = Output::default();
        let Collected { text, outcome, .. } = self.answer.collect().await?;
        output.push(if self.with_calls { pieces(&text) } else { vec![Piece::Content(text)] });
        output.end(output::status(&outcome));
        Ok(self.head.ended(&output, &outcome))
    }
}
