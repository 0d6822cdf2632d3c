//! What Ollama's clients ask about models.

use crate::http::App;
use crate::http::error::{ApiError, OllamaError};
use crate::http::extract::Body;
use crate::http::health::ready;
use crate::service::Ready;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// What `GET /` answers, by which Ollama's clients know that it is there.
pub(in crate::http) const GREETING: &str = "Ollama is running";

/// `GET /api/version`: of the API that is spoken, as far as clients compare it.
pub(in crate::http) async fn version() -> Json<Value> {
    Json(json!({"version": "0.9.0", "wick": env!("CARGO_PKG_VERSION")}))
}

/// A model's name without the tag that Ollama's clients add.
fn base(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

/// Refuses another model than the one that there is.
pub(super) fn check(ready: &Ready, name: Option<&str>) -> Result<(), ApiError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "model is required"));
    };
    if base(name) == base(&ready.name) {
        return Ok(());
    }
    let message = format_args!("model {name:?} not found; this service has {:?}", ready.name);
    Err(ApiError::new(StatusCode::NOT_FOUND, message))
}

/// A time as Ollama writes it.
pub(super) fn timestamp() -> String {
    time(crate::service::now())
}

fn time(seconds: u64) -> String {
    let now = i64::try_from(seconds).unwrap_or(0);
    crate::Moment::at(now).format("%Y-%m-%dT%H:%M:%SZ")
}

fn details(ready: &Ready) -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": "smallthinker",
        "families": ["smallthinker"],
        "parameter_size": ready.facts["parameter_size"],
        "quantization_level": ready.facts["quantization"],
    })
}

fn describe(ready: &Ready) -> Value {
    let name = format!("{}:latest", base(&ready.name));
    json!({
        "name": name,
        "model": name,
        "modified_at": time(ready.created),
        "size": ready.facts["bytes"],
        "digest": "",
        "details": details(ready),
    })
}

/// `GET /api/tags`: the models that there are.
pub(in crate::http) async fn tags(State(service): State<App>) -> Result<Json<Value>, OllamaError> {
    let ready = ready(&service).await?;
    Ok(Json(json!({"models": [describe(&ready)]})))
}

/// `GET /api/ps`: the models that are loaded, which is the same.
pub(in crate::http) async fn running(
    State(service): State<App>,
) -> Result<Json<Value>, OllamaError> {
    let ready = ready(&service).await?;
    let mut model = describe(&ready);
    // Never.
    model["expires_at"] = "9999-12-31T23:59:59Z".into();
    model["size_vram"] = 0.into();
    model["context_length"] = ready.context.into();
    Ok(Json(json!({"models": [model]})))
}

#[derive(Deserialize)]
pub(in crate::http) struct Named {
    #[serde(alias = "name")]
    model: Option<String>,
    stream: Option<bool>,
}

/// `POST /api/show`.
pub(in crate::http) async fn show(
    State(service): State<App>,
    body: Result<Body<Named>, ApiError>,
) -> Result<Json<Value>, OllamaError> {
    let Body(Named { model, .. }) = body?;
    let ready = ready(&service).await?;
    check(&ready, model.as_deref())?;
    Ok(Json(json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(&ready),
        "model_info": {
            "general.architecture": "smallthinker",
            "smallthinker.context_length": ready.context,
            "smallthinker.vocab_size": ready.vocab,
        },
        "capabilities": ["completion", "tools"],
        "modified_at": time(ready.created),
    })))
}

/// `POST /api/pull` of what is there succeeds.
pub(in crate::http) async fn pull(
    State(service): State<App>,
    body: Result<Body<Named>, ApiError>,
) -> Result<String, OllamaError> {
    let Body(Named { model, stream }) = body?;
    let ready = ready(&service).await?;
    check(&ready, model.as_deref())?;
    let done = json!({"status": "success"});
    Ok(if stream.unwrap_or(true) { format!("{done}\n") } else { done.to_string() })
}
