//! Writing GGUF files, good ones and broken ones.

use wick_format::{Gguf, Kind, Value as Read};
use wick_kernels::Format;

/// A metadata value that is owned.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are those of Kind")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(Vec<u8>),
    Array(Kind, Vec<Value>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// An array of values of one type; what type an empty one has must be said with [`Value::Array`].
    pub fn array<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> Value {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        Value::Array(values.first().expect("an element that gives the type").kind(), values)
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
            Value::Array(..) => Kind::Array,
            Value::U64(_) => Kind::U64,
            Value::I64(_) => Kind::I64,
            Value::F64(_) => Kind::F64,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(x) => out.push(*x),
            Value::I8(x) => out.push(x.cast_unsigned()),
            Value::Bool(x) => out.push((*x).into()),
            Value::U16(x) => out.extend(x.to_le_bytes()),
            Value::I16(x) => out.extend(x.to_le_bytes()),
            Value::U32(x) => out.extend(x.to_le_bytes()),
            Value::I32(x) => out.extend(x.to_le_bytes()),
            Value::F32(x) => out.extend(x.to_le_bytes()),
            Value::U64(x) => out.extend(x.to_le_bytes()),
            Value::I64(x) => out.extend(x.to_le_bytes()),
            Value::F64(x) => out.extend(x.to_le_bytes()),
            Value::String(x) => write_string(x, out),
            Value::Array(kind, values) => {
                out.extend((*kind as u32).to_le_bytes());
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| value.write(out));
            }
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),*) => {$(
        impl From<$from> for Value {
            fn from(x: $from) -> Value {
                Value::$variant(x)
            }
        }
    )*};
}
value_from!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool);
value_from!(Vec<u8> => String, u64 => U64, i64 => I64, f64 => F64);

impl From<&str> for Value {
    fn from(x: &str) -> Value {
        Value::String(x.into())
    }
}

impl From<String> for Value {
    fn from(x: String) -> Value {
        Value::String(x.into())
    }
}

impl From<Read<'_>> for Value {
    fn from(read: Read<'_>) -> Value {
        match read {
            Read::U8(x) => Value::U8(x),
            Read::I8(x) => Value::I8(x),
            Read::U16(x) => Value::U16(x),
            Read::I16(x) => Value::I16(x),
            Read::U32(x) => Value::U32(x),
            Read::I32(x) => Value::I32(x),
            Read::F32(x) => Value::F32(x),
            Read::Bool(x) => Value::Bool(x),
            Read::String(x) => Value::String(x.into()),
            Read::Array(x) => Value::Array(x.kind(), x.iter().map(Value::from).collect()),
            Read::U64(x) => Value::U64(x),
            Read::I64(x) => Value::I64(x),
            Read::F64(x) => Value::F64(x),
        }
    }
}

/// A tensor to be written; everything may be a lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: Vec<u8>,
    /// Its dimensions, the length of a row first.
    pub dims: Vec<u64>,
    /// The number of its format, `ggml_type`.
    pub number: u32,
    /// Its bytes.
    pub data: Vec<u8>,
    /// Where the table says it is, if not where it is.
    pub offset: Option<u64>,
}

/// A GGUF file to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Writer {
    /// Version of the format.
    pub version: u32,
    /// What offsets are a multiple of; the key `general.alignment` is the caller's to [`set`](Writer::set).
    pub alignment: usize,
    /// Keys and values, in order.
    pub entries: Vec<(Vec<u8>, Value)>,
    /// Tensors, in order.
    pub tensors: Vec<Tensor>,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer { version: 3, alignment: 32, entries: Vec::new(), tensors: Vec::new() }
    }
}

/// A file as it was read, to be changed. Tensors of an unknown format have no data.
impl From<&Gguf<'_>> for Writer {
    fn from(gguf: &Gguf<'_>) -> Writer {
        let tensor = |t: wick_format::Tensor<'_>| Tensor {
            name: t.name().into(),
            dims: t.dims().as_slice().iter().map(|&d| d as u64).collect(),
            number: t.number(),
            data: t.bytes().unwrap_or_default().into(),
            offset: None,
        };
        Writer {
            version: gguf.version(),
            alignment: gguf.alignment(),
            entries: gguf.entries().map(|e| (e.key.into(), e.value.into())).collect(),
            tensors: gguf.tensors().map(tensor).collect(),
        }
    }
}

impl Writer {
    /// Sets the value of a key, which is added at the end where it is not there.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Writer {
        let value = value.into();
        match self.entries.iter_mut().find(|(k, _)| k == key.as_bytes()) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key.into(), value)),
        }
        self
    }

    /// Removes a key that is there.
    pub fn remove(&mut self, key: &str) -> &mut Writer {
        let before = self.entries.len();
        self.entries.retain(|(k, _)| k != key.as_bytes());
        assert_ne!(before, self.entries.len(), "no key {key}");
        self
    }

    /// Adds a tensor; its first dimension is the length of a row.
    pub fn add(
        &mut self,
        name: &str,
        format: Format,
        dims: &[usize],
        data: Vec<u8>,
    ) -> &mut Writer {
        self.tensors.push(Tensor {
            name: name.into(),
            dims: dims.iter().map(|&d| d as u64).collect(),
            number: format.ggml(),
            data,
            offset: None,
        });
        self
    }

    /// A tensor that is there, to be changed.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|t| t.name == name.as_bytes());
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Removes a tensor that is there.
    pub fn remove_tensor(&mut self, name: &str) -> &mut Writer {
        let before = self.tensors.len();
        self.tensors.retain(|t| t.name != name.as_bytes());
        assert_ne!(before, self.tensors.len(), "no tensor {name}");
        self
    }

    /// The parts of a split file, with as many tensors each; all metadata are in the first.
    pub fn split(&self, tensors_each: usize) -> Vec<Writer> {
        let chunks: Vec<&[Tensor]> = self.tensors.chunks(tensors_each).collect();
        let part = |(number, chunk): (usize, &&[Tensor])| {
            let entries = if number == 0 { self.entries.clone() } else { Vec::new() };
            let mut part = Writer { entries, tensors: chunk.to_vec(), ..*self };
            part.set("split.no", number as u16).set("split.count", chunks.len() as u16);
            part.set("split.tensors.count", self.tensors.len() as i32);
            part
        };
        chunks.iter().enumerate().map(part).collect()
    }

    /// The bytes of the file before its data: header, metadata and tensor table.
    pub fn head(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            write_string(key, &mut out);
            out.extend((value.kind() as u32).to_le_bytes());
            value.write(&mut out);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            write_string(&tensor.name, &mut out);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(tensor.number.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(offset).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(self.alignment) as u64;
        }
        out
    }

    /// The whole file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.head();
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&tensor.data);
        }
        out
    }
}

fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}
