//! The form that an answer must have, as requests say it.

use super::error::ApiError;
use crate::constraint::{Form, FormError, Forms, any_object};
use crate::service::Ready;
use axum::http::StatusCode;
use serde_json::Value;
use std::sync::Arc;
use wick_session::Request;

/// The schema that OpenAI's `response_format` asks for; `None` where any text will do.
pub(crate) fn response_format(format: Option<&Value>) -> Result<Option<Value>, ApiError> {
    let wrong = |message: &str| Err(ApiError::field("response_format", message));
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(None) };
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(any_object())),
        Some("json_schema") => match &format["json_schema"]["schema"] {
            Value::Null => wrong("json_schema with a schema expected"),
            schema => Ok(Some(schema.clone())),
        },
        _ => wrong("a type expected: text, json_object or json_schema"),
    }
}

/// The schema that Ollama's `format` asks for.
pub(crate) fn ollama_format(format: Option<&Value>) -> Result<Option<Value>, ApiError> {
    match format {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if name.is_empty() => Ok(None),
        Some(Value::String(name)) if name == "json" => Ok(Some(any_object())),
        Some(schema @ Value::Object(_)) => Ok(Some(schema.clone())),
        Some(_) => Err(ApiError::field("format", "\"json\" or a schema expected")),
    }
}

/// JSON of a schema, if one is asked for; `param` is the field that it stands in.
pub(crate) async fn json_form(
    ready: &Arc<Ready>,
    param: &'static str,
    schema: Option<Value>,
) -> Result<Option<Form>, ApiError> {
    match schema {
        None => Ok(None),
        Some(schema) => compile(ready, param, move |forms| forms.json(&schema)).await.map(Some),
    }
}

/// Compiles a form where that may take a while.
pub(crate) async fn compile(
    ready: &Arc<Ready>,
    param: &'static str,
    form: impl FnOnce(&Forms) -> Result<Form, FormError> + Send + 'static,
) -> Result<Form, ApiError> {
    let share = ready.room.take_form().await?;
    let ready = Arc::clone(ready);
    let compiled = tokio::task::spawn_blocking(move || form(&ready.forms)).await;
    let compiled =
        compiled.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    compiled.map(|form| form.with(share)).map_err(|error| ApiError::field(param, error))
}

/// Gives each choice the form.
pub(crate) fn constrain(requests: &mut [Request], form: Option<&Form>) {
    for request in requests {
        request.constraint = form.map(Form::constraint);
    }
}
