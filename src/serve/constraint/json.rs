//! JSON, and JSON of a schema.

use super::error::FormError;
use super::form::{Form, Forms};
use llguidance::JsonCompileOptions;
use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

/// Bytes of a schema at most.
pub const LARGEST_SCHEMA: usize = 64 << 10;

/// Characters of a text that a schema may count.
const LONGEST_TEXT: usize = 512;

/// White space between the parts of JSON: as people write it, and never without end.
const SPACE: &str = r" |\n {0,24}";

/// The schema of any object.
pub fn any_object() -> Value {
    json!({"type": "object"})
}

impl Forms {
    /// JSON that a schema allows.
    ///
    /// # Errors
    /// The schema has something that is not supported, or takes too much.
    pub fn json(&self, schema: &Value) -> Result<Form, FormError> {
        self.compile(TopLevelGrammar::from_json_schema(prepared(schema, true)?))
    }
}

/// A schema with how it is written; without `spaced`, in one way only, which is that of Python.
pub(super) fn prepared(schema: &Value, spaced: bool) -> Result<Value, FormError> {
    if !schema.is_object() {
        return Err(FormError::new("a schema, which is an object, expected"));
    }
    let found = schema.to_string().len();
    if found > LARGEST_SCHEMA {
        return Err(FormError::new(format_args!(
            "at most {LARGEST_SCHEMA} bytes of schema expected, {found} found"
        )));
    }
    check_all(schema)?;
    let options = JsonCompileOptions {
        whitespace_flexible: spaced,
        whitespace_pattern: spaced.then(|| SPACE.into()),
        item_separator: if spaced { "," } else { ", " }.into(),
        key_separator: if spaced { ":" } else { ": " }.into(),
        ..JsonCompileOptions::default()
    };
    let mut schema = schema.clone();
    // Takes the place of options that a client may have put there.
    options.apply_to(&mut schema);
    Ok(schema)
}

/// Refuses what is not supported in any part of a schema.
fn check_all(schema: &Value) -> Result<(), FormError> {
    let children: Vec<&Value> = match schema {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => return Ok(()),
    };
    check_range(schema)?;
    check_lengths(schema)?;
    children.into_iter().try_for_each(check_all)
}

/// Refuses lengths of texts that an answer might not be followed to: each character is a state.
fn check_lengths(schema: &Value) -> Result<(), FormError> {
    for name in ["minLength", "maxLength"] {
        let length = schema.get(name).and_then(Value::as_f64);
        if let Some(length) = length.filter(|length| *length > LONGEST_TEXT as f64) {
            return Err(FormError::new(format_args!(
                "{name}: at most {LONGEST_TEXT} characters can be counted, {length} found"
            )));
        }
    }
    Ok(())
}

/// Refuses a range of numbers that begins or ends beside an integer and is within one unit of it: llguidance takes that
/// integer in.
fn check_range(schema: &Value) -> Result<(), FormError> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let is_near = |open: &str, others: [&str; 2]| {
        let Some(open) = bound(open).filter(|open| open.fract() == 0.0) else { return false };
        others.iter().filter_map(|other| bound(other)).any(|other| (other - open).abs() < 1.0)
    };
    if is_near("exclusiveMinimum", ["maximum", "exclusiveMaximum"])
        || is_near("exclusiveMaximum", ["minimum", "exclusiveMinimum"])
    {
        return Err(FormError::new(
            "an exclusive bound that is an integer, with another less than 1 from it, is not supported",
        ));
    }
    Ok(())
}
