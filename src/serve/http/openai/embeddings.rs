//! `POST /v1/embeddings`: texts as vectors, the mean of their hidden states (after the last norm), as long as one.

use crate::http::App;
use crate::http::answer::{Answers, Asker};
use crate::http::embedding::{MOST_TEXTS, ask, check_dimensions, collect};
use crate::http::error::ApiError;
use crate::http::extract::Body;
use crate::http::guard::Caller;
use crate::http::health::ready;
use crate::http::keep_alive::plain;
use crate::http::texts::Texts;
use crate::service::Ready;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
pub(in crate::http) struct EmbeddingRequest {
    input: Texts,
    encoding_format: Option<Encoding>,
    dimensions: Option<usize>,
    /// Requests of higher priority go first; wick's own.
    priority: Option<i32>,
}

/// How the values of a vector are written.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    /// Their bytes as little-endian singles.
    Base64,
}

impl Encoding {
    fn write(self, values: &[f32]) -> Value {
        match self {
            Encoding::Float => values.into(),
            Encoding::Base64 => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                STANDARD.encode(bytes).into()
            }
        }
    }
}

pub(in crate::http) async fn embeddings(
    State(service): State<App>,
    Extension(owner): Extension<Caller>,
    Body(body): Body<EmbeddingRequest>,
) -> Result<Response, ApiError> {
    let ready = ready(&service).await?;
    check_dimensions(&ready, body.dimensions)?;
    if body.input.has_empty() {
        return Err(ApiError::field("input", "texts that are not empty expected"));
    }
    let texts = body.input.encode(&ready, "input", MOST_TEXTS)?;
    let priority = body.priority.unwrap_or(0);
    let answers = ask(&ready, Asker { service, owner, priority }, texts)?;
    let encoding = body.encoding_format.unwrap_or_default();
    Ok(plain(ready.silence, write(ready, answers, encoding)).await)
}

async fn write(ready: Arc<Ready>, answers: Answers, encoding: Encoding) -> Result<Value, ApiError> {
    let (vectors, tokens) = collect(answers).await?;
    let data = vectors.iter().enumerate().map(|(index, vector)| {
        json!({"object": "embedding", "index": index, "embedding": encoding.write(vector)})
    });
    Ok(json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": ready.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}
