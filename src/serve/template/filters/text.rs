//! Filters that take a text, or make one.

use crate::template::arguments::Arguments;
use crate::template::budget::Budget;
use crate::template::error::{Result, TemplateError};
use crate::template::json::{self, Layout};
use crate::template::text::{Builder, Text};
use crate::template::value::Value;
use crate::template::{printf, show, words};

type Filter = fn(Value, Arguments, &Budget) -> Result<Value>;

/// The filter of this name.
pub(super) fn find(name: &str) -> Option<Filter> {
    Some(match name {
        "string" | "safe" => string,
        "trim" => trim,
        "upper" => upper,
        "lower" => lower,
        "title" => title,
        "capitalize" => capitalize,
        "escape" | "e" => escape,
        "replace" => replace,
        "indent" => indent,
        "center" => center,
        "truncate" => truncate,
        "wordcount" => wordcount,
        "format" => format,
        "tojson" => tojson,
        _ => return None,
    })
}

fn string(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("string", [])?;
    show::text(&value, budget).map(Value::Text)
}

fn trim(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("trim", ["chars"])?;
    let text = show::text(&value, budget)?;
    words::trim(&text, bound.text(0)?, [true, true], budget).map(Value::Text)
}

fn upper(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("upper", [])?;
    show::text(&value, budget)?.map(budget, str::to_uppercase).map(Value::Text)
}

fn lower(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("lower", [])?;
    show::text(&value, budget)?.map(budget, str::to_lowercase).map(Value::Text)
}

fn title(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("title", [])?;
    let begins = |c: char| words::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    words::title(&show::text(&value, budget)?, begins, budget).map(Value::Text)
}

fn capitalize(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("capitalize", [])?;
    words::capitalize(&show::text(&value, budget)?, budget).map(Value::Text)
}

fn escape(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("escape", [])?;
    let text = show::text(&value, budget)?;
    let escaped = text.map(budget, |run| {
        let mut out = String::with_capacity(run.len());
        for c in run.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '\'' => out.push_str("&#39;"),
                '"' => out.push_str("&#34;"),
                c => out.push(c),
            }
        }
        out
    });
    escaped.map(Value::Text)
}

fn replace(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("replace", ["old", "new", "count"])?;
    let text = show::text(&value, budget)?;
    let from = show::text(bound.need(0)?, budget)?;
    let to = show::text(bound.need(1)?, budget)?;
    let most = bound.int(2)?.and_then(|most| usize::try_from(most).ok());
    words::replace(&text, &from, &to, most, budget).map(Value::Text)
}

fn indent(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("indent", ["width", "first", "blank"])?;
    let Value::Text(text) = value else {
        return Err(TemplateError::failed(format_args!("indent of {}", value.kind())));
    };
    let unit = match bound.get(0) {
        Some(Value::Text(unit)) => unit.clone(),
        _ => spaces(bound.int(0)?.unwrap_or(4), budget)?,
    };
    let (first, blank) = (bound.is_true(1), bound.is_true(2));
    let mut lines = words::lines(&text);
    if text.is_empty() || text.ends_with(['\n', '\r']) {
        lines.push(text.len()..text.len());
    }
    let mut out = Builder::new(budget);
    for (number, line) in lines.into_iter().enumerate() {
        if number > 0 {
            out.push_str("\n")?;
        }
        let is_indented = if number == 0 { first } else { blank || !line.is_empty() };
        if is_indented {
            out.push(&unit)?;
        }
        out.push_slice(&text, line)?;
    }
    out.finish().map(Value::Text)
}

fn spaces(count: i64, budget: &Budget) -> Result<Text> {
    let mut out = Builder::new(budget);
    out.push_times(&Text::trusted(" "), usize::try_from(count).unwrap_or(0))?;
    out.finish()
}

fn center(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("center", ["width"])?;
    let text = show::text(&value, budget)?;
    let width = usize::try_from(bound.int(0)?.unwrap_or(80)).unwrap_or(0);
    words::center(&text, width, &Text::trusted(" "), budget).map(Value::Text)
}

fn truncate(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let text = show::text(&value, budget)?;
    let end = bound.text(2)?.cloned().unwrap_or_else(|| Text::trusted("..."));
    let at_least = |index: usize, default: i64| -> Result<usize> {
        Ok(usize::try_from(bound.int(index)?.unwrap_or(default)).unwrap_or(0))
    };
    let (length, leeway) = (at_least(0, 255)?, at_least(3, 5)?);
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::Text(text));
    }
    let kept = length.saturating_sub(end.chars().count());
    let mut cut = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
    if !bound.is_true(1) {
        cut = text[..cut].rfind(' ').unwrap_or(cut);
    }
    let mut out = Builder::new(budget);
    out.push_slice(&text, 0..cut)?;
    out.push(&end)?;
    out.finish().map(Value::Text)
}

fn wordcount(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    arguments.bind("wordcount", [])?;
    let text = show::text(&value, budget)?;
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    Ok(Value::Int(words.filter(|word| !word.is_empty()).count() as i64))
}

fn format(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let text = show::text(&value, budget)?;
    let Arguments { positional, named } = arguments;
    printf::format(&text, &positional, &named, budget).map(Value::Text)
}

fn tojson(value: Value, arguments: Arguments, budget: &Budget) -> Result<Value> {
    let parameters = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let bound = arguments.bind("tojson", parameters)?;
    let indent = match bound.get(1) {
        Some(Value::Text(unit)) => Some(unit.clone()),
        _ => bound.int(1)?.map(|width| spaces(width, budget)).transpose()?,
    };
    let separators = match bound.get(2) {
        None | Some(Value::None) => {
            let comma = if indent.is_some() { "," } else { ", " };
            [Text::trusted(comma), Text::trusted(": ")]
        }
        Some(given) => separators(given)?,
    };
    let layout =
        Layout { indent, separators, sorts_keys: bound.is_true(3), is_ascii: bound.is_true(0) };
    let mut out = Builder::new(budget);
    json::write(&value, &layout, 0, &mut out)?;
    out.finish().map(Value::Text)
}

fn separators(given: &Value) -> Result<[Text; 2]> {
    if let Value::List(list) = given
        && let [Value::Text(item), Value::Text(key)] = list.items()
    {
        return Ok([item.clone(), key.clone()]);
    }
    Err(TemplateError::failed("tojson: separators are two texts"))
}
