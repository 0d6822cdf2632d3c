//! What a template is rendered with.

use super::date::Moment;
use super::text::Text;
use super::value::Value;
use std::collections::HashMap;

/// Variables of a template, and what time it is.
#[derive(Clone, Debug)]
pub struct Context {
    variables: HashMap<String, Value>,
    pub(crate) now: Moment,
}

impl Context {
    /// No variables; the time is now, in UTC.
    pub fn new() -> Context {
        Context { variables: HashMap::new(), now: Moment::now() }
    }

    /// The same at another time.
    #[must_use]
    pub fn at(mut self, now: Moment) -> Context {
        self.now = now;
        self
    }

    /// The same with a variable, whose texts are a user's unless they were made as [`Text::trusted`].
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Context {
        self.variables.insert(name.to_owned(), value);
        self
    }

    /// The same with a text that may be a control token, such as `bos_token`.
    #[must_use]
    pub fn with_trusted(self, name: &str, text: &str) -> Context {
        self.with(name, Value::Text(Text::trusted(text)))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.variables.get(name)
    }

    /// How many bytes all of it has.
    pub(crate) fn bytes(&self) -> usize {
        self.variables.values().fold(0, |sum, value| sum.saturating_add(value.bytes()))
    }
}

impl Default for Context {
    fn default() -> Context {
        Context::new()
    }
}
