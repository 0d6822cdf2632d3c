//! Metadata values, shown shortly and compared.

use serde::Serialize;
use wick_format::{Array, Value};

/// Characters of a text that are shown, and entries of an array.
const TEXT: usize = 60;
const ENTRIES: usize = 4;

/// How two values of a key differ.
#[derive(Serialize)]
pub(super) struct Change {
    pub(super) a: String,
    pub(super) b: String,
    /// Of arrays, how many entries differ; those count that only one has.
    pub(super) differing: Option<usize>,
    /// Where arrays and long texts first differ.
    pub(super) first: Option<First>,
}

/// Where two values first differ, and how.
#[derive(Serialize)]
pub(super) struct First {
    /// The entry of an array, or the byte of a text.
    pub(super) at: usize,
    pub(super) a: Option<String>,
    pub(super) b: Option<String>,
}

/// A value, or its beginning if it is long. Control characters in it are escapes.
pub(super) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::U8(x) => x.to_string(),
        Value::I8(x) => x.to_string(),
        Value::U16(x) => x.to_string(),
        Value::I16(x) => x.to_string(),
        Value::U32(x) => x.to_string(),
        Value::I32(x) => x.to_string(),
        Value::F32(x) => x.to_string(),
        Value::Bool(x) => x.to_string(),
        Value::U64(x) => x.to_string(),
        Value::I64(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        Value::String(x) => text(x),
        Value::Array(x) => array(x),
    }
}

fn text(bytes: &[u8]) -> String {
    // No character has more bytes than four, and no more than these are looked at.
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * TEXT + 4)]).into_owned();
    match start.char_indices().nth(TEXT) {
        None => format!("{start:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", &start[..end], bytes.len()),
    }
}

fn array(array: &Array<'_>) -> String {
    let entry = |value: Value<'_>| match value {
        Value::Array(inner) => format!("[{} {}]", inner.len(), inner.kind()),
        value => shown(&value),
    };
    let entries: Vec<String> = array.iter().take(ENTRIES).map(entry).collect();
    match array.len() > ENTRIES {
        true => format!("[{}, … {} {}]", entries.join(", "), array.len(), array.kind()),
        false => format!("[{}]", entries.join(", ")),
    }
}

/// How two values differ, if they do.
pub(super) fn change(a: &Value<'_>, b: &Value<'_>) -> Option<Change> {
    let (differing, first) = match (a, b) {
        _ if is_same(a, b) => return None,
        (Value::Array(x), Value::Array(y)) if x.kind() == y.kind() => entries(x, y),
        (Value::String(x), Value::String(y)) => (None, bytes(x, y)),
        _ => (None, None),
    };
    Some(Change { a: shown(a), b: shown(b), differing, first })
}

fn is_same(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::F32(x), Value::F32(y)) => x.to_bits() == y.to_bits(),
        (Value::F64(x), Value::F64(y)) => x.to_bits() == y.to_bits(),
        (Value::Bool(x), Value::Bool(y)) => x == y,
        (Value::String(x), Value::String(y)) => x == y,
        (Value::U64(x), Value::U64(y)) => x == y,
        (Value::Array(x), Value::Array(y)) => {
            let is_alike = x.kind() == y.kind() && x.len() == y.len();
            is_alike && x.iter().zip(y.iter()).all(|(x, y)| is_same(&x, &y))
        }
        _ => a.kind() == b.kind() && a.integer().is_some() && a.integer() == b.integer(),
    }
}

/// How many entries of two arrays differ, and the first of them.
fn entries(x: &Array<'_>, y: &Array<'_>) -> (Option<usize>, Option<First>) {
    let (mut differing, mut first) = (0, None);
    let (mut left, mut right) = (x.iter(), y.iter());
    for at in 0..x.len().max(y.len()) {
        let (a, b) = (left.next(), right.next());
        if a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| is_same(a, b)) {
            continue;
        }
        differing += 1;
        first.get_or_insert_with(|| First {
            at,
            a: a.as_ref().map(shown),
            b: b.as_ref().map(shown),
        });
    }
    (Some(differing), first)
}

/// Where two texts first differ, if they are not shown as a whole.
fn bytes(x: &[u8], y: &[u8]) -> Option<First> {
    if x.len().max(y.len()) <= TEXT {
        return None;
    }
    let mut at = x.iter().zip(y).take_while(|(x, y)| x == y).count();
    // Both have the same bytes before; a character that differs in its last byte is shown as a whole.
    while at > 0 && x.get(at).or(y.get(at)).is_some_and(|byte| byte & 0xc0 == 0x80) {
        at -= 1;
    }
    let rest = |bytes: &[u8]| bytes.get(at..).filter(|rest| !rest.is_empty()).map(text);
    Some(First { at, a: rest(x), b: rest(y) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shown_where_they_differ() {
        let long = |end: &str| format!("{}{end}", "é".repeat(100));
        let (x, y) = (long("à la"), long("á la"));
        let change = change(&Value::String(x.as_bytes()), &Value::String(y.as_bytes())).unwrap();
        assert_eq!(change.a, format!("{:?}… (205 bytes)", "é".repeat(60)));
        let first = change.first.unwrap();
        assert_eq!(
            (first.at, &*first.a.unwrap(), &*first.b.unwrap()),
            (200, "\"à la\"", "\"á la\"")
        );
        let shorter = bytes(x.as_bytes(), &x.as_bytes()[..200]).unwrap();
        assert_eq!((shorter.at, shorter.b), (200, None));
        assert_eq!(shown(&Value::String(b"a\x1b\xff\n")), r#""a\u{1b}�\n""#);
    }

    #[test]
    fn values_of_other_types_differ() {
        assert!(is_same(&Value::F32(f32::NAN), &Value::F32(f32::NAN)));
        assert!(!is_same(&Value::F32(0.0), &Value::F32(-0.0)));
        assert!(!is_same(&Value::U8(1), &Value::U16(1)) && is_same(&Value::U8(1), &Value::U8(1)));
        assert!(is_same(&Value::U64(u64::MAX), &Value::U64(u64::MAX)));
        assert!(!is_same(&Value::U64(u64::MAX), &Value::U64(u64::MAX - 1)));
    }
}
