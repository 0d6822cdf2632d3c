//! Values as Python writes them.

use super::budget::Budget;
use super::error::{Result, TemplateError};
use super::text::{Builder, Text};
use super::value::{List, Map, Value};

/// Python's `str` of a value.
pub(crate) fn text(value: &Value, budget: &Budget) -> Result<Text> {
    if let Value::Text(text) = value {
        return Ok(text.clone());
    }
    let mut out = Builder::new(budget);
    write(value, &mut out)?;
    out.finish()
}

/// Appends Python's `str` of a value; nothing for what is undefined.
pub(crate) fn write(value: &Value, out: &mut Builder<'_>) -> Result<()> {
    match value {
        Value::Text(text) => out.push(text),
        Value::Undefined => Ok(()),
        other => write_repr(other, out),
    }
}

/// Appends Python's `repr` of a value.
fn write_repr(value: &Value, out: &mut Builder<'_>) -> Result<()> {
    match value {
        Value::Undefined => out.push_str("Undefined"),
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Text(text) => write_quoted(text, out),
        Value::List(list) => write_list(list, out),
        Value::Map(map) => write_map(map, out),
        Value::Object(_) => {
            Err(TemplateError::failed(format_args!("a {} cannot be written", value.kind())))
        }
    }
}

fn write_list(list: &List, out: &mut Builder<'_>) -> Result<()> {
    let (open, close) = if list.is_tuple() { ("(", ")") } else { ("[", "]") };
    out.push_str(open)?;
    for (index, item) in list.items().iter().enumerate() {
        if index > 0 {
            out.push_str(", ")?;
        }
        write_repr(item, out)?;
    }
    if list.is_tuple() && list.items().len() == 1 {
        out.push_str(",")?;
    }
    out.push_str(close)
}

fn write_map(map: &Map, out: &mut Builder<'_>) -> Result<()> {
    out.push_str("{")?;
    for (index, (key, value)) in map.entries().iter().enumerate() {
        if index > 0 {
            out.push_str(", ")?;
        }
        write_quoted(key, out)?;
        out.push_str(": ")?;
        write_repr(value, out)?;
    }
    out.push_str("}")
}

/// A text in quotes: single ones unless it has such and no double ones.
fn write_quoted(text: &Text, out: &mut Builder<'_>) -> Result<()> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push_str(quote.encode_utf8(&mut [0; 4]))?;
    for (range, user) in text.runs(0..text.len()) {
        let escaped: String = text[range].chars().map(|c| escaped(c, quote)).collect();
        out.push_as(&escaped, user)?;
    }
    out.push_str(quote.encode_utf8(&mut [0; 4]))
}

fn escaped(c: char, quote: char) -> String {
    let code = u32::from(c);
    match c {
        '\\' => "\\\\".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        c if c == quote => format!("\\{c}"),
        ' ' => " ".into(),
        c if !c.is_control() && !c.is_whitespace() && code != 0xad => c.into(),
        _ if code < 0x100 => format!("\\x{code:02x}"),
        _ => format!("\\u{code:04x}"),
    }
}

/// A number with a fraction, as short as it can be told from all others.
pub(crate) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
