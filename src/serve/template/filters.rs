//! Filters: `value | name(arguments)`.

mod number;
mod sequence;
mod text;

use super::arguments::Arguments;
use super::budget::Budget;
use super::error::{Result, TemplateError};
use super::predicates::{self, is_predicate};
use super::value::Value;

/// A filter's value.
pub(crate) fn apply(
    name: &str,
    value: Value,
    arguments: Arguments,
    budget: &Budget,
) -> Result<Value> {
    match name {
        "map" | "select" | "reject" | "selectattr" | "rejectattr" => {
            each(name, &value, arguments, budget)
        }
        "default" | "d" => default(value, arguments),
        "attr" => attribute(&value, arguments, budget),
        _ => simple(name, value, arguments, budget),
    }
}

#[inline(never)]
fn simple(name: &str, value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    if let Some(known) = sequence::find(name) {
        return known(value, arguments, budget);
    }
    if let Some(known) = text::find(name).or_else(|| number::find(name)) {
        budget.read(value.bytes())?;
        return known(value, arguments, budget);
    }
    let name: String = name.chars().take(60).collect();
    Err(TemplateError::failed(format_args!("no filter is called {name}")))
}

#[inline(never)]
fn attribute(value: &Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("attr", ["name"])?;
    sequence::attribute(value, bound.need(0)?, budget)
}

#[inline(never)]
fn default(value: Value, arguments: Arguments) -> Result<Value> {
    let bound = arguments.bind("default", ["default_value", "boolean"])?;
    let is_missing = matches!(value, Value::Undefined) || (bound.is_true(1) && !value.is_true());
    if !is_missing {
        return Ok(value);
    }
    Ok(bound.get(0).cloned().unwrap_or_else(|| Value::text("")))
}

/// The filters that do something for each item.
#[inline(never)]
fn each(name: &str, value: &Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    budget.enter()?;
    // What counts as false is not asked for items.
    let items = if value.is_true() { value.items(budget)? } else { Vec::new() };
    let made = match name {
        "map" => map(items, arguments, budget)?,
        _ => kept(name, items, arguments, budget)?,
    };
    budget.leave();
    Value::list(made, budget)
}

/// Those of the items that a test keeps.
#[inline(never)]
fn kept(
    name: &str,
    items: Vec<Value>,
    arguments: Arguments,
    budget: &Budget,
) -> Result<Vec<Value>> {
    let keeps = name.starts_with("select");
    let by_attribute = name.ends_with("attr");
    let mut given = arguments.positional.into_iter();
    let path = if by_attribute { given.next() } else { None };
    if by_attribute && path.is_none() {
        return Err(TemplateError::failed(format_args!("{name} needs an attribute")));
    }
    let test = given.next();
    let rest: Vec<Value> = given.collect();
    let mut kept = Vec::new();
    for item in items {
        budget.step()?;
        let looked_at = match &path {
            Some(path) => sequence::attribute(&item, path, budget)?,
            None => item.clone(),
        };
        let holds = match &test {
            Some(Value::Text(test)) => predicates::holds(test, &looked_at, &rest, budget)?,
            Some(_) => return Err(TemplateError::failed(format_args!("{name}: a test expected"))),
            None => looked_at.is_true(),
        };
        if holds == keeps {
            kept.push(item);
        }
    }
    Ok(kept)
}

/// An attribute of each item, or what a filter makes of it.
#[inline(never)]
fn map(items: Vec<Value>, mut arguments: Arguments, budget: &Budget) -> Result<Vec<Value>> {
    if let Some(path) = arguments.take("attribute") {
        return attributes(&items, &path, arguments.take("default"), budget);
    }
    let mut given = arguments.positional.into_iter();
    let Some(Value::Text(filter)) = given.next() else {
        return Err(TemplateError::failed("map needs a filter or an attribute"));
    };
    let (rest, named): (Vec<Value>, _) = (given.collect(), arguments.named);
    let mut made = Vec::with_capacity(items.len());
    for item in items {
        budget.step()?;
        budget.take(rest.len() * size_of::<Value>())?;
        let arguments = Arguments { positional: rest.clone(), named: named.clone() };
        made.push(apply(&filter, item, arguments, budget)?);
    }
    Ok(made)
}

/// An attribute of each item, or a default where there is none.
#[inline(never)]
fn attributes(
    items: &[Value],
    path: &Value,
    default: Option<Value>,
    budget: &Budget,
) -> Result<Vec<Value>> {
    let found = items.iter().map(|item| {
        budget.step()?;
        match (sequence::attribute(item, path, budget)?, &default) {
            (Value::Undefined, Some(default)) => Ok(default.clone()),
            (found, _) => Ok(found),
        }
    });
    found.collect()
}

/// Whether there is a filter of this name.
pub(crate) fn is_filter(name: &str) -> bool {
    matches!(name, "map" | "select" | "reject" | "selectattr" | "rejectattr")
        || matches!(name, "default" | "d" | "attr")
        || sequence::find(name).is_some()
        || text::find(name).is_some()
        || number::find(name).is_some()
}

/// `is filter` and `is test`, which ask for names.
pub(crate) fn is_known(kind: &str, name: &str) -> bool {
    if kind == "filter" { is_filter(name) } else { is_predicate(name) }
}
