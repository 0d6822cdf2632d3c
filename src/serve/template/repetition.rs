//! The `loop` of a `for`.

use super::arguments::Arguments;
use super::budget::Budget;
use super::error::{Result, TemplateError};
use super::operators;
use super::value::Value;

/// A loop over items, at one of them.
pub(crate) struct Repetition {
    pub(crate) items: Vec<Value>,
    pub(crate) index: usize,
    /// What `changed` was last asked for.
    seen: Option<Vec<Value>>,
}

impl Repetition {
    pub(crate) fn new(items: Vec<Value>) -> Repetition {
        Repetition { items, index: 0, seen: None }
    }

    pub(crate) fn attribute(&self, name: &str) -> Value {
        let (index, count) = (self.index, self.items.len());
        let int = |number: usize| Value::Int(number as i64);
        let item = |index: Option<usize>| {
            let found = index.and_then(|index| self.items.get(index));
            found.cloned().unwrap_or(Value::Undefined)
        };
        match name {
            "index" => int(index + 1),
            "index0" => int(index),
            "revindex" => int(count - index),
            "revindex0" => int(count - index - 1),
            "first" => Value::Bool(index == 0),
            "last" => Value::Bool(index + 1 == count),
            "length" => int(count),
            "previtem" => item(index.checked_sub(1)),
            "nextitem" => item(Some(index + 1)),
            // Only recursive loops have another.
            "depth" => int(1),
            "depth0" => int(0),
            _ => Value::Undefined,
        }
    }

    pub(crate) fn call(
        &mut self,
        name: &str,
        arguments: Arguments,
        budget: &Budget,
    ) -> Result<Value> {
        let values = arguments.positional;
        match name {
            "cycle" if !values.is_empty() => Ok(values[self.index % values.len()].clone()),
            "changed" => {
                let mut same = self.seen.as_ref().is_some_and(|seen| seen.len() == values.len());
                for (a, b) in self.seen.iter().flatten().zip(&values) {
                    same = same && operators::equal(a, b, budget)?;
                }
                self.seen = Some(values);
                Ok(Value::Bool(!same))
            }
            _ => Err(TemplateError::failed(format_args!("loop has no method {name}"))),
        }
    }
}
