//! What goes wrong, in OpenAI's form and in Ollama's.

use crate::room::Crowded;
use crate::service::NoLease;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::any::Any;
use std::fmt;

/// An error of a request.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// OpenAI's name for this kind, where it has one.
    pub(crate) code: Option<&'static str>,
    /// The field that is wrong.
    pub(crate) param: Option<String>,
    /// Seconds after which it may go better.
    retry: Option<u32>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl fmt::Display) -> ApiError {
        ApiError { status, message: message.to_string(), code: None, param: None, retry: None }
    }

    /// A field has a value that it may not have.
    pub(crate) fn field(param: &str, message: impl fmt::Display) -> ApiError {
        let error = ApiError::new(StatusCode::BAD_REQUEST, format_args!("{param}: {message}"));
        ApiError { param: Some(param.into()), code: Some("invalid_value"), ..error }
    }

    /// Something that wick does not do.
    pub(crate) fn unsupported(param: &str, message: impl fmt::Display) -> ApiError {
        ApiError { code: Some("unsupported_parameter"), ..ApiError::field(param, message) }
    }

    /// The same of a field that goes by another name where it was asked for: pairs of this service's name and that one.
    pub(crate) fn renamed(self, names: &[(&str, &str)]) -> ApiError {
        let name = |param: &str| names.iter().find(|(own, _)| *own == param);
        let Some((own, other)) = self.param.as_deref().and_then(name) else { return self };
        let rest = self.message.strip_prefix(own).unwrap_or(&self.message);
        ApiError { message: format!("{other}{rest}"), param: Some((*other).into()), ..self }
    }

    /// It may go better in a while.
    pub(crate) fn busy(message: impl fmt::Display) -> ApiError {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, message);
        error.code("rate_limit_exceeded").retry_after(5)
    }

    /// There is no model of this name.
    pub(crate) fn no_model(name: &str) -> ApiError {
        let message = format_args!(
            "model {name:?} not found; /v1/models and /api/tags name those that there are"
        );
        ApiError::new(StatusCode::NOT_FOUND, message).code("model_not_found")
    }

    pub(crate) fn code(self, code: &'static str) -> ApiError {
        ApiError { code: Some(code), ..self }
    }

    pub(crate) fn retry_after(self, seconds: u32) -> ApiError {
        ApiError { retry: Some(seconds), ..self }
    }

    /// OpenAI's name for the class of errors.
    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The body in OpenAI's form.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let ApiError { message, code, param, .. } = self;
        json!({"error": {"message": message, "type": self.kind(), "param": param, "code": code}})
    }

    /// The answer at an address, in the form that is spoken there.
    pub(crate) fn at(self, uri: &Uri) -> Response {
        match uri.path().starts_with("/api/") {
            true => OllamaError(self).into_response(),
            false => self.into_response(),
        }
    }

    fn respond(&self, body: serde_json::Value) -> Response {
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<Crowded> for ApiError {
    fn from(crowded: Crowded) -> ApiError {
        match crowded {
            Crowded::Never(bytes) => {
                let message = format_args!(
                    "the request takes more than the {} MiB that all have together; --memory says how much they have",
                    bytes >> 20
                );
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            Crowded::Now => {
                ApiError::busy("other requests have all the memory that there is; try again later")
            }
        }
    }
}

impl From<NoLease> for ApiError {
    fn from(error: NoLease) -> ApiError {
        match error {
            NoLease::Unknown(name) => ApiError::no_model(&name),
            NoLease::Failed(reason) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.respond(self.to_json())
    }
}

/// The same in Ollama's form.
#[derive(Debug)]
pub(crate) struct OllamaError(pub(crate) ApiError);

impl From<ApiError> for OllamaError {
    fn from(error: ApiError) -> OllamaError {
        OllamaError(error)
    }
}

impl IntoResponse for OllamaError {
    fn into_response(self) -> Response {
        let body = json!({"error": self.0.message});
        self.0.respond(body)
    }
}

/// What is told where a handler panics, which is a bug of wick's; the service goes on.
pub(super) fn panicked(_reason: Box<dyn Any + Send>) -> Response {
    let message = "this request meets a bug of wick's; its log has more";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
}

pub(super) async fn no_such_path(uri: Uri) -> Response {
    let message = format_args!("there is nothing at {}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, message).at(&uri)
}

pub(super) async fn no_such_method(uri: Uri) -> Response {
    let message = format_args!("{} is there, but not for this method", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).at(&uri)
}
