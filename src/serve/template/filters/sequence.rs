//! Filters that take a list, or make one.

use crate::template::access;
use crate::template::arguments::{Arguments, Bound};
use crate::template::budget::Budget;
use crate::template::error::{Result, TemplateError};
use crate::template::operators;
use crate::template::show;
use crate::template::syntax::Binary;
use crate::template::text::{Builder, Text};
use crate::template::value::Value;
use std::cmp::Ordering;

type Filter = fn(Value, Arguments, &Budget) -> Result<Value>;

/// The filter of this name.
pub(super) fn find(name: &str) -> Option<Filter> {
    Some(match name {
        "length" | "count" => length,
        "first" => first,
        "last" => last,
        "list" => list,
        "reverse" => reverse,
        "join" => join,
        "items" => items,
        "dictsort" => dictsort,
        "sort" => sort,
        "unique" => unique,
        "min" => min,
        "max" => max,
        "sum" => sum,
        "batch" => batch,
        "groupby" => groupby,
        _ => return None,
    })
}

/// A part of a value: names and indices with dots between them.
pub(super) fn attribute(value: &Value, path: &Value, budget: &Budget) -> Result<Value> {
    let Value::Text(path) = path else { return access::item(value, path, budget) };
    let mut found = value.clone();
    for name in path.split('.') {
        budget.step()?;
        found = match name.parse() {
            Ok(index) => access::item(&found, &Value::Int(index), budget)?,
            Err(_) if matches!(found, Value::Undefined) => return Ok(Value::Undefined),
            Err(_) => access::attribute(&found, name)?,
        };
    }
    Ok(found)
}

fn length(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("length", [])?;
    let count = match &value {
        Value::Undefined => 0,
        Value::List(list) => list.items().len(),
        Value::Map(map) => map.entries().len(),
        Value::Text(text) => {
            budget.read(text.len())?;
            text.chars().count()
        }
        other => {
            return Err(TemplateError::failed(format_args!("{} has no length", other.kind())));
        }
    };
    Ok(Value::Int(count as i64))
}

fn first(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("first", [])?;
    match &value {
        Value::Map(map) => {
            let first = map.entries().first();
            Ok(first.map_or(Value::Undefined, |(key, _)| Value::Text(key.clone())))
        }
        Value::Undefined => Ok(Value::Undefined),
        Value::List(_) | Value::Text(_) => access::item(&value, &Value::Int(0), budget),
        other => Err(TemplateError::failed(format_args!("first of {}", other.kind()))),
    }
}

fn last(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("last", [])?;
    match &value {
        Value::Map(map) => {
            let last = map.entries().last();
            Ok(last.map_or(Value::Undefined, |(key, _)| Value::Text(key.clone())))
        }
        Value::Undefined => Ok(Value::Undefined),
        Value::List(_) | Value::Text(_) => access::item(&value, &Value::Int(-1), budget),
        other => Err(TemplateError::failed(format_args!("last of {}", other.kind()))),
    }
}

fn list(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("list", [])?;
    Value::list(value.items(budget)?, budget)
}

fn reverse(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("reverse", [])?;
    if let Value::Text(_) = value {
        return access::slice(&value, [None, None, Some(-1)], budget);
    }
    let mut items = value.items(budget)?;
    items.reverse();
    Value::list(items, budget)
}

fn join(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("join", ["d", "attribute"])?;
    let glue = match bound.get(0) {
        Some(glue) => show::text(glue, budget)?,
        None => Text::trusted(""),
    };
    let mut out = Builder::new(budget);
    for (index, item) in value.items(budget)?.iter().enumerate() {
        budget.step()?;
        if index > 0 {
            out.push(&glue)?;
        }
        show::write(&by(&bound, 1, item, budget)?, &mut out)?;
    }
    out.finish().map(Value::Text)
}

/// The attribute of an item that an argument names; the item itself, if none does.
fn by<const N: usize>(
    bound: &Bound<N>,
    index: usize,
    item: &Value,
    budget: &Budget,
) -> Result<Value> {
    match bound.get(index) {
        None | Some(Value::None) => Ok(item.clone()),
        Some(path) => attribute(item, path, budget),
    }
}

/// A key and a value as a pair.
fn pair(key: &Text, value: &Value, budget: &Budget) -> Result<Value> {
    Value::sequence(vec![Value::Text(key.clone()), value.clone()], true, budget)
}

/// The pairs of a dictionary.
pub(crate) fn pairs(value: &Value, budget: &Budget) -> Result<Vec<Value>> {
    match value {
        Value::Undefined => Ok(Vec::new()),
        Value::Map(map) => {
            map.entries().iter().map(|(key, value)| pair(key, value, budget)).collect()
        }
        other => Err(TemplateError::failed(format_args!("{} has no keys", other.kind()))),
    }
}

fn items(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("items", [])?;
    Value::list(pairs(&value, budget)?, budget)
}

fn dictsort(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    let place = match bound.text(1)?.map(|by| &**by) {
        None | Some("key") => 0,
        Some("value") => 1,
        Some(_) => return Err(TemplateError::failed("dictsort: by is key or value")),
    };
    let pairs = pairs(&value, budget)?.into_iter().map(|pair| {
        let key = access::item(&pair, &Value::Int(place), budget)?;
        Ok((key, pair))
    });
    let pairs = pairs.collect::<Result<_>>()?;
    Value::list(sorted(pairs, bound.is_true(0), bound.is_true(2), budget)?, budget)
}

fn sort(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("sort", ["reverse", "case_sensitive", "attribute"])?;
    let items = keyed(&value, &bound, 2, budget)?;
    Value::list(sorted(items, bound.is_true(1), bound.is_true(0), budget)?, budget)
}

/// Items with what they are ordered by.
fn keyed<const N: usize>(
    value: &Value,
    bound: &Bound<N>,
    index: usize,
    budget: &Budget,
) -> Result<Vec<(Value, Value)>> {
    let items = value.items(budget)?.into_iter();
    items.map(|item| Ok((by(bound, index, &item, budget)?, item))).collect()
}

/// What items are ordered by. All are of one kind: an order of anything else would be none.
enum Keys {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Texts(Vec<String>),
}

impl Keys {
    fn of(items: &[(Value, Value)], is_exact: bool, budget: &Budget) -> Result<Keys> {
        let keys = || items.iter().map(|(key, _)| key);
        // Each is compared with about as many others as the logarithm of their count.
        let times = items.len().checked_ilog2().unwrap_or(0) as usize + 1;
        budget.read(keys().map(Value::bytes).sum::<usize>().saturating_mul(times))?;
        if let Some(keys) = keys().map(Value::as_int).collect() {
            return Ok(Keys::Ints(keys));
        }
        let float = |key: &Value| key.as_float().filter(|number| !number.is_nan());
        if let Some(keys) = keys().map(float).collect() {
            return Ok(Keys::Floats(keys));
        }
        let text = |key: &Value| match key {
            Value::Text(text) if is_exact => Some(text.to_string()),
            Value::Text(text) => Some(text.to_lowercase()),
            _ => None,
        };
        let texts = keys().map(text).collect::<Option<Vec<String>>>();
        texts.map(Keys::Texts).ok_or_else(|| TemplateError::failed("items that have no order"))
    }

    fn order(&self, a: usize, b: usize) -> Ordering {
        match self {
            Keys::Ints(keys) => keys[a].cmp(&keys[b]),
            Keys::Floats(keys) => keys[a].partial_cmp(&keys[b]).unwrap_or(Ordering::Equal),
            Keys::Texts(keys) => keys[a].as_bytes().cmp(keys[b].as_bytes()),
        }
    }
}

/// Items by their keys, which come first; equal ones stay in order.
fn sorted(
    items: Vec<(Value, Value)>,
    is_exact: bool,
    reverses: bool,
    budget: &Budget,
) -> Result<Vec<Value>> {
    let keys = Keys::of(&items, is_exact, budget)?;
    let mut places: Vec<usize> = (0..items.len()).collect();
    match reverses {
        true => places.sort_by(|&a, &b| keys.order(b, a)),
        false => places.sort_by(|&a, &b| keys.order(a, b)),
    }
    Ok(places.into_iter().map(|place| items[place].1.clone()).collect())
}

fn min(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("min", ["case_sensitive", "attribute"])?;
    let items = keyed(&value, &bound, 1, budget)?;
    let first = sorted(items, bound.is_true(0), false, budget)?.into_iter().next();
    Ok(first.unwrap_or(Value::Undefined))
}

fn max(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("max", ["case_sensitive", "attribute"])?;
    let items = keyed(&value, &bound, 1, budget)?;
    let first = sorted(items, bound.is_true(0), true, budget)?.into_iter().next();
    Ok(first.unwrap_or(Value::Undefined))
}

fn sum(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("sum", ["attribute", "start"])?;
    let mut total = bound.get(1).cloned().unwrap_or(Value::Int(0));
    for item in value.items(budget)? {
        budget.step()?;
        total = operators::binary(Binary::Add, &total, &by(&bound, 0, &item, budget)?, budget)?;
    }
    Ok(total)
}

fn unique(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("unique", ["case_sensitive", "attribute"])?;
    let mut seen: Vec<Value> = Vec::new();
    let mut kept = Vec::new();
    for (key, item) in keyed(&value, &bound, 1, budget)? {
        let key = match key {
            Value::Text(text) if !bound.is_true(0) => {
                Value::Text(text.map(budget, str::to_lowercase)?)
            }
            key => key,
        };
        let mut is_new = true;
        for other in &seen {
            budget.step()?;
            is_new &= !operators::equal(other, &key, budget)?;
        }
        if is_new {
            seen.push(key);
            kept.push(item);
        }
    }
    Value::list(kept, budget)
}

fn batch(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("batch", ["linecount", "fill_with"])?;
    let size = bound.int(0)?.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    if size == 0 {
        return Err(TemplateError::failed("batch: linecount is 1 or more"));
    }
    let items = value.items(budget)?;
    let mut batches = Vec::new();
    for part in items.chunks(size) {
        let mut part = part.to_vec();
        if let Some(fill) = bound.get(1).filter(|fill| !matches!(fill, Value::None)) {
            budget.take((size - part.len()).saturating_mul(size_of::<Value>()))?;
            part.resize(size, fill.clone());
        }
        batches.push(Value::list(part, budget)?);
    }
    Value::list(batches, budget)
}

fn groupby(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("groupby", ["attribute"])?;
    bound.need(0)?;
    let items = keyed(&value, &bound, 0, budget)?;
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for item in sorted(items, false, false, budget)? {
        let key = by(&bound, 0, &item, budget)?;
        match groups.last_mut() {
            Some((last, group)) if operators::equal(last, &key, budget)? => group.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let pairs = groups
        .into_iter()
        .map(|(key, group)| Value::sequence(vec![key, Value::list(group, budget)?], true, budget));
    Value::list(pairs.collect::<Result<_>>()?, budget)
}
