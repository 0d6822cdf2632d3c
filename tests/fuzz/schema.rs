//! Schemas to forms, and forms to texts.

use crate::load::check;
use crate::tokens::NANO;
use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};
use std::sync::{Arc, LazyLock};
use wick_format::Gguf;
use wick_serve::constraint::{Calling, Form, Forms, Tool};
use wick_tests::golden_bytes;

/// Tokens that are drawn at most.
const MOST: usize = 96;

static FORMS: LazyLock<Forms> = LazyLock::new(|| {
    let gguf = Gguf::parse(golden_bytes("../models/nano/nano.gguf")).expect("a committed file");
    Forms::new(Arc::new(wick_session::tokenizer(&gguf).expect("a good vocabulary")))
});

/// A schema, and what may be drawn: a whole text is JSON of it.
pub fn schema(bytes: &[u8]) {
    let _used_up = any_schema(&mut Unstructured::new(bytes));
}

fn any_schema(bytes: &mut Unstructured<'_>) -> Result<()> {
    if bytes.ratio(1, 4)? {
        return any_json(bytes);
    }
    let schema = node(bytes, 3)?;
    match FORMS.json(&schema) {
        Ok(form) => {
            let Some(text) = draw(&form, bytes)? else { return Ok(()) };
            let found: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{schema}: {e}: {text}"));
            assert!(is_of(&schema, &found), "{schema}\n{found}");
        }
        Err(error) => check(&error),
    }
    Ok(())
}

/// Any JSON as a schema, and as that of a tool.
fn any_json(bytes: &mut Unstructured<'_>) -> Result<()> {
    let is_called: bool = bytes.arbitrary()?;
    let text = String::from_utf8_lossy(bytes.bytes(bytes.len() * 3 / 4)?);
    let Ok(schema) = serde_json::from_str::<Value>(&text) else { return Ok(()) };
    let calling = Calling { is_required: true, is_parallel: false };
    let form = match is_called {
        true => FORMS.calls(&[Tool { name: "a".into(), parameters: schema }], calling),
        false => FORMS.json(&schema),
    };
    match form {
        Ok(form) => _ = draw(&form, bytes)?,
        Err(error) => check(&error),
    }
    Ok(())
}

/// A text of a form, if it comes to an end.
fn draw(form: &Form, bytes: &mut Unstructured<'_>) -> Result<Option<String>> {
    let (mut constraint, mut text) = (form.constraint(), Vec::new());
    for _ in 0..MOST {
        if constraint.is_complete() {
            return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
        }
        let Ok(allowed) = constraint.allowed() else { return Ok(None) };
        let allowed = allowed.expect("a form from the beginning on");
        let is_allowed = |id: &u32| allowed[*id as usize / 32] >> (id % 32) & 1 == 1;
        let ids: Vec<u32> = (0..NANO.len() as u32).filter(is_allowed).collect();
        assert!(!ids.is_empty(), "nothing is allowed after {:?}", String::from_utf8_lossy(&text));
        let id = match ids.iter().find(|id| NANO.is_end(**id)) {
            Some(end) if bytes.ratio(1, 2)? => *end,
            _ => *bytes.choose(&ids)?,
        };
        if NANO.is_end(id) {
            return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
        }
        text.extend_from_slice(NANO.token_bytes(id).unwrap_or_default());
        if constraint.take(id).is_err() {
            return Ok(None);
        }
    }
    Ok(None)
}

/// A schema that nests so deep, of what [`is_of`] knows.
fn node(bytes: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let small = |bytes: &mut Unstructured<'_>| bytes.int_in_range(-3i32..=12);
    Ok(match bytes.int_in_range(0..=if depth == 0 { 5 } else { 8 })? {
        0 => json!({"type": "boolean"}),
        1 => json!({"type": "null"}),
        2 => json!({"type": "integer", "minimum": small(bytes)?, "maximum": small(bytes)?}),
        3 => json!({"type": "number", "exclusiveMinimum": small(bytes)?}),
        4 => {
            json!({"type": "string", "minLength": bytes.int_in_range(0..=3)?, "maxLength": bytes.int_in_range(0..=4)?})
        }
        5 => json!({"enum": [small(bytes)?, bytes.arbitrary::<&str>()?, null, [true]]}),
        6 => {
            json!({"type": "array", "items": node(bytes, depth - 1)?, "minItems": bytes.int_in_range(0..=2)?,
            "maxItems": bytes.int_in_range(0..=3)?})
        }
        7 => json!({"anyOf": [node(bytes, depth - 1)?, node(bytes, depth - 1)?]}),
        _ => object(bytes, depth)?,
    })
}

fn object(bytes: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for name in ["a", "b\"", "é", "a b"].iter().take(bytes.int_in_range(0..=4)?) {
        properties.insert((*name).into(), node(bytes, depth - 1)?);
        required.extend(bytes.arbitrary::<bool>()?.then_some(*name));
    }
    let more: bool = bytes.arbitrary()?;
    Ok(
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": more}),
    )
}

/// Whether a value is one of a schema that [`node`] made.
fn is_of(schema: &Value, value: &Value) -> bool {
    let bound = |name: &str| schema[name].as_f64();
    let within = |found: f64, least: &str, most: &str| {
        bound(least).is_none_or(|least| found >= least)
            && bound(most).is_none_or(|most| found <= most)
    };
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().any(|schema| is_of(schema, value));
    }
    if let Some(any) = schema["enum"].as_array() {
        return any.contains(value);
    }
    match (schema["type"].as_str(), value) {
        (Some("boolean"), Value::Bool(_)) | (Some("null"), Value::Null) => true,
        (Some("integer"), Value::Number(x)) => {
            x.as_f64().is_some_and(|x| x.fract() == 0.0 && within(x, "minimum", "maximum"))
        }
        // What is written nearer to the bound than a double can tell is read as the bound.
        (Some("number"), Value::Number(x)) => {
            x.as_f64().is_some_and(|x| bound("exclusiveMinimum").is_none_or(|least| x >= least))
        }
        (Some("string"), Value::String(text)) => {
            within(text.chars().count() as f64, "minLength", "maxLength")
        }
        (Some("array"), Value::Array(items)) => {
            within(items.len() as f64, "minItems", "maxItems")
                && items.iter().all(|item| is_of(&schema["items"], item))
        }
        (Some("object"), Value::Object(fields)) => is_object_of(schema, fields),
        _ => false,
    }
}

fn is_object_of(schema: &Value, fields: &Map<String, Value>) -> bool {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let is_right = |(name, value): (&String, &Value)| match schema["properties"].get(name) {
        Some(schema) => is_of(schema, value),
        None => schema["additionalProperties"] == true,
    };
    required.into_iter().all(|name| fields.contains_key(name)) && fields.iter().all(is_right)
}
