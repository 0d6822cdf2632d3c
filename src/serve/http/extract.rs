//! Bodies of requests, and the memory that they take.

use super::error::ApiError;
use super::{App, LARGEST_BODY};
use crate::room::{Room, Share};
use crate::service::Lease;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_stream::StreamExt;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is made of a byte of a body: its text in messages, for the template, in the prompt, and as ids.
const PER_BYTE: usize = 8;
/// What is made beside its text of a list or an object in it, which has room for four of a kind at once; of each value behind a
/// comma; and of the name of a field.
const PER_LIST: usize = 640;
const PER_VALUE: usize = 240;
const PER_NAME: usize = 256;

/// A body as JSON, whatever type the client says it has. The model that it asks for stays loaded until the answer has gone
/// out.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, service: &App) -> Result<Body<T>, ApiError> {
        let held = request.extensions_mut().remove::<Held>();
        let (body, bytes, share) = take(request, service).await?;
        // Where there is one model, any name is taken for it.
        let name: Named = match service.models.names().len() {
            1 => Named::default(),
            _ => serde_json::from_slice(&bytes).map_err(|e| ApiError::field("model", e))?,
        };
        let lease = service.models.lease(name.model.as_deref());
        let lease = tokio::time::timeout(service.load_timeout, lease).await;
        let lease = lease.map_err(|_| super::health::loading())??;
        if let Some(Held(held)) = held {
            let _only_one = held.set((share, lease));
        }
        Ok(Body(body))
    }
}

/// The same for what asks nothing of the model.
pub(crate) struct Facts<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Facts<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, service: &App) -> Result<Facts<T>, ApiError> {
        take(request, service).await.map(|(body, ..)| Facts(body))
    }
}

/// Which model a body asks for.
#[derive(Default, Deserialize)]
struct Named {
    model: Option<String>,
}

/// A body, as JSON and as it came.
async fn take<T: DeserializeOwned>(
    request: Request,
    service: &App,
) -> Result<(T, Vec<u8>, Share), ApiError> {
    let read = tokio::time::timeout(PATIENCE, read(request, &service.room));
    let (bytes, mut share) = read.await.map_err(|_| {
        let message = format_args!("the body took more than {} s", PATIENCE.as_secs());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
    })??;
    share.grow_to(room_for(&bytes))?;
    let body = serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, format_args!("the body: {error}"))
    })?;
    Ok((body, bytes, share))
}

/// Reads a body as it comes.
async fn read(request: Request, room: &Room) -> Result<(Vec<u8>, Share), ApiError> {
    let too_large = || {
        let message = format_args!("a body of at most {} MiB expected", LARGEST_BODY >> 20);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    // What says that it is too large is not read at all.
    if request.body().size_hint().lower() > LARGEST_BODY as u64 {
        return Err(too_large());
    }
    let (mut parts, mut bytes) = (request.into_body().into_data_stream(), Vec::new());
    let mut share = room.take(0)?;
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error))?;
        let len = bytes.len() + part.len();
        if len > LARGEST_BODY {
            return Err(too_large());
        }
        // A list that grows has up to twice the bytes.
        share.grow_to(2 * len)?;
        bytes.extend_from_slice(&part);
    }
    Ok((bytes, share))
}

/// Bytes of all that is made of a JSON text, at most.
pub(super) fn room_for(json: &[u8]) -> usize {
    let (mut bytes, mut in_string, mut is_escaped) = (PER_BYTE * json.len(), false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => bytes += PER_LIST,
            b',' if !in_string => bytes += PER_VALUE,
            b':' if !in_string => bytes += PER_NAME,
            _ => {}
        }
    }
    bytes
}

/// The memory of a request and its lease on the model, from when its body is there until its answer has gone out.
#[derive(Clone, Debug, Default)]
struct Held(Arc<OnceLock<(Share, Lease)>>);

/// Keeps what a request has taken until the answer has gone out.
pub(super) async fn hold(mut request: Request, next: Next) -> Response {
    let held = Held::default();
    request.extensions_mut().insert(held.clone());
    let response = next.run(request).await;
    response.map(|body| axum::body::Body::new(Holding { body, _held: held }))
}

/// The body of an answer, with what its request has taken.
struct Holding {
    body: axum::body::Body,
    _held: Held,
}

impl HttpBody for Holding {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::{PER_BYTE, PER_LIST, PER_NAME, PER_VALUE, room_for};

    #[test]
    fn values_are_counted_outside_of_texts() {
        for (json, [lists, values, names]) in [
            ("7", [0, 0, 0]),
            ("[]", [1, 0, 0]),
            ("[1, 2, 3]", [1, 2, 0]),
            (r#"{"a": ["b", {}], "c,[:": "\\\"[{,:"}"#, [3, 2, 2]),
            (r#"["\\", 1]"#, [1, 1, 0]),
        ] {
            let expected = PER_BYTE * json.len() + PER_LIST * lists + PER_VALUE * values;
            assert_eq!(room_for(json.as_bytes()), expected + PER_NAME * names, "{json}");
        }
    }
}
