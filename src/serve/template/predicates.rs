//! Predicates, which Jinja calls tests: `value is name(arguments)`.

use super::budget::Budget;
use super::error::{Result, TemplateError};
use super::operators;
use super::syntax::Comparison;
use super::value::{Object, Value};

/// Tests that compare with an argument, by all their names.
fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "eq" | "equalto" | "==" => Comparison::Equal,
        "ne" | "!=" => Comparison::NotEqual,
        "lt" | "lessthan" | "<" => Comparison::Less,
        "le" | "<=" => Comparison::LessOrEqual,
        "gt" | "greaterthan" | ">" => Comparison::Greater,
        "ge" | ">=" => Comparison::GreaterOrEqual,
        "in" => Comparison::In,
        _ => return None,
    })
}

/// Whether there is a test of this name.
pub(crate) fn is_predicate(name: &str) -> bool {
    const OTHERS: [&str; 21] = [
        "defined",
        "undefined",
        "none",
        "boolean",
        "true",
        "false",
        "integer",
        "float",
        "number",
        "string",
        "mapping",
        "sequence",
        "iterable",
        "callable",
        "odd",
        "even",
        "lower",
        "upper",
        "escaped",
        "sameas",
        "divisibleby",
    ];
    comparison(name).is_some() || OTHERS.contains(&name)
}

/// Whether a test holds.
pub(crate) fn holds(
    name: &str,
    value: &Value,
    arguments: &[Value],
    budget: &Budget,
) -> Result<bool> {
    if let Some(operator) = comparison(name) {
        return operators::compare(operator, value, one(name, arguments)?, budget);
    }
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined),
        "undefined" => matches!(value, Value::Undefined),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_float().is_some(),
        "string" => matches!(value, Value::Text(_)),
        "mapping" => matches!(value, Value::Map(_)),
        "sequence" => {
            matches!(value, Value::Undefined | Value::Text(_) | Value::List(_) | Value::Map(_))
        }
        "iterable" => !matches!(
            value,
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Object(_)
        ),
        "callable" => {
            matches!(
                value,
                Value::Undefined | Value::Object(Object::Macro(_) | Object::Function(_))
            )
        }
        "odd" | "even" => parity(name, value)?,
        "divisibleby" => divisible(value, one(name, arguments)?)?,
        "lower" | "upper" => has_case(name, value, budget)?,
        "escaped" => false,
        "sameas" => is_same(value, one(name, arguments)?, budget)?,
        _ => {
            let name: String = name.chars().take(60).collect();
            return Err(TemplateError::failed(format_args!("no test is called {name}")));
        }
    })
}

fn one<'a>(name: &str, arguments: &'a [Value]) -> Result<&'a Value> {
    let missing = || TemplateError::failed(format_args!("{name} compares with an argument"));
    arguments.first().ok_or_else(missing)
}

fn parity(name: &str, value: &Value) -> Result<bool> {
    match value.as_float() {
        Some(number) => Ok(number.rem_euclid(2.0) == if name == "even" { 0.0 } else { 1.0 }),
        None => {
            Err(TemplateError::failed(format_args!("{} is neither odd nor even", value.kind())))
        }
    }
}

fn divisible(value: &Value, by: &Value) -> Result<bool> {
    match (value.as_int(), by.as_int()) {
        (Some(number), Some(by)) if by != 0 => Ok(number.checked_rem(by).unwrap_or(0) == 0),
        _ => Err(TemplateError::failed("divisibleby compares an integer with one that is not 0")),
    }
}

/// Whether a text has letters, and all of them are small or capitals.
fn has_case(name: &str, value: &Value, budget: &Budget) -> Result<bool> {
    let Value::Text(text) = value else { return Ok(false) };
    budget.read(text.len())?;
    let is_wrong = if name == "lower" { char::is_uppercase } else { char::is_lowercase };
    let has_letters = text.chars().any(|c| c.is_uppercase() || c.is_lowercase());
    Ok(has_letters && !text.chars().any(is_wrong))
}

fn is_same(value: &Value, other: &Value, budget: &Budget) -> Result<bool> {
    Ok(value.kind() == other.kind() && operators::equal(value, other, budget)?)
}
