//! `POST /api/embed`, and `POST /api/embeddings` as it was before.

use super::models::check;
use crate::http::App;
use crate::http::answer::{Answers, Asker, embed};
use crate::http::error::{ApiError, OllamaError};
use crate::http::extract::Body;
use crate::http::fields::{check_prompt, too_long};
use crate::http::guard::Caller;
use crate::http::health::ready;
use crate::http::keep_alive::plain;
use crate::http::texts::Texts;
use crate::service::Ready;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;
use wick_session::Request;

/// Texts of a request at most.
const MOST_TEXTS: usize = 2048;

#[derive(Deserialize)]
pub(in crate::http) struct EmbedRequest {
    model: Option<String>,
    #[serde(alias = "prompt")]
    input: Option<Texts>,
    /// Whether a text is cut off that is longer than the context.
    truncate: Option<bool>,
    dimensions: Option<usize>,
}

/// Several texts.
pub(in crate::http) async fn embed_all(
    State(service): State<App>,
    Extension(owner): Extension<Caller>,
    body: Result<Body<EmbedRequest>, ApiError>,
) -> Result<Response, OllamaError> {
    let start = Instant::now();
    let Body(body) = body?;
    let ready = ready(&service).await?;
    check(&ready, body.model.as_deref())?;
    let answers = ask(&ready, Asker { service, owner, priority: 0 }, body)?;
    Ok(plain(ready.silence, async move {
        let (vectors, tokens) = embed(answers).await?;
        Ok(json!({
            "model": ready.name,
            "embeddings": vectors,
            "total_duration": u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            "load_duration": 0,
            "prompt_eval_count": tokens,
        }))
    })
    .await)
}

/// One text.
pub(in crate::http) async fn embed_one(
    State(service): State<App>,
    Extension(owner): Extension<Caller>,
    body: Result<Body<EmbedRequest>, ApiError>,
) -> Result<Response, OllamaError> {
    let Body(body) = body?;
    let ready = ready(&service).await?;
    check(&ready, body.model.as_deref())?;
    let answers = ask(&ready, Asker { service, owner, priority: 0 }, body)?;
    Ok(plain(ready.silence, async move {
        let (vectors, _) = embed(answers).await?;
        Ok(json!({"embedding": vectors.into_iter().next().map_or(Value::Array(Vec::new()), Value::from)}))
    })
    .await)
}

/// Asks for the embeddings of all texts. An empty one only has the model loaded, which it is.
fn ask(ready: &Ready, asker: Asker, body: EmbedRequest) -> Result<Answers, ApiError> {
    if let Some(found) = body.dimensions.filter(|found| ![0, ready.hidden].contains(found)) {
        let message = format_args!("this model has {} and no other, {found} found", ready.hidden);
        return Err(ApiError::unsupported("dimensions", message));
    }
    let mut texts = match body.input {
        None => Vec::new(),
        Some(Texts::Text(text)) if text.is_empty() => Vec::new(),
        Some(Texts::Several(texts)) if texts.is_empty() => Vec::new(),
        Some(texts) => texts.encode(ready, "input", MOST_TEXTS)?,
    };
    for text in &mut texts {
        if text.len() > ready.context && !body.truncate.unwrap_or(true) {
            return Err(too_long(text.len(), ready.context));
        }
        text.truncate(ready.context);
        check_prompt(ready, "input", text)?;
    }
    Answers::ask(asker, texts.into_iter().map(Request::embedding).collect())
}
