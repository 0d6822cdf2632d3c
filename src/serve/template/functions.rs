//! Functions that all templates have, but for `namespace`, which the renderer keeps.

use super::arguments::Arguments;
use super::budget::Budget;
use super::date::Moment;
use super::error::{Result, TemplateError};
use super::show;
use super::text::Text;
use super::value::Value;

/// Largest range, which is that of Jinja2's sandbox.
const LONGEST: i64 = 100_000;

/// Functions by their names.
const NAMES: [&str; 5] = ["range", "dict", "namespace", "raise_exception", "strftime_now"];

/// The name as it lives as long as the program, if a function has it.
pub(crate) fn find(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// What a function gives.
pub(crate) fn call(
    name: &str,
    arguments: Arguments,
    now: Moment,
    budget: &Budget,
) -> Result<Value> {
    match name {
        "range" => range(arguments, budget),
        "dict" => Value::map(entries(arguments)?, budget),
        "raise_exception" => {
            let bound = arguments.bind(name, ["message"])?;
            Err(TemplateError::raised(&show::text(bound.need(0)?, budget)?))
        }
        "strftime_now" => {
            let bound = arguments.bind(name, ["format"])?;
            let format = bound.need_text(0)?;
            // A directive grows to ten bytes or so.
            budget.take(16 * format.len())?;
            Ok(Value::Text(Text::of(now.format(format), format.has_user())))
        }
        _ => Err(TemplateError::failed(format_args!("no function is called {name}"))),
    }
}

fn range(arguments: Arguments, budget: &Budget) -> Result<Value> {
    let bound = arguments.bind("range", ["start", "stop", "step"])?;
    let first = bound.int(0)?.unwrap_or(0);
    let (start, stop) = match bound.int(1)? {
        Some(stop) => (first, stop),
        None => (0, first),
    };
    let step = bound.int(2)?.unwrap_or(1);
    if step == 0 {
        return Err(TemplateError::failed("range by steps of 0"));
    }
    let (distance, width) = match step > 0 {
        true => (i128::from(stop) - i128::from(start), i128::from(step)),
        false => (i128::from(start) - i128::from(stop), -i128::from(step)),
    };
    let count = (distance.max(0) + width - 1) / width;
    if count > i128::from(LONGEST) {
        return Err(TemplateError::limit(format_args!("a range of more than {LONGEST}")));
    }
    budget.take(count as usize * size_of::<Value>())?;
    // Wrapping on the way is undone: each item lies between start and stop.
    let item = |index: i64| Value::Int(start.wrapping_add(index.wrapping_mul(step)));
    let items = (0..count as i64).map(item);
    Value::list(items.collect(), budget)
}

/// The entries of a dictionary and those that are named.
pub(crate) fn entries(arguments: Arguments) -> Result<Vec<(Text, Value)>> {
    let mut entries = Vec::new();
    for value in arguments.positional {
        match value {
            Value::Map(map) => entries.extend_from_slice(map.entries()),
            other => {
                let message = format_args!("a dictionary expected, {} found", other.kind());
                return Err(TemplateError::failed(message));
            }
        }
    }
    let named = arguments.named.into_iter().map(|(name, value)| (Text::trusted(name), value));
    entries.extend(named);
    Ok(entries)
}
