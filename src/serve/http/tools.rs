//! The tools of a request, and whether they are to be called.

use super::error::ApiError;
use super::format::{compile, constrain};
use crate::constraint::{CALL, Calling, Form, Tool};
use crate::service::Ready;
use serde_json::{Value, json};
use std::sync::Arc;
use wick_session::Request;
use wick_text::Control;

/// Tools of a request at most, and characters of a name.
const MOST_TOOLS: usize = 128;
const LONGEST_NAME: usize = 64;

/// Tools that an answer may or must call.
#[derive(Debug)]
pub(crate) struct Tools {
    /// As templates know them.
    pub(crate) described: Value,
    form: Form,
}

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`; `None` where nothing is to be called.
pub(crate) async fn tools(
    ready: &Arc<Ready>,
    tools: Option<Vec<Value>>,
    choice: Option<&Value>,
    is_parallel: Option<bool>,
) -> Result<Option<Tools>, ApiError> {
    let tools = tools.unwrap_or_default();
    if tools.len() > MOST_TOOLS {
        let found = tools.len();
        let message = format_args!("at most {MOST_TOOLS} expected, {found} found");
        return Err(ApiError::field("tools", message));
    }
    let read = tools.iter().enumerate().map(|(i, tool)| tool_of(i, tool));
    let mut callable = read.collect::<Result<Vec<Tool>, ApiError>>()?;
    let is_required = match choose(choice, &callable)? {
        Choice::None => return Ok(None),
        Choice::Auto if callable.is_empty() => return Ok(None),
        Choice::Auto => false,
        Choice::Required => true,
        Choice::Named(name) => {
            callable.retain(|tool| tool.name == name);
            true
        }
    };
    let is_named = choice.is_some_and(Value::is_object);
    let is_parallel = is_parallel.unwrap_or(true) && !is_named;
    let calling = Calling { is_required, is_parallel };
    let form = compile(ready, "tools", move |forms| forms.calls(&callable, calling)).await?;
    Ok(Some(Tools { described: tools.into(), form }))
}

impl Tools {
    /// Has the answers to requests call them.
    pub(crate) fn constrain(&self, ready: &Ready, requests: &mut [Request]) {
        constrain(requests, Some(&self.form));
        let tokenizer = &ready.tokenizer;
        let is_hidden = tokenizer.id_of(CALL).is_some_and(|id| tokenizer.is_control(id));
        for request in requests.iter_mut().filter(|_| is_hidden) {
            request.control = Control::Show;
        }
    }
}

/// What `tool_choice` says.
enum Choice {
    None,
    Auto,
    Required,
    Named(String),
}

fn choose(choice: Option<&Value>, tools: &[Tool]) -> Result<Choice, ApiError> {
    let wrong = |message: String| Err(ApiError::field("tool_choice", message));
    let name = choice.and_then(|choice| choice["function"]["name"].as_str());
    match (choice.and_then(Value::as_str), name) {
        (Some("none"), _) => Ok(Choice::None),
        (Some("auto"), _) => Ok(Choice::Auto),
        (Some("required"), _) if tools.is_empty() => wrong("there are no tools".into()),
        (Some("required"), _) => Ok(Choice::Required),
        (None, Some(name)) if tools.iter().any(|tool| tool.name == name) => {
            Ok(Choice::Named(name.into()))
        }
        (None, Some(name)) => wrong(format!("no tool is called {name:?}")),
        (None, None) if choice.is_none_or(Value::is_null) => Ok(Choice::Auto),
        _ => wrong("none, auto, required or the name of a function expected".into()),
    }
}

fn tool_of(i: usize, tool: &Value) -> Result<Tool, ApiError> {
    let wrong = |message: &str| Err(ApiError::field(&format!("tools[{i}]"), message));
    let function = &tool["function"];
    if tool["type"] != "function" || !function.is_object() {
        return wrong("a type expected that is function, and a function");
    }
    let name = function["name"].as_str().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
        return wrong("a name of 1 to 64 letters, digits and _ - . expected");
    }
    let parameters = match &function["parameters"] {
        Value::Null => json!({"type": "object", "properties": {}, "additionalProperties": false}),
        parameters @ Value::Object(_) => parameters.clone(),
        _ => return wrong("parameters that are a schema expected"),
    };
    Ok(Tool { name: name.into(), parameters })
}
