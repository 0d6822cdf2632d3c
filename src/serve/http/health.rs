//! How the service is, for those who look after it.

use super::App;
use super::error::ApiError;
use crate::service::{Ready, State as ServiceState};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// The model, if it is there already.
pub(super) fn ready_now(service: &App) -> Result<Arc<Ready>, ApiError> {
    not_ready(service.state())
}

/// The model, once it is there.
pub(super) async fn ready(service: &App) -> Result<Arc<Ready>, ApiError> {
    not_ready(service.loaded().await)
}

fn not_ready(state: ServiceState) -> Result<Arc<Ready>, ApiError> {
    let unavailable = |message: String| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message);
    match state {
        ServiceState::Ready(ready) => Ok(ready),
        ServiceState::Loading => Err(loading()),
        ServiceState::Failed(reason) => Err(unavailable(reason)),
    }
}

/// The model is not there yet.
pub(super) fn loading() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the model is being loaded").retry_after(5)
}

/// `GET /health`: 200 where the model answers, 503 where it does not yet or not any more.
pub(super) async fn health(State(service): State<App>) -> Response {
    let (status, body) = match service.state() {
        ServiceState::Ready(_) if service.queue.is_closed() => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "ending"}))
        }
        ServiceState::Ready(_) => (StatusCode::OK, json!({"status": "ok"})),
        ServiceState::Loading => (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "loading"})),
        ServiceState::Failed(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "failed", "reason": reason}))
        }
    };
    (status, Json(body)).into_response()
}

/// `GET /metrics`, as Prometheus reads it.
pub(super) async fn metrics(State(service): State<App>) -> Response {
    service.metrics.queue(service.queue.lengths());
    service.metrics.requests(service.room.taken());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], service.metrics.to_text()).into_response()
}

/// `GET /v1/wick`: model, kernels and plan.
pub(super) async fn facts(State(service): State<App>) -> Result<Json<Value>, ApiError> {
    Ok(Json(ready_now(&service)?.facts.clone()))
}
