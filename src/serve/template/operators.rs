//! Operators, with Python's meaning.

use super::budget::Budget;
use super::error::{Result, TemplateError};
use super::printf;
use super::show;
use super::syntax::{Binary, Comparison, Unary};
use super::text::{Builder, Text};
use super::value::Value;
use std::cmp::Ordering;

/// `not a`, `-a`, `+a`.
pub(crate) fn unary(operator: Unary, value: &Value) -> Result<Value> {
    let number = match (operator, value) {
        (Unary::Not, value) => return Ok(Value::Bool(!value.is_true())),
        (Unary::Plus, Value::Float(number)) => return Ok(Value::Float(*number)),
        (Unary::Minus, Value::Float(number)) => return Ok(Value::Float(-number)),
        (_, value) => value.as_int(),
    };
    let Some(number) = number else {
        return Err(TemplateError::failed(format_args!("{} has no sign", value.kind())));
    };
    let signed = if operator == Unary::Minus { number.checked_neg() } else { Some(number) };
    signed.map(Value::Int).ok_or_else(too_large)
}

/// `a + b` and its like.
pub(crate) fn binary(operator: Binary, a: &Value, b: &Value, budget: &Budget) -> Result<Value> {
    match (operator, a, b) {
        (Binary::Add, Value::Text(a), Value::Text(b)) => {
            let mut sum = Builder::new(budget);
            sum.push(a)?;
            sum.push(b)?;
            sum.finish().map(Value::Text)
        }
        (Binary::Add, Value::List(x), Value::List(y)) if x.is_tuple() == y.is_tuple() => {
            let is_tuple = x.is_tuple();
            budget.take((x.items().len() + y.items().len()) * size_of::<Value>())?;
            Value::sequence([x.items(), y.items()].concat(), is_tuple, budget)
        }
        (Binary::Multiply, Value::Text(_) | Value::List(_), _) if b.as_int().is_some() => {
            repeated(a, b.as_int().unwrap_or(0), budget)
        }
        (Binary::Multiply, _, Value::Text(_) | Value::List(_)) if a.as_int().is_some() => {
            repeated(b, a.as_int().unwrap_or(0), budget)
        }
        (Binary::Modulo, Value::Text(format), value) => formatted(format, value, budget),
        _ => arithmetic(operator, a, b),
    }
}

/// A format with the values of a tuple, those of a dictionary by their names, or one value.
fn formatted(format: &Text, value: &Value, budget: &Budget) -> Result<Value> {
    let text = match value {
        Value::List(list) if list.is_tuple() => printf::format(format, list.items(), &[], budget),
        Value::Map(map) => {
            let named = map.entries().iter().map(|(key, value)| (key.to_string(), value.clone()));
            budget.take(value.bytes())?;
            printf::format(format, &[], &named.collect::<Vec<_>>(), budget)
        }
        value => printf::format(format, std::slice::from_ref(value), &[], budget),
    };
    text.map(Value::Text)
}

/// A text or a list so many times.
fn repeated(value: &Value, times: i64, budget: &Budget) -> Result<Value> {
    let times = usize::try_from(times).unwrap_or(0);
    match value {
        Value::Text(text) => {
            let mut all = Builder::new(budget);
            all.push_times(text, times)?;
            all.finish().map(Value::Text)
        }
        Value::List(list) => {
            let count = list.items().len().saturating_mul(times);
            budget.take(count.saturating_mul(size_of::<Value>()))?;
            let items = list.items().iter().cycle().take(count).cloned().collect();
            Value::sequence(items, list.is_tuple(), budget)
        }
        other => Ok(other.clone()),
    }
}

fn arithmetic(operator: Binary, a: &Value, b: &Value) -> Result<Value> {
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        return integers(operator, a, b);
    }
    match (a.as_float(), b.as_float()) {
        (Some(a), Some(b)) => floats(operator, a, b),
        _ => {
            let (a, b) = (a.kind(), b.kind());
            Err(TemplateError::failed(format_args!("{} of {a} and {b}", name(operator))))
        }
    }
}

fn name(operator: Binary) -> &'static str {
    match operator {
        Binary::Add => "a sum",
        Binary::Subtract => "a difference",
        Binary::Multiply => "a product",
        Binary::Divide | Binary::FloorDivide => "a quotient",
        Binary::Modulo => "a remainder",
        Binary::Power => "a power",
    }
}

fn too_large() -> TemplateError {
    TemplateError::failed("a number that is too large")
}

fn by_zero() -> TemplateError {
    TemplateError::failed("a division by zero")
}

fn integers(operator: Binary, a: i64, b: i64) -> Result<Value> {
    let number = match operator {
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        Binary::Divide => return floats(operator, a as f64, b as f64),
        Binary::FloorDivide | Binary::Modulo if b == 0 => return Err(by_zero()),
        Binary::FloorDivide => {
            // Rust rounds towards zero, Python down.
            let quotient = a.checked_div(b);
            quotient.map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q })
        }
        Binary::Modulo => {
            let rest = a.checked_rem(b);
            rest.map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        }
        Binary::Power if b < 0 => return floats(operator, a as f64, b as f64),
        Binary::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    number.map(Value::Int).ok_or_else(too_large)
}

fn floats(operator: Binary, a: f64, b: f64) -> Result<Value> {
    let number = match operator {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Power => a.powf(b),
        _ if b == 0.0 => return Err(by_zero()),
        Binary::Divide => a / b,
        Binary::FloorDivide => (a / b).floor(),
        Binary::Modulo => a - b * (a / b).floor(),
    };
    Ok(Value::Float(number))
}

/// `a ~ b ~ c`
pub(crate) fn concat(values: &[Value], budget: &Budget) -> Result<Text> {
    let mut all = Builder::new(budget);
    values.iter().try_for_each(|value| show::write(value, &mut all))?;
    all.finish()
}

/// `a < b` and its like.
pub(crate) fn compare(operator: Comparison, a: &Value, b: &Value, budget: &Budget) -> Result<bool> {
    Ok(match operator {
        Comparison::Equal => equal(a, b, budget)?,
        Comparison::NotEqual => !equal(a, b, budget)?,
        Comparison::In => contains(b, a, budget)?,
        Comparison::NotIn => !contains(b, a, budget)?,
        Comparison::Less => order(a, b, budget)? == Some(Ordering::Less),
        Comparison::Greater => order(a, b, budget)? == Some(Ordering::Greater),
        Comparison::LessOrEqual => order(a, b, budget)?.is_some_and(Ordering::is_le),
        Comparison::GreaterOrEqual => order(a, b, budget)?.is_some_and(Ordering::is_ge),
    })
}

/// Which comes first; `None` where one is no number.
pub(crate) fn order(a: &Value, b: &Value, budget: &Budget) -> Result<Option<Ordering>> {
    budget.read(a.bytes().min(b.bytes()))?;
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        return Ok(Some(a.cmp(&b)));
    }
    if let (Some(a), Some(b)) = (a.as_float(), b.as_float()) {
        return Ok(a.partial_cmp(&b));
    }
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.as_bytes().cmp(b.as_bytes()))),
        (Value::List(x), Value::List(y)) if x.is_tuple() == y.is_tuple() => {
            for (a, b) in x.items().iter().zip(y.items()) {
                if !equal(a, b, budget)? {
                    return order(a, b, budget);
                }
            }
            Ok(Some(x.items().len().cmp(&y.items().len())))
        }
        _ => {
            let (a, b) = (a.kind(), b.kind());
            Err(TemplateError::failed(format_args!("{a} and {b} have no order")))
        }
    }
}

/// Whether two values are equal; numbers are whatever their kind.
pub(crate) fn equal(a: &Value, b: &Value, budget: &Budget) -> Result<bool> {
    budget.read(a.bytes().min(b.bytes()))?;
    Ok(is_equal(a, b))
}

fn is_equal(a: &Value, b: &Value) -> bool {
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (a.as_float(), b.as_float()) {
        return a == b;
    }
    match (a, b) {
        (Value::Undefined, Value::Undefined) | (Value::None, Value::None) => true,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Object(a), Value::Object(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            let pairs = || a.items().iter().zip(b.items());
            a.is_tuple() == b.is_tuple()
                && a.items().len() == b.items().len()
                && pairs().all(|(a, b)| is_equal(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            let same =
                |(key, value): &(Text, Value)| b.get(key).is_some_and(|b| is_equal(value, b));
            a.entries().len() == b.entries().len() && a.entries().iter().all(same)
        }
        _ => false,
    }
}

/// `item in container`
pub(crate) fn contains(container: &Value, item: &Value, budget: &Budget) -> Result<bool> {
    match (container, item) {
        (Value::Text(text), Value::Text(part)) => {
            budget.read(text.len())?;
            Ok(text.contains(&**part))
        }
        (Value::List(list), item) => {
            budget.read(container.bytes())?;
            Ok(list.items().iter().any(|other| is_equal(other, item)))
        }
        (Value::Map(map), Value::Text(key)) => Ok(map.get(key).is_some()),
        (Value::Map(_) | Value::Undefined, _) => Ok(false),
        (container, item) => {
            let (item, container) = (item.kind(), container.kind());
            Err(TemplateError::failed(format_args!("{item} cannot be in {container}")))
        }
    }
}
