//! `POST /v1/completions`.

use super::log_probabilities::{Offset, of_completion};
use super::{EVENTS, StreamOptions, Usage, finish_reason, id, send_beat, send_error, send_event};
use crate::http::App;
use crate::http::answer::{Answers, Asker, Collected, failure};
use crate::http::error::ApiError;
use crate::http::extract::Body;
use crate::http::fields::Fields;
use crate::http::guard::Caller;
use crate::http::health::ready;
use crate::http::keep_alive::{Gone, Sink, plain, stream};
use crate::http::texts::Texts;
use crate::service::{Event, Ready, now};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Prompts of a request at most.
const MOST_PROMPTS: usize = 64;

#[derive(Deserialize)]
pub(in crate::http) struct CompletionRequest {
    prompt: Texts,
    #[serde(flatten)]
    fields: Fields,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<usize>,
    echo: Option<bool>,
    suffix: Option<String>,
    best_of: Option<i64>,
}

pub(in crate::http) async fn complete(
    State(service): State<App>,
    Extension(owner): Extension<Caller>,
    Body(body): Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    let ready = ready(&service).await?;
    check(&body)?;
    let prompts = body.prompt.encode(&ready, "prompt", MOST_PROMPTS)?;
    let (mut requests, count) = (Vec::new(), prompts.len());
    for prompt in prompts {
        requests.extend(body.fields.requests(&ready, prompt, body.logprobs)?);
    }
    let each = (requests.len() / count.max(1)).max(1);
    let priority = body.fields.priority.unwrap_or(0);
    let answers = Answers::ask(Asker { service, owner, priority }, requests)?;
    let (id, created) = (id("cmpl"), now());
    let with_log_probabilities = body.logprobs.is_some();
    let choices = Choices { answers, ready, id, created, each, with_log_probabilities };
    if body.stream.unwrap_or(false) {
        let options = body.stream_options.unwrap_or_default();
        return Ok(stream(EVENTS, move |sink| choices.stream(sink, options)));
    }
    Ok(plain(choices.ready.silence, choices.collect()).await)
}

/// Refuses what is not served.
fn check(body: &CompletionRequest) -> Result<(), ApiError> {
    if body.echo.unwrap_or(false) {
        return Err(ApiError::unsupported("echo", "it is not served"));
    }
    if body.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::unsupported("suffix", "this model cannot fill in the middle"));
    }
    if body.best_of.is_some_and(|best| best > body.fields.n.unwrap_or(1)) {
        return Err(ApiError::unsupported("best_of", "no more than n is served"));
    }
    Ok(())
}

/// The choices of a request.
struct Choices {
    answers: Answers,
    ready: Arc<Ready>,
    id: String,
    created: u64,
    /// Choices of a prompt.
    each: usize,
    with_log_probabilities: bool,
}

impl Choices {
    async fn collect(mut self) -> Result<Value, ApiError> {
        let (mut choices, mut usage) = (Vec::new(), Usage::default());
        while let Some(answer) = self.answers.next() {
            let Collected { text, log_probabilities, outcome } = answer.collect().await?;
            usage.add(&outcome, choices.len() % self.each == 0);
            let told = self.with_log_probabilities;
            let tokens = &log_probabilities;
            let told =
                told.then(|| of_completion(&self.ready.tokenizer, tokens, &mut Offset::new()));
            let reason = finish_reason(&outcome);
            choices.push(choice(choices.len(), &text, told, reason.into()));
        }
        let mut whole = self.part(choices);
        whole["usage"] = usage.to_json();
        Ok(whole)
    }

    async fn stream(mut self, sink: Sink, options: StreamOptions) -> Result<(), Gone> {
        let mut usage = Usage::default();
        for index in 0.. {
            let Some(mut answer) = self.answers.next() else { break };
            let mut offset = Offset::new();
            loop {
                let Some(event) = sink.next(&mut answer).await? else {
                    send_beat(&sink).await?;
                    continue;
                };
                match event {
                    Event::Reading { .. } => {}
                    Event::Token { text, log_probability } => {
                        let told = log_probability.filter(|_| self.with_log_probabilities);
                        let tokenizer = &self.ready.tokenizer;
                        let told = told.map(|told| of_completion(tokenizer, &[told], &mut offset));
                        if text.is_empty() && told.is_none() {
                            continue;
                        }
                        let part = self.part(vec![choice(index, &text, told, Value::Null)]);
                        send_event(&sink, &part).await?;
                    }
                    Event::Ended(outcome) => {
                        if let Err(error) = failure(&outcome) {
                            return send_error(&sink, &error).await;
                        }
                        usage.add(&outcome, index % self.each == 0);
                        let reason = finish_reason(&outcome).into();
                        let part = self.part(vec![choice(index, "", None, reason)]);
                        send_event(&sink, &part).await?;
                        break;
                    }
                }
            }
        }
        if options.include_usage {
            let mut part = self.part(Vec::new());
            part["usage"] = usage.to_json();
            send_event(&sink, &part).await?;
        }
        sink.send("data: [DONE]\n\n").await
    }

    fn part(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.ready.name,
            "choices": choices,
        })
    }
}

fn choice(index: usize, text: &str, logprobs: Option<Value>, reason: Value) -> Value {
    json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
}
