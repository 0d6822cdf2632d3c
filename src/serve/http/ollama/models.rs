//! What Ollama's clients ask about models.

use crate::http::App;
use crate::http::error::{ApiError, OllamaError};
use crate::http::extract::Facts;
use crate::http::health::ready;
use crate::service::{Ready, base};
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

/// The name of a model that there is; others are refused.
pub(super) fn check<'a>(service: &'a App, name: Option<&str>) -> Result<&'a str, ApiError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "model is required"));
    };
    let known = service.models.names().iter().find(|known| base(known) == base(name));
    known.map(String::as_str).ok_or_else(|| ApiError::no_model(name))
}

/// A time as Ollama writes it.
pub(super) fn timestamp() -> String {
    time(crate::service::now())
}

fn time(seconds: u64) -> String {
    let now = i64::try_from(seconds).unwrap_or(0);
    crate::Moment::at(now).format("%Y-%m-%dT%H:%M:%SZ")
}

/// What is known of a model: of the one that is loaded, more than of the others.
fn details(name: &str, ready: &Ready) -> Value {
    let fact = |key: &str| match name == ready.name {
        true => ready.facts[key].clone(),
        false => "".into(),
    };
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": "smallthinker",
        "families": ["smallthinker"],
        "parameter_size": fact("parameter_size"),
        "quantization_level": fact("quantization"),
    })
}

fn describe(name: &str, ready: &Ready) -> Value {
    let tagged = format!("{}:latest", base(name));
    let bytes = if name == ready.name { ready.facts["bytes"].clone() } else { 0.into() };
    json!({
        "name": tagged,
        "model": tagged,
        "modified_at": time(ready.created),
        "size": bytes,
        "digest": "",
        "details": details(name, ready),
    })
}

/// `GET /api/tags`: the models that there are.
pub(in crate::http) async fn tags(State(service): State<App>) -> Result<Json<Value>, OllamaError> {
    let ready = ready(&service).await?;
    let names = service.models.names().iter();
    let models: Value = names.map(|name| describe(name, &ready)).collect();
    Ok(Json(json!({"models": models})))
}

/// `GET /api/ps`: the model that is loaded.
pub(in crate::http) async fn running(
    State(service): State<App>,
) -> Result<Json<Value>, OllamaError> {
    let ready = ready(&service).await?;
    let mut model = describe(&ready.name, &ready);
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
    body: Result<Facts<Named>, ApiError>,
) -> Result<Json<Value>, OllamaError> {
    let Facts(Named { model, .. }) = body?;
    let ready = ready(&service).await?;
    let name = check(&service, model.as_deref())?;
    let mut info = json!({"general.architecture": "smallthinker"});
    if name == ready.name {
        info["smallthinker.context_length"] = ready.context.into();
        info["smallthinker.vocab_size"] = ready.vocab.into();
    }
    Ok(Json(json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(name, &ready),
        "model_info": info,
        "capabilities": ["completion", "tools", "embedding"],
        "modified_at": time(ready.created),
    })))
}

/// `POST /api/pull` of what is there succeeds.
pub(in crate::http) async fn pull(
    State(service): State<App>,
    body: Result<Facts<Named>, ApiError>,
) -> Result<String, OllamaError> {
    let Facts(Named { model, stream }) = body?;
    check(&service, model.as_deref())?;
    let done = json!({"status": "success"});
    Ok(if stream.unwrap_or(true) { format!("{done}\n") } else { done.to_string() })
}
