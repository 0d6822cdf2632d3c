//! `GET /v1/models`.

use crate::http::App;
use crate::http::error::ApiError;
use crate::http::health::ready;
use crate::service::Ready;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

fn describe(ready: &Ready) -> Value {
    json!({
        "id": ready.name,
        "object": "model",
        "created": ready.created,
        "owned_by": "wick",
        "context_length": ready.context,
    })
}

pub(in crate::http) async fn list(State(service): State<App>) -> Result<Json<Value>, ApiError> {
    let ready = ready(&service).await?;
    Ok(Json(json!({"object": "list", "data": [describe(&ready)]})))
}

pub(in crate::http) async fn one(
    State(service): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let ready = ready(&service).await?;
    if name != ready.name {
        let message = format_args!("there is no model {name:?}, only {:?}", ready.name);
        return Err(ApiError::new(StatusCode::NOT_FOUND, message).code("model_not_found"));
    }
    Ok(Json(describe(&ready)))
}
