//! `tojson`, which in chat templates is Python's `json.dumps`: no escapes for HTML, keys in their order.

use super::error::{Result, TemplateError};
use super::show;
use super::text::{Builder, Text};
use super::value::{Map, Value};

/// How JSON is laid out.
pub(crate) struct Layout {
    /// What each level is indented with; one line if there is none.
    pub(crate) indent: Option<Text>,
    /// What stands between items, and between a key and its value.
    pub(crate) separators: [Text; 2],
    pub(crate) sorts_keys: bool,
    /// Whether characters beyond ASCII are escaped.
    pub(crate) is_ascii: bool,
}

/// Appends a value as JSON.
pub(crate) fn write(
    value: &Value,
    layout: &Layout,
    level: usize,
    out: &mut Builder<'_>,
) -> Result<()> {
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Text(text) => write_string(text, layout, out),
        Value::List(list) => {
            let items = list.items();
            enclose(["[", "]"], items.len(), layout, level, out, |index, out| {
                write(&items[index], layout, level + 1, out)
            })
        }
        Value::Map(map) => {
            let entries = entries(map, layout);
            enclose(["{", "}"], entries.len(), layout, level, out, |index, out| {
                let (key, value) = entries[index];
                write_string(key, layout, out)?;
                out.push(&layout.separators[1])?;
                write(value, layout, level + 1, out)
            })
        }
        other => {
            let message = format_args!("tojson: {} is no JSON", other.kind());
            Err(TemplateError::failed(message))
        }
    }
}

fn entries<'m>(map: &'m Map, layout: &Layout) -> Vec<(&'m Text, &'m Value)> {
    let mut entries: Vec<_> = map.entries().iter().map(|(key, value)| (key, value)).collect();
    if layout.sorts_keys {
        entries.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
    }
    entries
}

/// Writes `count` items between two brackets.
fn enclose(
    [open, close]: [&str; 2],
    count: usize,
    layout: &Layout,
    level: usize,
    out: &mut Builder<'_>,
    item: impl Fn(usize, &mut Builder<'_>) -> Result<()>,
) -> Result<()> {
    out.push_str(open)?;
    for index in 0..count {
        if index > 0 {
            out.push(&layout.separators[0])?;
        }
        break_line(layout, level + 1, out)?;
        item(index, out)?;
    }
    if count > 0 {
        break_line(layout, level, out)?;
    }
    out.push_str(close)
}

fn break_line(layout: &Layout, level: usize, out: &mut Builder<'_>) -> Result<()> {
    let Some(indent) = &layout.indent else { return Ok(()) };
    out.push_str("\n")?;
    out.push_times(indent, level)
}

fn float(number: f64) -> String {
    match number {
        number if number.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        number => show::float(number),
    }
}

fn write_string(text: &Text, layout: &Layout, out: &mut Builder<'_>) -> Result<()> {
    out.push_str("\"")?;
    for (range, user) in text.runs(0..text.len()) {
        let mut escaped = String::new();
        text[range].chars().for_each(|c| escape(c, layout.is_ascii, &mut escaped));
        out.push_as(&escaped, user)?;
    }
    out.push_str("\"")
}

fn escape(c: char, is_ascii: bool, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        c if c < ' ' || (is_ascii && c > '~') => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
        c => out.push(c),
    }
}
