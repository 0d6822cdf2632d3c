//! JSON that users write.

use serde_json::Value;
use wick_serve::Message;

/// What messages look like.
pub(crate) const MESSAGES: &str = r#"a list of {"role": …, "content": …} expected"#;

/// The messages in a value, if it looks like some.
pub(crate) fn messages(value: &Value) -> Option<Vec<Message>> {
    value.as_array()?.iter().map(message).collect()
}

fn message(value: &Value) -> Option<Message> {
    let text = |key: &str| value.get(key)?.as_str();
    Some(Message::new(text("role")?, text("content")?))
}

/// What is wrong with the only line of a text, and at which column.
pub(crate) fn wrong_line(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let error = error.to_string();
    match error.strip_suffix(&place) {
        Some(what) => format!("{what}{}", place.replacen(" at line 1", " at", 1)),
        None => error,
    }
}
