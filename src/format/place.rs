//! What errors name: places in a file and values there.

use core::fmt::{self, Write};

use crate::kind::Kind;

/// Where in a file something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'m> {
    /// Magic, version and counts.
    Header,
    /// A metadata entry whose key cannot be read, counted from 0.
    Entry(usize),
    /// The value of a key.
    Value(&'m str),
    /// An entry of the tensor table whose name cannot be read, counted from 0.
    TableEntry(usize),
    /// A tensor.
    Tensor(&'m str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Place::Header => f.write_str("header"),
            Place::Entry(number) => write!(f, "metadata entry {number}"),
            Place::TableEntry(number) => write!(f, "tensor table entry {number}"),
            Place::Value(name) | Place::Tensor(name) => write!(f, "{}", Shown(name)),
        }
    }
}

/// A value that was not expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'m> {
    /// An integer.
    Integer(i64),
    /// An integer beyond `i64::MAX`.
    Unsigned(u64),
    /// A number.
    Float(f64),
    /// A bool.
    Bool(bool),
    /// Text.
    Text(&'m str),
    /// An array, by the type of its elements and its length.
    Array(Kind, usize),
    /// Something else of a type.
    Kind(Kind),
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Integer(x) => write!(f, "{x}"),
            Found::Unsigned(x) => write!(f, "{x}"),
            Found::Float(x) => write!(f, "{x:?}"),
            Found::Bool(x) => write!(f, "{x}"),
            Found::Text(x) => write!(f, "\"{}\"", Shown(x)),
            Found::Array(kind, len) => write!(f, "an array of {len} × {kind}"),
            Found::Kind(Kind::String) => f.write_str("a string that is not UTF-8"),
            Found::Kind(kind) => write!(f, "a {kind}"),
        }
    }
}

/// A name from the file, made fit for a line of text.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 80;
        self.0.chars().take(MOST).flat_map(char::escape_debug).try_for_each(|c| f.write_char(c))?;
        if self.0.chars().nth(MOST).is_some() { f.write_char('…') } else { Ok(()) }
    }
}
