//! Texts to ids and back.

use super::App;
use super::error::ApiError;
use super::extract::Body;
use super::health::ready;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use wick_text::{Control, Special};

#[derive(Deserialize)]
pub(super) struct Text {
    content: String,
    /// Whether the token that sequences begin with is put first, where the model has one.
    #[serde(default)]
    add_special: bool,
}

/// `POST /tokenize`: the ids of a text, in which nothing is a control token.
pub(super) async fn tokenize(
    State(service): State<App>,
    Body(Text { content, add_special }): Body<Text>,
) -> Result<Json<Value>, ApiError> {
    let ready = ready(&service).await?;
    let prefix = ready.tokenizer.prefix().filter(|_| add_special);
    let mut ids = Vec::from_iter(prefix);
    ready.tokenizer.encode(&content, Special::Text, &mut ids);
    Ok(Json(json!({"tokens": ids})))
}

#[derive(Deserialize)]
pub(super) struct Ids {
    tokens: Vec<u32>,
}

/// `POST /detokenize`: the text of ids; what is no UTF-8 in it is replaced.
pub(super) async fn detokenize(
    State(service): State<App>,
    Body(Ids { tokens }): Body<Ids>,
) -> Result<Json<Value>, ApiError> {
    let ready = ready(&service).await?;
    let entries = ready.tokenizer.len();
    if let Some(id) = tokens.iter().find(|id| **id as usize >= entries) {
        let message = format_args!("token {id}: the vocabulary has {entries} entries");
        return Err(ApiError::field("tokens", message));
    }
    let mut bytes = Vec::new();
    ready.tokenizer.decode(&tokens, Control::Show, &mut bytes);
    Ok(Json(json!({"content": String::from_utf8_lossy(&bytes)})))
}
