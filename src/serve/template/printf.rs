//! Python's `%` for texts: `'%s has %.1f' % (name, number)`.

use super::budget::Budget;
use super::error::{Result, TemplateError};
use super::show;
use super::text::{Builder, Text};
use super::value::Value;

/// Most digits after the point: no number with a fraction has more that are not zero.
const MOST_DIGITS: usize = 1100;

/// One place of a format, such as `%-8.3f`.
struct Place<'f> {
    name: Option<&'f str>,
    flags: &'f str,
    width: usize,
    precision: Option<usize>,
    kind: char,
}

/// The format with values at its places, in turn or by name.
pub(crate) fn format(
    format: &Text,
    values: &[Value],
    named: &[(String, Value)],
    budget: &Budget,
) -> Result<Text> {
    let mut out = Builder::new(budget);
    let mut values = values.iter();
    let mut at = 0;
    while let Some(percent) = format[at..].find('%') {
        out.push_slice(format, at..at + percent)?;
        at += percent + 1;
        let (place, bytes) = read(&format[at..])?;
        at += bytes;
        if place.kind == '%' {
            out.push_str("%")?;
            continue;
        }
        let value = match place.name {
            Some(name) => named.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            None => values.next(),
        };
        let missing = || TemplateError::failed("a format has more places than values");
        write(&place, value.ok_or_else(missing)?, &mut out, budget)?;
    }
    out.push_slice(format, at..format.len())?;
    if values.next().is_some() && named.is_empty() {
        return Err(TemplateError::failed("a format has fewer places than values"));
    }
    out.finish()
}

/// A place after its `%`, and how many bytes it has.
fn read(text: &str) -> Result<(Place<'_>, usize)> {
    let mut rest = text;
    let mut name = None;
    if let Some((inner, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        (name, rest) = (Some(inner), after);
    }
    let flags = rest.len() - rest.trim_start_matches(['-', '+', ' ', '0', '#']).len();
    let (flags, after) = rest.split_at(flags);
    let (width, after) = number(after)?;
    let (precision, after) = match after.strip_prefix('.') {
        Some(after) => number(after).map(|(digits, after)| (Some(digits), after))?,
        None => (None, after),
    };
    let kind = after.chars().next();
    let kind = kind.ok_or_else(|| TemplateError::failed("a format ends in the middle"))?;
    let bytes = text.len() - after.len() + kind.len_utf8();
    Ok((Place { name, flags, width, precision, kind }, bytes))
}

fn number(text: &str) -> Result<(usize, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let too_large = |_| TemplateError::limit("a format with a number that is too large");
    let number = if digits.is_empty() { 0 } else { digits.parse().map_err(too_large)? };
    Ok((number, rest))
}

fn write(place: &Place<'_>, value: &Value, out: &mut Builder<'_>, budget: &Budget) -> Result<()> {
    let text = formatted(place, value, budget)?;
    let missing = place.width.saturating_sub(text.chars().count());
    let is_number = !matches!(place.kind, 's' | 'r');
    if place.flags.contains('-') {
        out.push(&text)?;
        return out.push_times(&Text::trusted(" "), missing);
    }
    if place.flags.contains('0') && is_number {
        let sign = usize::from(text.starts_with(['-', '+', ' ']));
        out.push_slice(&text, 0..sign)?;
        out.push_times(&Text::trusted("0"), missing)?;
        return out.push_slice(&text, sign..text.len());
    }
    out.push_times(&Text::trusted(" "), missing)?;
    out.push(&text)
}

/// A value without the spaces around it.
fn formatted(place: &Place<'_>, value: &Value, budget: &Budget) -> Result<Text> {
    let digits = place.precision.unwrap_or(6);
    if digits > MOST_DIGITS && place.kind != 's' {
        let message = format_args!("a format asks for {digits} digits, of {MOST_DIGITS} at most");
        return Err(TemplateError::limit(message));
    }
    let number = || value.as_float().ok_or_else(|| no_number(place, value));
    let text = match place.kind {
        's' => return string(place, value, budget),
        'd' | 'i' | 'u' => match value.as_int() {
            Some(number) => number.to_string(),
            None => format!("{:.0}", number()?.trunc()),
        },
        'x' | 'o' | 'X' => integer(place, value)?,
        'f' | 'F' => format!("{:.digits$}", number()?),
        'e' | 'E' => exponential(number()?, digits, place.kind),
        kind => {
            return Err(TemplateError::failed(format_args!(
                "a format with %{kind} is unsupported"
            )));
        }
    };
    let is_negative = text.starts_with('-');
    let sign = ["+", " "].into_iter().find(|sign| !is_negative && place.flags.contains(sign));
    Ok(Text::trusted(sign.unwrap_or_default().to_owned() + &text))
}

fn no_number(place: &Place<'_>, value: &Value) -> TemplateError {
    let message = format_args!("%{} takes a number, not {}", place.kind, value.kind());
    TemplateError::failed(message)
}

/// The first characters of a value's text.
fn string(place: &Place<'_>, value: &Value, budget: &Budget) -> Result<Text> {
    let text = show::text(value, budget)?;
    let most = place.precision.unwrap_or(usize::MAX);
    let end = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    text.slice(0..end, budget)
}

/// An integer to another base.
fn integer(place: &Place<'_>, value: &Value) -> Result<String> {
    let number = value.as_int().ok_or_else(|| no_number(place, value))?;
    let sign = if number < 0 { "-" } else { "" };
    let size = number.unsigned_abs();
    Ok(match place.kind {
        'x' => format!("{sign}{size:x}"),
        'X' => format!("{sign}{size:X}"),
        _ => format!("{sign}{size:o}"),
    })
}

fn exponential(number: f64, digits: usize, kind: char) -> String {
    let text = format!("{number:.digits$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}{kind}{sign}{:02}", exponent.abs())
}
