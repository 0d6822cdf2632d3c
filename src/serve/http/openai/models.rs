//! `GET /v1/models`.

use crate::http::App;
use crate::http::error::ApiError;
use crate::http::health::ready;
use crate::service::Ready;
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

/// What is known of a model: of the one that is loaded, more than of the others.
fn describe(name: &str, ready: &Ready) -> Value {
    let mut model =
        json!({"id": name, "object": "model", "created": ready.created, "owned_by": "wick"});
    if name == ready.name {
        model["context_length"] = ready.context.into();
    }
    model
}

pub(in crate::http) async fn list(State(service): State<App>) -> Result<Json<Value>, ApiError> {
    let ready = ready(&service).await?;
    let names = service.models.names().iter();
    let data: Value = names.map(|name| describe(name, &ready)).collect();
    Ok(Json(json!({"object": "list", "data": data})))
}

pub(in crate::http) async fn one(
    State(service): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let ready = ready(&service).await?;
    // As Ollama's clients call it, too.
    let known = |known: &&String| **known == name || format!("{known}:latest") == name;
    let name =
        service.models.names().iter().find(known).ok_or_else(|| ApiError::no_model(&name))?;
    Ok(Json(describe(name, &ready)))
}
