//! `POST /api/embed`, and `POST /api/embeddings` as it was before.

use super::models::check;
use crate::http::App;
use crate::http::answer::{Answers, Asker};
use crate::http::embedding::{MOST_TEXTS, ask, check_dimensions, collect};
use crate::http::error::{ApiError, OllamaError};
use crate::http::extract::Body;
use crate::http::guard::Caller;
use crate::http::health::ready;
use crate::http::keep_alive::plain;
use crate::http::texts::Texts;
use crate::service::Ready;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

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
    let (ready, answers) = begin(service, owner, body).await?;
    Ok(plain(ready.silence, async move {
        let (vectors, tokens) = collect(answers).await?;
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
    let (ready, answers) = begin(service, owner, body).await?;
    Ok(plain(ready.silence, async move {
        let (vectors, _) = collect(answers).await?;
        Ok(json!({"embedding": vectors.into_iter().next().unwrap_or_default()}))
    })
    .await)
}

/// Asks for the vectors of all texts. An empty one only has the model loaded, which it is.
async fn begin(
    service: App,
    owner: Caller,
    body: Result<Body<EmbedRequest>, ApiError>,
) -> Result<(Arc<Ready>, Answers), ApiError> {
    let Body(body) = body?;
    let ready = ready(&service).await?;
    check(&service, body.model.as_deref())?;
    check_dimensions(&ready, body.dimensions.filter(|wanted| *wanted != 0))?;
    let mut texts = match body.input {
        None => Vec::new(),
        Some(Texts::Text(text)) if text.is_empty() => Vec::new(),
        Some(Texts::Several(texts)) if texts.is_empty() => Vec::new(),
        Some(texts) => texts.encode(&ready, "input", MOST_TEXTS)?,
    };
    if body.truncate.unwrap_or(true) {
        texts.iter_mut().for_each(|text| text.truncate(ready.context));
    }
    let answers = ask(&ready, Asker { service, owner, priority: 0 }, texts)?;
    Ok((ready, answers))
}
