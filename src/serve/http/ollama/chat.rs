//! `POST /api/chat`.

use super::options::Options;
use super::reply::{loaded, reply};
use crate::http::App;
use crate::http::answer::Asker;
use crate::http::error::{ApiError, OllamaError};
use crate::http::extract::Body;
use crate::http::fields::Fields;
use crate::http::format::{constrain, json_form, ollama_format};
use crate::http::guard::Caller;
use crate::http::health::ready;
use crate::http::prompt::Conversation;
use crate::http::tools::tools;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
pub(in crate::http) struct ChatRequest {
    model: Option<String>,
    #[serde(default)]
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
    stream: Option<bool>,
    format: Option<Value>,
    #[serde(default)]
    options: Option<Options>,
}

pub(in crate::http) async fn chat(
    State(service): State<App>,
    Extension(owner): Extension<Caller>,
    body: Result<Body<ChatRequest>, ApiError>,
) -> Result<Response, OllamaError> {
    let Body(body) = body?;
    let ready = ready(&service).await?;
    super::models::check(&service, body.model.as_deref())?;
    let schema = ollama_format(body.format.as_ref())?;
    let piece = |text: &str| ("message", json!({"role": "assistant", "content": text}));
    if body.messages.is_empty() {
        // What Ollama's clients load a model with.
        return Ok(loaded(&ready, piece));
    }
    let form = json_form(&ready, "format", schema).await?;
    let fields = Fields::from(body.options.unwrap_or_default());
    let tools = tools(&ready, body.tools, None, None).await?;
    if form.is_some() && tools.is_some() {
        let message = "text expected where tools may be called";
        return Err(ApiError::unsupported("format", message).into());
    }
    let described = tools.as_ref().map(|tools| tools.described.clone());
    let conversation = Conversation::new(&ready, body.messages, described)?;
    let prompt = conversation.encode_latest(&ready, ready.most).await?;
    let mut requests = fields.requests(&ready, prompt, None)?;
    constrain(&mut requests, form.as_ref());
    if let Some(tools) = &tools {
        tools.constrain(&ready, &mut requests);
    }
    let asker = Asker { service, owner, priority: 0 };
    reply(&asker, &ready, requests.remove(0), body.stream.unwrap_or(true), piece, tools.is_some())
        .await
}
