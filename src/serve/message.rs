//! What is said in a conversation.

use crate::template::{List, Map, Text, Value};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Roles that templates write their control tokens with. No text of a user is among them.
const ROLES: [&str; 8] =
    ["system", "developer", "user", "assistant", "model", "tool", "function", "ipython"];

/// One message of a conversation.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who says it: `system`, `user`, `assistant` or another name that the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// What `role` says.
    pub fn new(role: &str, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into() }
    }
}

/// Messages as templates take them. Their contents are a user's text.
pub fn messages<'m>(messages: impl IntoIterator<Item = &'m Message>) -> Value {
    let value = |message: &Message| {
        let content = Value::Text(Text::user(message.content.as_str()));
        let entries = vec![(key("role"), role(&message.role)), (key("content"), content)];
        Value::Map(Arc::new(Map::new(entries)))
    };
    Value::List(Arc::new(List::new(messages.into_iter().map(value).collect(), false)))
}

/// Messages from outside, such as those of a request, with their roles as templates may write control tokens with.
pub fn trust_roles(messages: &Value) -> Value {
    let Value::List(list) = messages else { return messages.clone() };
    Value::List(Arc::new(List::new(list.items().iter().map(trust_role).collect(), false)))
}

fn trust_role(message: &Value) -> Value {
    let Value::Map(map) = message else { return message.clone() };
    let entries = map.entries().iter().map(|(name, value)| match value {
        Value::Text(text) if **name == *"role" => (name.clone(), role(text)),
        value => (name.clone(), value.clone()),
    });
    Value::Map(Arc::new(Map::new(entries.collect())))
}

fn key(name: &str) -> Text {
    Text::trusted(name)
}

/// A role: a template may make a control token of one that is known (`<|user|>`).
fn role(role: &str) -> Value {
    match ROLES.contains(&role) {
        true => Value::Text(Text::trusted(role)),
        false => Value::Text(Text::user(role)),
    }
}
