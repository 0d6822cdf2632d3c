//! Methods of Python's texts, dictionaries and lists: `value.name(arguments)`.

use super::arguments::{Arguments, Bound};
use super::budget::Budget;
use super::error::{Result, TemplateError};
use super::operators;
use super::show;
use super::text::{Builder, Text};
use super::value::{List, Map, Value};
use super::words;
use std::ops::Range;

/// What a method gives.
pub(crate) fn call(
    value: &Value,
    name: &str,
    arguments: Arguments,
    budget: &Budget,
) -> Result<Value> {
    let found = match value {
        Value::Text(text) => {
            budget.read(text.len())?;
            of_text(text, name, arguments, budget)?
        }
        Value::Map(map) => of_map(map, name, arguments, budget)?,
        Value::List(list) => of_list(list, name, arguments, budget)?,
        _ => None,
    };
    found.ok_or_else(|| unknown(value, name))
}

fn unknown(value: &Value, name: &str) -> TemplateError {
    let changes = ["append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault"];
    let name: String = name.chars().take(60).collect();
    if changes.contains(&&*name) {
        return TemplateError::failed(format_args!("{name}: values cannot be changed"));
    }
    TemplateError::failed(format_args!("{} has no method {name}", value.kind()))
}

fn of_map(map: &Map, name: &str, arguments: Arguments, budget: &Budget) -> Result<Option<Value>> {
    let entries = map.entries().iter();
    let values: Values = match name {
        "get" => {
            let bound = arguments.bind("get", ["key", "default"])?;
            let found = match bound.need(0)? {
                Value::Text(key) => map.get(key),
                _ => None,
            };
            return Ok(Some(found.or(bound.get(1)).cloned().unwrap_or(Value::None)));
        }
        "keys" => entries.map(|(key, _)| Ok(Value::Text(key.clone()))).collect(),
        "values" => entries.map(|(_, value)| Ok(value.clone())).collect(),
        "items" => entries
            .map(|(key, value)| {
                Value::sequence(vec![Value::Text(key.clone()), value.clone()], true, budget)
            })
            .collect(),
        "copy" => return Value::map(map.entries().to_vec(), budget).map(Some),
        _ => return Ok(None),
    };
    arguments.bind::<0>(name, [])?;
    Value::list(values?, budget).map(Some)
}

type Values = Result<Vec<Value>>;

fn of_list(
    list: &List,
    name: &str,
    arguments: Arguments,
    budget: &Budget,
) -> Result<Option<Value>> {
    if !matches!(name, "index" | "count") {
        return Ok(None);
    }
    let bound = arguments.bind(name, ["value"])?;
    let wanted = bound.need(0)?;
    let mut places = Vec::new();
    for (place, item) in list.items().iter().enumerate() {
        budget.step()?;
        if operators::equal(item, wanted, budget)? {
            places.push(place as i64);
        }
    }
    match (name, places.first()) {
        ("count", _) => Ok(Some(Value::Int(places.len() as i64))),
        (_, Some(&first)) => Ok(Some(Value::Int(first))),
        _ => Err(TemplateError::failed("index: the value is not in the list")),
    }
}

fn of_text(
    text: &Text,
    name: &str,
    arguments: Arguments,
    budget: &Budget,
) -> Result<Option<Value>> {
    let value = match name {
        "strip" | "lstrip" | "rstrip" => {
            let bound = arguments.bind(name, ["chars"])?;
            let ends = [name != "rstrip", name != "lstrip"];
            Value::Text(words::trim(text, bound.text(0)?, ends, budget)?)
        }
        "upper" | "lower" | "title" | "capitalize" | "swapcase" => {
            arguments.bind::<0>(name, [])?;
            Value::Text(cased(text, name, budget)?)
        }
        "startswith" | "endswith" => affix(text, name, &arguments.bind(name, ["prefix"])?)?,
        "removeprefix" | "removesuffix" => {
            let bound = arguments.bind(name, ["affix"])?;
            let range = without(text, name, bound.need_text(0)?);
            Value::Text(text.slice(range, budget)?)
        }
        "replace" => {
            let bound = arguments.bind(name, ["old", "new", "count"])?;
            let most = bound.int(2)?.and_then(|most| usize::try_from(most).ok());
            let (from, to) = (bound.need_text(0)?, bound.need_text(1)?);
            Value::Text(words::replace(text, from, to, most, budget)?)
        }
        "split" | "rsplit" => {
            split(text, name, &arguments.bind(name, ["sep", "maxsplit"])?, budget)?
        }
        "partition" | "rpartition" => {
            partition(text, name, &arguments.bind(name, ["sep"])?, budget)?
        }
        "splitlines" => {
            arguments.bind::<0>(name, [])?;
            parts(text, words::lines(text), false, budget)?
        }
        "join" => join(text, &arguments.bind(name, ["iterable"])?, budget)?,
        "find" | "rfind" | "index" | "count" => {
            search(text, name, &arguments.bind(name, ["sub"])?)?
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            padded(text, name, &arguments.bind(name, ["width", "fillchar"])?, budget)?
        }
        "format" => braces(text, &arguments, budget)?,
        _ if name.starts_with("is") => {
            arguments.bind::<0>(name, [])?;
            return Ok(is(text, name).map(Value::Bool));
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn cased(text: &Text, name: &str, budget: &Budget) -> Result<Text> {
    match name {
        "upper" => text.map(budget, str::to_uppercase),
        "lower" => text.map(budget, str::to_lowercase),
        "title" => words::title(text, |c| !c.is_alphabetic(), budget),
        "capitalize" => words::capitalize(text, budget),
        _ => text.map(budget, |run| {
            run.chars().fold(String::new(), |mut out, c| {
                match c.is_uppercase() {
                    true => out.extend(c.to_lowercase()),
                    false => out.extend(c.to_uppercase()),
                }
                out
            })
        }),
    }
}

/// Whether the text begins or ends with a text, or with one of several.
fn affix(text: &Text, name: &str, bound: &Bound<1>) -> Result<Value> {
    let matches = |affix: &Value| match affix {
        Value::Text(affix) if name == "startswith" => text.starts_with(&**affix),
        Value::Text(affix) => text.ends_with(&**affix),
        _ => false,
    };
    match bound.need(0)? {
        Value::List(list) => Ok(Value::Bool(list.items().iter().any(matches))),
        _ => {
            bound.need_text(0)?;
            Ok(Value::Bool(matches(bound.need(0)?)))
        }
    }
}

fn without(text: &Text, name: &str, affix: &Text) -> Range<usize> {
    match name {
        "removeprefix" if text.starts_with(&**affix) => affix.len()..text.len(),
        "removesuffix" if text.ends_with(&**affix) => 0..text.len() - affix.len(),
        _ => 0..text.len(),
    }
}

/// Parts of a text as a list or a tuple.
fn parts(text: &Text, ranges: Vec<Range<usize>>, is_tuple: bool, budget: &Budget) -> Result<Value> {
    let parts = ranges.into_iter().map(|range| text.slice(range, budget).map(Value::Text));
    Value::sequence(parts.collect::<Values>()?, is_tuple, budget)
}

fn split(text: &Text, name: &str, bound: &Bound<2>, budget: &Budget) -> Result<Value> {
    let most = bound.int(1)?.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let Some(separator) = bound.text(0)? else {
        return parts(text, words::words(text, most), false, budget);
    };
    if separator.is_empty() {
        return Err(TemplateError::failed(format_args!("{name} at an empty text")));
    }
    let mut found: Vec<usize> = match name {
        "split" => text.match_indices(&**separator).map(|(at, _)| at).take(most).collect(),
        _ => text.rmatch_indices(&**separator).map(|(at, _)| at).take(most).collect(),
    };
    found.sort_unstable();
    let starts = [0].into_iter().chain(found.iter().map(|at| at + separator.len()));
    let ends = found.iter().copied().chain([text.len()]);
    parts(text, starts.zip(ends).map(|(start, end)| start..end).collect(), false, budget)
}

fn partition(text: &Text, name: &str, bound: &Bound<1>, budget: &Budget) -> Result<Value> {
    let separator = bound.need_text(0)?;
    let (whole, none) = (0..text.len(), 0..0);
    let ranges = match (name, text.find(&**separator), text.rfind(&**separator)) {
        ("partition", Some(at), _) | ("rpartition", _, Some(at)) => {
            let end = at + separator.len();
            vec![0..at, at..end, end..text.len()]
        }
        ("partition", ..) => vec![whole, none.clone(), none],
        _ => vec![none.clone(), none, whole],
    };
    parts(text, ranges, true, budget)
}

fn join(glue: &Text, bound: &Bound<1>, budget: &Budget) -> Result<Value> {
    let mut out = Builder::new(budget);
    for (index, item) in bound.need(0)?.items(budget)?.iter().enumerate() {
        let Value::Text(item) = item else {
            return Err(TemplateError::failed(format_args!("join of {}", item.kind())));
        };
        if index > 0 {
            out.push(glue)?;
        }
        out.push(item)?;
    }
    out.finish().map(Value::Text)
}

/// Places in characters.
fn search(text: &Text, name: &str, bound: &Bound<1>) -> Result<Value> {
    let part = bound.need_text(0)?;
    let found = match name {
        "count" => return Ok(Value::Int(text.matches(&**part).count() as i64)),
        "rfind" => text.rfind(&**part),
        _ => text.find(&**part),
    };
    match found {
        Some(at) => Ok(Value::Int(text[..at].chars().count() as i64)),
        None if name == "index" => Err(TemplateError::failed("index: the text is not there")),
        None => Ok(Value::Int(-1)),
    }
}

fn padded(text: &Text, name: &str, bound: &Bound<2>, budget: &Budget) -> Result<Value> {
    let width = usize::try_from(bound.int(0)?.unwrap_or(0)).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    let default = Text::trusted(if name == "zfill" { "0" } else { " " });
    let fill = bound.text(1)?.unwrap_or(&default);
    if name == "center" {
        return words::center(text, width, fill, budget).map(Value::Text);
    }
    let left = if name == "ljust" { 0 } else { missing };
    let sign = usize::from(name == "zfill" && text.starts_with(['+', '-']));
    let mut out = Builder::new(budget);
    out.push_slice(text, 0..sign)?;
    out.push_times(fill, left)?;
    out.push_slice(text, sign..text.len())?;
    out.push_times(fill, missing - left)?;
    out.finish().map(Value::Text)
}

/// `'{} and {name}'.format(…)`, without what may stand after a colon.
fn braces(text: &Text, arguments: &Arguments, budget: &Budget) -> Result<Value> {
    let mut out = Builder::new(budget);
    let mut values = arguments.positional.iter();
    let mut at = 0;
    while let Some(found) = text[at..].find(['{', '}']) {
        out.push_slice(text, at..at + found)?;
        at += found;
        let brace = &text[at..at + 1];
        if text[at + 1..].starts_with(brace) {
            out.push_slice(text, at..at + 1)?;
            at += 2;
            continue;
        }
        let end = text[at..].find('}').filter(|_| brace == "{").map(|end| at + end);
        let end = end.ok_or_else(|| TemplateError::failed("format: a single brace"))?;
        let name = &text[at + 1..end];
        let value = match name.parse::<usize>() {
            _ if name.is_empty() => values.next(),
            Ok(index) => arguments.positional.get(index),
            Err(_) => arguments.named.iter().find(|(known, _)| known == name).map(|(_, v)| v),
        };
        let missing = || TemplateError::failed("format: a place without a value");
        show::write(value.ok_or_else(missing)?, &mut out)?;
        at = end + 1;
    }
    out.push_slice(text, at..text.len())?;
    out.finish().map(Value::Text)
}

/// `isdigit` and its like: whether the text is not empty and all of it is so.
fn is(text: &Text, name: &str) -> Option<bool> {
    let is_cased = |c: char| c.is_uppercase() || c.is_lowercase();
    let all = |is: fn(char) -> bool| !text.is_empty() && text.chars().all(is);
    Some(match name {
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isspace" => all(words::is_space),
        "isascii" => text.is_ascii(),
        "isupper" => text.chars().any(is_cased) && !text.chars().any(char::is_lowercase),
        "islower" => text.chars().any(is_cased) && !text.chars().any(char::is_uppercase),
        _ => return None,
    })
}
