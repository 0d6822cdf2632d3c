//! `POST /api/generate`.

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
use crate::http::texts::ids;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
pub(in crate::http) struct GenerateRequest {
    model: Option<String>,
    #[serde(default)]
    prompt: String,
    system: Option<String>,
    suffix: Option<String>,
    template: Option<String>,
    images: Option<Vec<Value>>,
    context: Option<Vec<Value>>,
    /// Whether the prompt is continued as it stands.
    #[serde(default)]
    raw: bool,
    stream: Option<bool>,
    format: Option<Value>,
    options: Option<Options>,
}

pub(in crate::http) async fn generate(
    State(service): State<App>,
    Extension(owner): Extension<Caller>,
    body: Result<Body<GenerateRequest>, ApiError>,
) -> Result<Response, OllamaError> {
    let Body(body) = body?;
    let ready = ready(&service).await?;
    super::models::check(&service, body.model.as_deref())?;
    check(&body)?;
    let schema = ollama_format(body.format.as_ref())?;
    let piece = |text: &str| ("response", Value::from(text));
    if body.prompt.is_empty() {
        return Ok(loaded(&ready, piece));
    }
    let form = json_form(&ready, "format", schema).await?;
    let prompt = if body.raw {
        ids(&ready, &body.prompt)
    } else {
        let system = body.system.map(|text| json!({"role": "system", "content": text}));
        let user = json!({"role": "user", "content": body.prompt});
        let messages = system.into_iter().chain([user]).collect();
        Conversation::new(&ready, messages, None)?.encode(&ready).await?
    };
    let fields = Fields::from(body.options.unwrap_or_default());
    let mut requests = fields.requests(&ready, prompt, None)?;
    constrain(&mut requests, form.as_ref());
    let asker = Asker { service, owner, priority: 0 };
    reply(&asker, &ready, requests.remove(0), body.stream.unwrap_or(true), piece, false).await
}

/// Refuses what is not served.
fn check(body: &GenerateRequest) -> Result<(), ApiError> {
    let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if is_given(&body.suffix) {
        return Err(ApiError::unsupported("suffix", "this model cannot fill in the middle"));
    }
    if body.context.as_ref().is_some_and(|context| !context.is_empty()) {
        return Err(ApiError::unsupported("context", "a conversation goes on at /api/chat"));
    }
    if is_given(&body.template) {
        return Err(ApiError::unsupported("template", "the service is started with its template"));
    }
    if body.images.as_ref().is_some_and(|images| !images.is_empty()) {
        return Err(ApiError::unsupported("images", "this model reads text alone"));
    }
    Ok(())
}
