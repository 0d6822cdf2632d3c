//! The metadata of GGUF files (version 3), as they are written.

use wick_format::{Array, Kind, Value};

/// What offsets are a multiple of where a file does not say.
const ALIGNMENT: usize = 32;

/// Keys and values, in the form that the file has.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub(crate) alignment: usize,
    /// Where the alignment stands, if it is said.
    alignment_at: Option<usize>,
    pub(crate) count: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Default for Metadata {
    fn default() -> Metadata {
        Metadata { alignment: ALIGNMENT, alignment_at: None, count: 0, bytes: Vec::new() }
    }
}

impl Metadata {
    /// Metadata that say that tensors lie at multiples of `alignment`, a power of two.
    pub fn with_alignment(alignment: u32) -> Metadata {
        let mut metadata = Metadata::default();
        metadata.align(alignment);
        metadata
    }

    /// Says that tensors lie at multiples of `alignment`, a power of two.
    pub fn align(&mut self, alignment: u32) -> &mut Metadata {
        self.alignment = alignment as usize;
        self.u32("general.alignment", alignment);
        self.alignment_at = Some(self.bytes.len() - size_of::<u32>());
        self
    }

    /// Says another alignment in place of the one that is said, if there is one, which it returns.
    pub(crate) fn realign(&mut self, alignment: u32) -> Option<u32> {
        let Some(at) = self.alignment_at else {
            self.align(alignment);
            return None;
        };
        let said = std::mem::replace(&mut self.alignment, alignment as usize);
        self.bytes[at..][..size_of::<u32>()].copy_from_slice(&alignment.to_le_bytes());
        Some(said as u32)
    }

    /// Adds a value as it was read.
    pub fn value(&mut self, key: &str, value: Value<'_>) -> &mut Metadata {
        self.add(key, value.kind(), &[]);
        push_value(value, &mut self.bytes);
        self
    }

    /// Adds an unsigned integer of 32 bits.
    pub fn u32(&mut self, key: &str, value: u32) -> &mut Metadata {
        self.add(key, Kind::U32, &value.to_le_bytes())
    }

    /// Adds a signed integer of 32 bits.
    pub fn integer(&mut self, key: &str, value: i32) -> &mut Metadata {
        self.add(key, Kind::I32, &value.to_le_bytes())
    }

    /// Adds a float of 32 bits.
    pub fn f32(&mut self, key: &str, value: f32) -> &mut Metadata {
        self.add(key, Kind::F32, &value.to_le_bytes())
    }

    /// Adds a truth value.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Metadata {
        self.add(key, Kind::Bool, &[value.into()])
    }

    /// Adds a text.
    pub fn str(&mut self, key: &str, value: &str) -> &mut Metadata {
        self.add(key, Kind::String, &[]);
        push_string(value, &mut self.bytes);
        self
    }

    /// Adds an array of integers of 32 bits.
    pub fn integers(&mut self, key: &str, values: &[i32]) -> &mut Metadata {
        self.add_array(key, Kind::I32, values.len());
        values.iter().for_each(|value| self.bytes.extend(value.to_le_bytes()));
        self
    }

    /// Adds an array of unsigned integers of 32 bits.
    pub fn u32s(&mut self, key: &str, values: &[u32]) -> &mut Metadata {
        self.add_array(key, Kind::U32, values.len());
        values.iter().for_each(|value| self.bytes.extend(value.to_le_bytes()));
        self
    }

    /// Adds an array of truth values.
    pub fn bools(&mut self, key: &str, values: &[bool]) -> &mut Metadata {
        self.add_array(key, Kind::Bool, values.len());
        self.bytes.extend(values.iter().map(|&value| u8::from(value)));
        self
    }

    /// Adds an array of texts.
    pub fn strings<T: AsRef<str>>(&mut self, key: &str, values: &[T]) -> &mut Metadata {
        self.add_array(key, Kind::String, values.len());
        values.iter().for_each(|value| push_string(value.as_ref(), &mut self.bytes));
        self
    }

    fn add_array(&mut self, key: &str, kind: Kind, len: usize) {
        self.add(key, Kind::Array, &(kind as u32).to_le_bytes());
        self.bytes.extend((len as u64).to_le_bytes());
    }

    fn add(&mut self, key: &str, kind: Kind, value: &[u8]) -> &mut Metadata {
        push_string(key, &mut self.bytes);
        self.bytes.extend((kind as u32).to_le_bytes());
        self.bytes.extend(value);
        self.count += 1;
        self
    }
}

/// A text as the file has it: its length, then its bytes.
pub(crate) fn push_string(text: &str, out: &mut Vec<u8>) {
    push_bytes(text.as_bytes(), out);
}

fn push_bytes(text: &[u8], out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

fn push_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::U8(x) => out.push(x),
        Value::I8(x) => out.push(x.cast_unsigned()),
        Value::Bool(x) => out.push(x.into()),
        Value::U16(x) => out.extend(x.to_le_bytes()),
        Value::I16(x) => out.extend(x.to_le_bytes()),
        Value::U32(x) => out.extend(x.to_le_bytes()),
        Value::I32(x) => out.extend(x.to_le_bytes()),
        Value::F32(x) => out.extend(x.to_bits().to_le_bytes()),
        Value::U64(x) => out.extend(x.to_le_bytes()),
        Value::I64(x) => out.extend(x.to_le_bytes()),
        Value::F64(x) => out.extend(x.to_bits().to_le_bytes()),
        Value::String(x) => push_bytes(x, out),
        Value::Array(x) => push_array(x, out),
    }
}

fn push_array(array: Array<'_>, out: &mut Vec<u8>) {
    out.extend((array.kind() as u32).to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    array.iter().for_each(|value| push_value(value, out));
}
