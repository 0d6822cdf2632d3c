//! Filters that make a number.

use crate::template::arguments::Arguments;
use crate::template::budget::Budget;
use crate::template::error::{Result, TemplateError};
use crate::template::value::Value;

type Filter = fn(Value, Arguments, &Budget) -> Result<Value>;

/// The filter of this name.
pub(super) fn find(name: &str) -> Option<Filter> {
    Some(match name {
        "int" => int,
        "float" => float,
        "abs" => abs,
        "round" => round,
        _ => return None,
    })
}

fn int(value: Value, arguments: Arguments, _: &Budget) -> Result<Value> {
    let bound = arguments.bind("int", ["default", "base"])?;
    let base = bound.int(1)?.and_then(|base| u32::try_from(base).ok()).unwrap_or(10);
    let parsed = match &value {
        Value::Text(text) if (2..=36).contains(&base) => {
            let text = text.trim();
            let whole = i64::from_str_radix(&text.replace('_', ""), base).ok();
            whole.or_else(|| text.parse().ok().and_then(whole_of))
        }
        Value::Float(number) => whole_of(*number),
        other => other.as_int(),
    };
    Ok(parsed.map(Value::Int).or(bound.get(0).cloned()).unwrap_or(Value::Int(0)))
}

/// The integer part, if it is one of 64 bits.
fn whole_of(number: f64) -> Option<i64> {
    (number.abs() < i64::MAX as f64).then_some(number as i64)
}

fn float(value: Value, arguments: Arguments, _: &Budget) -> Result<Value> {
    let bound = arguments.bind("float", ["default"])?;
    let parsed = match &value {
        Value::Text(text) => text.trim().parse().ok(),
        other => other.as_float(),
    };
    Ok(parsed.map(Value::Float).or(bound.get(0).cloned()).unwrap_or(Value::Float(0.0)))
}

fn abs(value: Value, arguments: Arguments, _: &Budget) -> Result<Value> {
    arguments.bind("abs", [])?;
    match &value {
        Value::Float(number) => Ok(Value::Float(number.abs())),
        other => match other.as_int().and_then(i64::checked_abs) {
            Some(number) => Ok(Value::Int(number)),
            None => Err(TemplateError::failed(format_args!("abs of {}", other.kind()))),
        },
    }
}

fn round(value: Value, arguments: Arguments, _: &Budget) -> Result<Value> {
    let bound = arguments.bind("round", ["precision", "method"])?;
    let Some(number) = value.as_float() else {
        return Err(TemplateError::failed(format_args!("round of {}", value.kind())));
    };
    let precision = bound.int(0)?.unwrap_or(0).clamp(-300, 300) as i32;
    let scale = 10_f64.powi(precision);
    let rounded = match bound.text(1)?.map(|method| &**method) {
        None | Some("common") => return Ok(nearest(&value, number, precision)),
        Some("ceil") => (number * scale).ceil() / scale,
        Some("floor") => (number * scale).floor() / scale,
        Some(_) => return Err(TemplateError::failed("round: common, ceil or floor expected")),
    };
    Ok(Value::Float(rounded))
}

/// The nearest number of so many digits after the point; an even one of two, and an integer of an integer.
fn nearest(value: &Value, number: f64, precision: i32) -> Value {
    let rounded = match usize::try_from(precision) {
        Ok(digits) => format!("{number:.digits$}").parse().unwrap_or(number),
        Err(_) => {
            let scale = 10_f64.powi(-precision);
            (number / scale).round_ties_even() * scale
        }
    };
    match value.as_int() {
        Some(whole) if precision >= 0 => Value::Int(whole),
        Some(_) => whole_of(rounded).map_or(Value::Float(rounded), Value::Int),
        None => Value::Float(rounded),
    }
}
