//! Metadata values.

use core::fmt;

use crate::cursor::Cursor;
use crate::error::Error;
use crate::kind::Kind;
use crate::place::Found;

/// Arrays within arrays that are followed.
pub const MAX_DEPTH: usize = 4;

/// A metadata value, borrowed from the file.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the variants are those of Kind")]
pub enum Value<'m> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Usually UTF-8, but not always in tokenizers.
    String(&'m [u8]),
    Array(Array<'m>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'m> Value<'m> {
    /// Reads a value; of an array the head only, and the cursor then stands at its elements.
    pub(crate) fn read(cursor: &mut Cursor<'m>, kind: Kind) -> Result<Value<'m>, Error<'m>> {
        Ok(match kind {
            Kind::U8 => Value::U8(cursor.u8()?),
            Kind::I8 => Value::I8(cursor.u8()?.cast_signed()),
            Kind::U16 => Value::U16(cursor.u16()?),
            Kind::I16 => Value::I16(cursor.u16()?.cast_signed()),
            Kind::U32 => Value::U32(cursor.u32()?),
            Kind::I32 => Value::I32(cursor.u32()?.cast_signed()),
            Kind::F32 => Value::F32(f32::from_bits(cursor.u32()?)),
            Kind::Bool => Value::Bool(boolean(cursor)?),
            Kind::String => Value::String(cursor.string()?),
            Kind::Array => Value::Array(Array::read(cursor)?),
            Kind::U64 => Value::U64(cursor.u64()?),
            Kind::I64 => Value::I64(cursor.u64()?.cast_signed()),
            Kind::F64 => Value::F64(f64::from_bits(cursor.u64()?)),
        })
    }

    /// Checks a value and moves past it.
    pub(crate) fn skip(cursor: &mut Cursor<'m>, kind: Kind) -> Result<(), Error<'m>> {
        match Value::read(cursor, kind)? {
            Value::Array(array) => array.skip(cursor, 1),
            _ => Ok(()),
        }
    }

    /// The type of the value.
    pub fn kind(&self) -> Kind {
        match self {
            Value::U8(_) => Kind::U8,
            Value::I8(_) => Kind::I8,
            Value::U16(_) => Kind::U16,
            Value::I16(_) => Kind::I16,
            Value::U32(_) => Kind::U32,
            Value::I32(_) => Kind::I32,
            Value::F32(_) => Kind::F32,
            Value::Bool(_) => Kind::Bool,
            Value::String(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::U64(_) => Kind::U64,
            Value::I64(_) => Kind::I64,
            Value::F64(_) => Kind::F64,
        }
    }

    /// An integer of any width; a u64 beyond `i64::MAX` is none.
    pub fn integer(&self) -> Option<i64> {
        Some(match *self {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::I64(x) => x,
            Value::U64(x) => i64::try_from(x).ok()?,
            _ => return None,
        })
    }
}

impl<'m> From<&Value<'m>> for Found<'m> {
    fn from(value: &Value<'m>) -> Found<'m> {
        match *value {
            Value::F32(x) => Found::Float(x.into()),
            Value::F64(x) => Found::Float(x),
            Value::Bool(x) => Found::Bool(x),
            Value::U64(x) => i64::try_from(x).map_or(Found::Unsigned(x), Found::Integer),
            Value::Array(x) => Found::Array(x.kind(), x.len()),
            Value::String(x) => {
                core::str::from_utf8(x).map_or(Found::Kind(Kind::String), Found::Text)
            }
            _ => value.integer().map_or(Found::Kind(value.kind()), Found::Integer),
        }
    }
}

/// Reads the type of a value.
pub(crate) fn read_kind<'m>(cursor: &mut Cursor<'m>) -> Result<Kind, Error<'m>> {
    let at = cursor.at();
    let found = cursor.u32()?;
    Kind::ALL.get(found as usize).copied().ok_or(Error::Malformed {
        place: cursor.place,
        at,
        expected: "a value type from 0 to 12",
        found: found.into(),
    })
}

fn boolean<'m>(cursor: &mut Cursor<'m>) -> Result<bool, Error<'m>> {
    let (place, at) = (cursor.place, cursor.at());
    match cursor.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        found => {
            let (expected, found) = ("a bool of 0 or 1", found.into());
            Err(Error::Malformed { place, at, expected, found })
        }
    }
}

/// An array of metadata values, borrowed from the file.
#[derive(Clone, Copy)]
pub struct Array<'m> {
    kind: Kind,
    len: usize,
    elements: Cursor<'m>,
}

impl<'m> Array<'m> {
    fn read(cursor: &mut Cursor<'m>) -> Result<Array<'m>, Error<'m>> {
        let kind = read_kind(cursor)?;
        let len = cursor.u64()?;
        cursor.expect(len, kind.least_bytes())?;
        // That many bytes remain, so the number fits.
        Ok(Array { kind, len: len as usize, elements: *cursor })
    }

    /// Checks the elements and moves past them; this is array number `depth` of those around it.
    fn skip(&self, cursor: &mut Cursor<'m>, depth: usize) -> Result<(), Error<'m>> {
        if depth > MAX_DEPTH {
            let at = cursor.at();
            return Err(cursor.limit(at, "arrays within each other", MAX_DEPTH, depth as u64));
        }
        match self.kind {
            Kind::String => (0..self.len).try_for_each(|_| cursor.string().map(drop)),
            Kind::Bool => (0..self.len).try_for_each(|_| boolean(cursor).map(drop)),
            Kind::Array => {
                (0..self.len).try_for_each(|_| Array::read(cursor)?.skip(cursor, depth + 1))
            }
            kind => cursor.take((self.len * kind.least_bytes()) as u64).map(drop),
        }
    }

    /// The type of the elements.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements.
    pub fn iter(&self) -> Values<'m> {
        Values { kind: self.kind, left: self.len, cursor: self.elements }
    }

    /// The elements of an array of strings, else `None`.
    pub fn strings(&self) -> Option<Strings<'m>> {
        (self.kind == Kind::String).then(|| Strings(self.iter()))
    }

    /// The elements of an array of integers, else `None`. Also `None` if one is beyond `i64::MAX`.
    pub fn integers(&self) -> Option<Integers<'m>> {
        let fits = match self.kind {
            Kind::F32 | Kind::F64 | Kind::Bool | Kind::String | Kind::Array => false,
            Kind::U64 => self.iter().all(|value| value.integer().is_some()),
            _ => true,
        };
        fits.then(|| Integers(self.iter()))
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.kind, self.len)
    }
}

impl<'m> IntoIterator for Array<'m> {
    type Item = Value<'m>;
    type IntoIter = Values<'m>;

    fn into_iter(self) -> Values<'m> {
        self.iter()
    }
}

/// Iterates over the values of an [`Array`].
#[derive(Clone)]
pub struct Values<'m> {
    kind: Kind,
    left: usize,
    cursor: Cursor<'m>,
}

impl<'m> Iterator for Values<'m> {
    type Item = Value<'m>;

    fn next(&mut self) -> Option<Value<'m>> {
        self.left = self.left.checked_sub(1)?;
        // The parser has walked the array: nothing here can fail.
        let value = Value::read(&mut self.cursor, self.kind).ok()?;
        if let Value::Array(array) = value {
            array.skip(&mut self.cursor, 1).ok()?;
        }
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }

    /// Goes straight to the element where all are of one size.
    fn nth(&mut self, n: usize) -> Option<Value<'m>> {
        let skipped = n.min(self.left);
        match self.kind {
            Kind::String | Kind::Array => {
                for _ in 0..skipped {
                    self.next()?;
                }
            }
            kind => {
                self.cursor.take((skipped * kind.least_bytes()) as u64).ok()?;
                self.left -= skipped;
            }
        }
        self.next()
    }
}

impl ExactSizeIterator for Values<'_> {}

/// Iterates over the strings of an [`Array`], as the bytes that the file has.
#[derive(Clone)]
pub struct Strings<'m>(Values<'m>);

impl<'m> Iterator for Strings<'m> {
    type Item = &'m [u8];

    fn next(&mut self) -> Option<&'m [u8]> {
        self.0.left = self.0.left.checked_sub(1)?;
        self.0.cursor.string().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Strings<'_> {}

/// Iterates over the integers of an [`Array`], whatever their width.
#[derive(Clone)]
pub struct Integers<'m>(Values<'m>);

impl Iterator for Integers<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        self.0.next()?.integer()
    }

    fn nth(&mut self, n: usize) -> Option<i64> {
        self.0.nth(n)?.integer()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Integers<'_> {}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({}; {})", self.kind, self.left)
    }
}

impl fmt::Debug for Strings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Strings({})", self.0.left)
    }
}

impl fmt::Debug for Integers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Integers({}; {})", self.0.kind, self.0.left)
    }
}
