//! Parts of values: attributes, items, slices.

use super::budget::Budget;
use super::error::{Result, TemplateError};
use super::text::{Builder, Text};
use super::value::Value;

/// `value.name` where the value is no object of the renderer: an entry of a dictionary.
pub(crate) fn attribute(value: &Value, name: &str) -> Result<Value> {
    match value {
        Value::Map(map) => Ok(map.get(name).cloned().unwrap_or(Value::Undefined)),
        Value::Undefined => Err(TemplateError::failed(format_args!("{name} of what is undefined"))),
        _ => Ok(Value::Undefined),
    }
}

/// `value[index]`
pub(crate) fn item(value: &Value, index: &Value, budget: &Budget) -> Result<Value> {
    match (value, index) {
        (Value::Map(map), Value::Text(key)) => {
            Ok(map.get(key).cloned().unwrap_or(Value::Undefined))
        }
        (Value::List(list), index) => {
            let place = index.as_int().and_then(|index| place(index, list.items().len()));
            Ok(place.map_or(Value::Undefined, |place| list.items()[place].clone()))
        }
        (Value::Text(text), index) => {
            budget.read(text.len())?;
            let count = text.chars().count();
            let Some(place) = index.as_int().and_then(|index| place(index, count)) else {
                return Ok(Value::Undefined);
            };
            let found =
                text.char_indices().nth(place).map_or(0..0, |(at, c)| at..at + c.len_utf8());
            text.slice(found, budget).map(Value::Text)
        }
        (Value::Undefined, _) => Err(TemplateError::failed("an item of what is undefined")),
        _ => Ok(Value::Undefined),
    }
}

/// An index from the front or, if it is negative, from the back.
fn place(index: i64, count: usize) -> Option<usize> {
    let from_front = if index < 0 { index + count as i64 } else { index };
    usize::try_from(from_front).ok().filter(|&place| place < count)
}

/// `value[start:stop:step]`
pub(crate) fn slice(value: &Value, bounds: [Option<i64>; 3], budget: &Budget) -> Result<Value> {
    match value {
        Value::List(list) => {
            let places = places(bounds, list.items().len())?;
            let items = places.into_iter().map(|place| list.items()[place].clone()).collect();
            Value::sequence(items, list.is_tuple(), budget)
        }
        Value::Text(text) => slice_text(text, bounds, budget).map(Value::Text),
        Value::Undefined => Err(TemplateError::failed("a slice of what is undefined")),
        _ => Ok(Value::Undefined),
    }
}

fn slice_text(text: &Text, bounds: [Option<i64>; 3], budget: &Budget) -> Result<Text> {
    budget.take(text.len() * size_of::<usize>())?;
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let places = places(bounds, starts.len())?;
    let end = |place: usize| starts.get(place + 1).copied().unwrap_or(text.len());
    if let ([first, ..], None | Some(1)) = (places.as_slice(), bounds[2]) {
        return text.slice(starts[*first]..end(places[places.len() - 1]), budget);
    }
    let mut out = Builder::new(budget);
    for place in places {
        out.push_slice(text, starts[place]..end(place))?;
    }
    out.finish()
}

/// The places that a slice of `count` items has, in order.
fn places([start, stop, step]: [Option<i64>; 3], count: usize) -> Result<Vec<usize>> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(TemplateError::failed("a slice by steps of 0"));
    }
    let count = count as i64;
    let (low, high) = if step > 0 { (0, count) } else { (-1, count - 1) };
    let bound = |bound: i64| if bound < 0 { bound.saturating_add(count) } else { bound };
    let start = start.map_or(if step > 0 { low } else { high }, |at| bound(at).clamp(low, high));
    let stop = stop.map_or(if step > 0 { high } else { low }, |at| bound(at).clamp(low, high));
    let goes_on = |at: &i64| if step > 0 { *at < stop } else { *at > stop };
    let all = std::iter::successors(Some(start), |at| at.checked_add(step));
    Ok(all.take_while(goes_on).map(|at| at as usize).collect())
}
