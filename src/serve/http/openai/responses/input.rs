//! What a response is asked for, as chat completions are.

use crate::http::error::ApiError;
use crate::http::prompt::text;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the model is told.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or a list of items expected")]
pub(super) enum Input {
    Text(String),
    Items(Vec<Value>),
}

impl Input {
    /// The messages of a conversation.
    pub(super) fn messages(self, instructions: Option<String>) -> Result<Vec<Value>, ApiError> {
        let system = instructions.map(|text| json!({"role": "system", "content": text}));
        let mut messages: Vec<Value> = system.into_iter().collect();
        match self {
            Input::Text(text) => messages.push(json!({"role": "user", "content": text})),
            Input::Items(items) => {
                for (i, item) in items.into_iter().enumerate() {
                    add(&mut messages, i, item)?;
                }
            }
        }
        Ok(messages)
    }
}

/// Adds what an item says.
fn add(messages: &mut Vec<Value>, i: usize, mut item: Value) -> Result<(), ApiError> {
    let place = || format!("input[{i}]");
    match item["type"].as_str() {
        None | Some("message") if item["role"].is_string() => {
            let content = text(&format!("{}.content", place()), item["content"].take())?;
            messages.push(json!({"role": item["role"], "content": content}));
        }
        Some("function_call") => {
            let call = json!({
                "id": item["call_id"],
                "type": "function",
                "function": {"name": item["name"], "arguments": item["arguments"]},
            });
            match messages.last_mut().filter(|last| last["role"] == "assistant") {
                Some(last) => match last["tool_calls"].as_array_mut() {
                    Some(calls) => calls.push(call),
                    None => last["tool_calls"] = json!([call]),
                },
                None => messages
                    .push(json!({"role": "assistant", "content": null, "tool_calls": [call]})),
            }
        }
        Some("function_call_output") => {
            let output = text(&format!("{}.output", place()), item["output"].take())?;
            messages
                .push(json!({"role": "tool", "tool_call_id": item["call_id"], "content": output}));
        }
        // What a model has thought is not told again.
        Some("reasoning") => {}
        Some(kind) => {
            let message = format_args!("{kind:?} is not served");
            return Err(ApiError::unsupported(&place(), message));
        }
        None => return Err(ApiError::field(&place(), "a message with a role expected")),
    }
    Ok(())
}

/// Functions as chat completions know them.
pub(super) fn tools(tools: Vec<Value>) -> Result<Vec<Value>, ApiError> {
    let function = |(i, mut tool): (usize, Value)| {
        if tool["type"] != "function" {
            let message = format_args!("functions alone are served, {} found", tool["type"]);
            return Err(ApiError::unsupported(&format!("tools[{i}]"), message));
        }
        if let Some(fields) = tool.as_object_mut() {
            fields.remove("type");
        }
        Ok(json!({"type": "function", "function": tool}))
    };
    tools.into_iter().enumerate().map(function).collect()
}

/// Which function is to be called, as chat completions know it.
pub(super) fn tool_choice(choice: Value) -> Result<Value, ApiError> {
    match (choice.is_object(), choice["type"].as_str()) {
        (true, Some("function")) => {
            Ok(json!({"type": "function", "function": {"name": choice["name"]}}))
        }
        (true, kind) => {
            let kind = kind.unwrap_or_default();
            let message = format_args!("functions alone are served, {kind:?} found");
            Err(ApiError::unsupported("tool_choice", message))
        }
        (false, _) => Ok(choice),
    }
}

/// The form that a text is to have, as chat completions know it.
pub(super) fn format(text: Value) -> Result<Value, ApiError> {
    let mut text = match text {
        Value::Object(fields) => fields,
        Value::Null => return Ok(Value::Null),
        _ => return Err(ApiError::field("text", "an object expected")),
    };
    let format = text.remove("format").unwrap_or_default();
    Ok(match format["type"].as_str() {
        Some("json_schema") => json!({"type": "json_schema", "json_schema": format}),
        _ => format,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(input: Value) -> Result<Vec<Value>, ApiError> {
        serde_json::from_value::<Input>(input).unwrap().messages(Some("be kind".into()))
    }

    #[test]
    fn items_become_messages() {
        let system = json!({"role": "system", "content": "be kind"});
        let user = json!({"role": "user", "content": "hi"});
        assert_eq!(messages(json!("hi")).unwrap(), [system.clone(), user.clone()]);
        let item = |name: &str| json!({"type": "function_call", "call_id": name, "name": name, "arguments": "{}"});
        let call = |name: &str| json!({"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}});
        let output = json!({"type": "function_call_output", "call_id": "a", "output": "1"});
        let said = json!({"type": "message", "role": "assistant", "content": "on it", "id": "x", "status": "completed"});
        let items =
            json!([user, {"type": "reasoning"}, item("a"), item("b"), output, said, item("c")]);
        let calls = json!([call("a"), call("b")]);
        assert_eq!(
            messages(items).unwrap()[1..],
            [
                user,
                json!({"role": "assistant", "content": null, "tool_calls": calls}),
                json!({"role": "tool", "tool_call_id": "a", "content": "1"}),
                json!({"role": "assistant", "content": "on it", "tool_calls": [call("c")]}),
            ]
        );
        for (item, param) in
            [(json!({"type": "item_reference"}), "input[0]"), (json!(3), "input[0]")]
        {
            assert_eq!(messages(json!([item])).unwrap_err().param.as_deref(), Some(param));
        }
    }

    #[test]
    fn tools_and_forms_are_those_of_chat_completions() {
        let tool = json!({"type": "function", "name": "a", "parameters": {}});
        let function = json!({"type": "function", "function": {"name": "a", "parameters": {}}});
        assert_eq!(tools(vec![tool.clone()]).unwrap(), [function]);
        assert!(tools(vec![tool, json!({"type": "web_search"})]).is_err());
        let named = json!({"type": "function", "function": {"name": "a"}});
        assert_eq!(tool_choice(json!({"type": "function", "name": "a"})).unwrap(), named);
        assert_eq!(tool_choice(json!("auto")).unwrap(), "auto");
        assert!(tool_choice(json!({"type": "file_search"})).is_err());
        let schema = json!({"type": "json_schema", "name": "x", "schema": {}});
        let wanted = json!({"type": "json_schema", "json_schema": schema});
        assert_eq!(format(json!({"format": schema})).unwrap(), wanted);
        assert_eq!(format(json!({"verbosity": "low"})).unwrap(), Value::Null);
        for wrong in [json!("x"), json!(5), json!([]), json!(true)] {
            assert!(format(wrong).is_err());
        }
    }
}
