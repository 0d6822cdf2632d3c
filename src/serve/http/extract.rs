//! Bodies of requests.

use super::error::ApiError;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// A body as JSON, whatever type the client says it has.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, ApiError> {
        let bytes = tokio::time::timeout(PATIENCE, Bytes::from_request(request, state));
        let bytes = bytes.await.map_err(|_| {
            let message = format_args!("the body took more than {} s", PATIENCE.as_secs());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
        })?;
        let bytes = bytes.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
        serde_json::from_slice(&bytes).map(Body).map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, format_args!("the body: {error}"))
        })
    }
}
