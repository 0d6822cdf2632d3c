//! Tools in conversations whose template knows of none, in the form of the Hermes family.

use crate::constraint::{ARGUMENTS, CALL, CALL_END, NAME};
use serde_json::{Value, json};

/// Puts tools into the system message, and calls and their results into contents.
pub(super) fn describe(messages: &mut Vec<Value>, tools: &Value) {
    messages.iter_mut().for_each(as_text);
    let tools: Vec<String> = tools.as_array().into_iter().flatten().map(Value::to_string).collect();
    let block = format!(
        "You can call functions to answer. Each line between <tools> and </tools> describes one in JSON:\n\
         <tools>\n{}\n</tools>\n\
         To call a function, write its name and its arguments as JSON in this form:\n\
         {CALL}\n{NAME}<name>{ARGUMENTS}<arguments>}}\n{CALL_END}",
        tools.join("\n")
    );
    match messages.first_mut().filter(|message| message["role"] == "system") {
        Some(system) => {
            let said = system["content"].as_str().unwrap_or_default();
            system["content"] = format!("{said}\n\n{block}").trim_start().into();
        }
        None => messages.insert(0, json!({"role": "system", "content": block})),
    }
}

/// A message with its calls, or the result of one, as text.
fn as_text(message: &mut Value) {
    let content = message["content"].as_str().unwrap_or_default().to_owned();
    if message["role"] == "tool" {
        let content = format!("<tool_response>\n{content}\n</tool_response>");
        *message = json!({"role": "user", "content": content});
    }
    let calls: Vec<String> =
        message["tool_calls"].as_array().into_iter().flatten().map(call).collect();
    if !calls.is_empty() {
        let text = [content].into_iter().filter(|text| !text.is_empty()).chain(calls);
        message["content"] = text.collect::<Vec<_>>().join("\n").into();
    }
}

fn call(call: &Value) -> String {
    let Value::String(name) = &call["function"]["name"] else { return String::new() };
    let arguments = &call["function"]["arguments"];
    format!("{CALL}\n{NAME}{name}{ARGUMENTS}{arguments}}}\n{CALL_END}")
}
