//! A GGUF file, checked once.

use heapless::Vec;

use crate::cursor::Cursor;
use crate::error::Error;
use crate::foreign;
use crate::place::Place;
use crate::tensor::Tensor;
use crate::value::{Array, Integers, Strings, Value, read_kind};

/// Metadata entries that a file may have; published ones have about 30.
pub const MAX_ENTRIES: usize = 512;
/// Tensors that a file may have; the largest published model has 523.
pub const MAX_TENSORS: usize = 2048;
/// Bytes of a key (GGUF specification).
const MAX_KEY: usize = 65_535;
const DEFAULT_ALIGNMENT: usize = 32;

/// A GGUF file: metadata and tensors, borrowed from its bytes.
#[derive(Clone)]
pub struct Gguf<'m> {
    /// The file, or its front.
    bytes: &'m [u8],
    /// Bytes of the file.
    len: u64,
    version: u32,
    alignment: usize,
    /// Where each metadata entry begins, in the order of the file.
    entries: Vec<u32, MAX_ENTRIES>,
    /// Where each entry of the tensor table begins, in the order of names.
    tensors: Vec<u32, MAX_TENSORS>,
    /// Where the tensor table begins.
    table: usize,
    /// Where it ends.
    table_end: usize,
    /// Where the data begin.
    data: usize,
}

impl<'m> Gguf<'m> {
    /// Reads and checks a whole file but for the values of its tensors.
    ///
    /// # Errors
    /// The first thing that is wrong. Never panics.
    pub fn parse(bytes: &'m [u8]) -> Result<Gguf<'m>, Error<'m>> {
        Gguf::parse_front(bytes, bytes.len() as u64)
    }

    /// Reads and checks a file of `len` bytes of which only the first are at hand, as on a board
    /// that cannot map it. Tensors that do not lie in `bytes` as a whole have a place but no bytes.
    /// How much must be at hand for the tensors that every token needs, [`Gguf::front_len`] tells.
    ///
    /// # Errors
    /// As [`Gguf::parse`]; [`Error::Cut`] if `bytes` end before the tensor table does: with more
    /// of them it may succeed.
    pub fn parse_front(bytes: &'m [u8], len: u64) -> Result<Gguf<'m>, Error<'m>> {
        let mut cursor = Cursor::new(bytes, 0, Place::Header);
        let version = read_version(bytes, &mut cursor)?;
        let tensors = read_count(&mut cursor, "tensors", MAX_TENSORS)?;
        let entries = read_count(&mut cursor, "metadata entries", MAX_ENTRIES)?;
        let mut gguf = Gguf {
            bytes,
            len,
            version,
            alignment: DEFAULT_ALIGNMENT,
            entries: Vec::new(),
            tensors: Vec::new(),
            table: 0,
            table_end: 0,
            data: 0,
        };
        gguf.read_entries(&mut cursor, entries)?;
        gguf.read_alignment()?;
        gguf.read_tensors(&mut cursor, tensors)?;
        Ok(gguf)
    }

    fn read_entries(&mut self, cursor: &mut Cursor<'m>, count: usize) -> Result<(), Error<'m>> {
        for number in 0..count {
            cursor.place = Place::Entry(number);
            let at = position(cursor)?;
            let key = cursor.text(MAX_KEY)?;
            cursor.place = Place::Value(key);
            let kind = read_kind(cursor)?;
            Value::skip(cursor, kind)?;
            push(&mut self.entries, at);
        }
        let mut by_key = self.entries.clone();
        by_key.sort_unstable_by_key(|&at| self.key_at(at));
        match by_key.windows(2).find(|pair| self.key_at(pair[0]) == self.key_at(pair[1])) {
            Some(pair) => Err(Error::Duplicate { place: Place::Value(self.key_at(pair[0])) }),
            None => Ok(()),
        }
    }

    fn read_alignment(&mut self) -> Result<(), Error<'m>> {
        if let Some(entry) = self.get("general.alignment") {
            let found = entry.u32()?;
            if found < 8 || !found.is_power_of_two() {
                let expected = "a power of two, 8 or more";
                return Err(entry.refuse(expected));
            }
            self.alignment = found as usize;
        }
        Ok(())
    }

    fn read_tensors(&mut self, cursor: &mut Cursor<'m>, count: usize) -> Result<(), Error<'m>> {
        self.table = cursor.at();
        for number in 0..count {
            cursor.place = Place::TableEntry(number);
            let at = position(cursor)?;
            Tensor::read(cursor, self.bytes)?;
            push(&mut self.tensors, at);
        }
        self.table_end = cursor.at();
        self.data = self.table_end.checked_next_multiple_of(self.alignment).unwrap_or(usize::MAX);
        let mut sorted = core::mem::take(&mut self.tensors);
        sorted.sort_unstable_by_key(|&at| self.name_at(at));
        if let Some(pair) = sorted.windows(2).find(|p| self.name_at(p[0]) == self.name_at(p[1])) {
            return Err(Error::Duplicate { place: Place::Tensor(self.name_at(pair[0])) });
        }
        self.tensors = sorted;
        self.check_data()
    }

    /// Checks that each tensor lies in the file and no two overlap.
    fn check_data(&self) -> Result<(), Error<'m>> {
        for tensor in self.table() {
            tensor.placed(self.data, self.alignment, self.len)?;
        }
        let mut by_place = self.tensors.clone();
        by_place.sort_unstable_by_key(|&at| self.tensor_at(at).map(|t| t.extent().0));
        for pair in by_place.windows(2) {
            let (Some(a), Some(b)) = (self.tensor_at(pair[0]), self.tensor_at(pair[1])) else {
                continue;
            };
            if a.extent().1 > b.extent().0 {
                let (name, other, at) = (b.name(), a.name(), b.extent().0);
                return Err(Error::Overlap { name, other, at });
            }
        }
        Ok(())
    }

    /// The bytes at hand: those of the whole file, but for [`Gguf::parse_front`].
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// Header, metadata and tensor table.
    pub fn head(&self) -> &'m [u8] {
        &self.bytes[..self.table_end]
    }

    /// Bytes of the whole file.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// Bytes from the start of the file to the end of what every token needs: metadata and dense
    /// tensors of a packed file, all of another one.
    pub fn front_len(&self) -> u64 {
        let packed = self.tensors().filter(Tensor::is_extents);
        packed.map(|tensor| tensor.extent().0).min().unwrap_or(self.len)
    }

    /// The version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the place of each tensor is a multiple of.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// The byte at which the data of the tensors begin.
    pub fn data_offset(&self) -> usize {
        self.data
    }

    /// The metadata entry of a key.
    pub fn get(&self, key: &str) -> Option<Entry<'m>> {
        let at = self.entries.iter().find(|&&at| self.key_at(at) == key)?;
        self.entry_at(*at)
    }

    /// The byte at which the value of a key begins.
    pub(crate) fn value_at(&self, key: &str) -> Option<usize> {
        let at = self.entries.iter().find(|&&at| self.key_at(at) == key)?;
        let mut cursor = self.cursor(*at);
        cursor.text(MAX_KEY).ok()?;
        read_kind(&mut cursor).ok()?;
        Some(cursor.at())
    }

    /// The metadata entry of a key that must be there.
    pub fn need(&self, key: &'static str) -> Result<Entry<'m>, Error<'m>> {
        self.get(key).ok_or(Error::MissingKey { key })
    }

    /// All metadata, in the order of the file.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'m>> {
        self.entries.iter().map(|&at| {
            let nothing = Entry { key: "", value: Value::Bool(false) };
            self.entry_at(at).unwrap_or(nothing)
        })
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'m>> {
        let found = self.tensors.binary_search_by_key(&name, |&at| self.name_at(at)).ok()?;
        self.tensor_at(self.tensors[found])
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// All tensors, in the order of the table.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'m>> {
        let (data, alignment, len) = (self.data, self.alignment, self.len);
        self.table().filter_map(move |tensor| tensor.placed(data, alignment, len).ok())
    }

    /// The entries of the tensor table, not yet placed.
    fn table(&self) -> impl Iterator<Item = Tensor<'m>> {
        let mut cursor = Cursor::new(self.bytes, self.table, Place::Header);
        let file = self.bytes;
        (0..self.tensors.len()).map_while(move |_| Tensor::read(&mut cursor, file).ok())
    }

    // The following read again what has been checked: nothing of it can fail.

    fn cursor(&self, at: u32) -> Cursor<'m> {
        Cursor::new(self.bytes, at as usize, Place::Header)
    }

    fn key_at(&self, at: u32) -> &'m str {
        self.cursor(at).text(MAX_KEY).unwrap_or_default()
    }

    fn name_at(&self, at: u32) -> &'m str {
        self.key_at(at)
    }

    fn entry_at(&self, at: u32) -> Option<Entry<'m>> {
        let mut cursor = self.cursor(at);
        let key = cursor.text(MAX_KEY).ok()?;
        cursor.place = Place::Value(key);
        let kind = read_kind(&mut cursor).ok()?;
        let value = Value::read(&mut cursor, kind).ok()?;
        Some(Entry { key, value })
    }

    fn tensor_at(&self, at: u32) -> Option<Tensor<'m>> {
        let tensor = Tensor::read(&mut self.cursor(at), self.bytes).ok()?;
        tensor.placed(self.data, self.alignment, self.len).ok()
    }
}

fn read_version<'m>(file: &'m [u8], cursor: &mut Cursor<'m>) -> Result<u32, Error<'m>> {
    let magic = cursor.take(4)?;
    if magic != b"GGUF" {
        return Err(Error::Magic { found: magic, what: foreign::recognize(file) });
    }
    match cursor.u32()? {
        version @ 2..=3 => Ok(version),
        other if (1..=0xff).contains(&other.swap_bytes()) => Err(Error::BigEndian),
        found => Err(Error::Version { found }),
    }
}

fn read_count<'m>(
    cursor: &mut Cursor<'m>,
    what: &'static str,
    most: usize,
) -> Result<usize, Error<'m>> {
    let at = cursor.at();
    let found = cursor.u64()?;
    match usize::try_from(found) {
        Ok(count) if count <= most => Ok(count),
        _ => Err(cursor.limit(at, what, most, found)),
    }
}

/// The position of an entry as the tables keep it.
fn position<'m>(cursor: &Cursor<'m>) -> Result<u32, Error<'m>> {
    let at = cursor.at();
    u32::try_from(at).map_err(|_| {
        cursor.limit(at, "bytes of metadata and tensor table", u32::MAX as usize, at as u64)
    })
}

/// Pushes to a table whose capacity the count has been checked against.
fn push<const N: usize>(table: &mut Vec<u32, N>, at: u32) {
    let pushed = table.push(at);
    debug_assert!(pushed.is_ok());
}

/// A key and its value.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'m> {
    /// The key.
    pub key: &'m str,
    /// The value.
    pub value: Value<'m>,
}

impl<'m> Entry<'m> {
    /// The error that the value is not what is `expected`.
    pub(crate) fn refuse(&self, expected: &'static str) -> Error<'m> {
        Error::Value { key: self.key, expected, found: (&self.value).into() }
    }

    /// The value as u32: an integer of any type, if it fits.
    pub fn u32(&self) -> Result<u32, Error<'m>> {
        let fits = self.value.integer().and_then(|x| u32::try_from(x).ok());
        fits.ok_or(self.refuse("an integer from 0 to 4294967295"))
    }

    /// The value as f32: a floating-point number of either type.
    pub fn f32(&self) -> Result<f32, Error<'m>> {
        match self.value {
            Value::F32(x) => Ok(x),
            Value::F64(x) => Ok(x as f32),
            _ => Err(self.refuse("a floating-point number")),
        }
    }

    /// The value as bool.
    pub fn bool(&self) -> Result<bool, Error<'m>> {
        match self.value {
            Value::Bool(x) => Ok(x),
            _ => Err(self.refuse("a bool")),
        }
    }

    /// The value as text.
    pub fn str(&self) -> Result<&'m str, Error<'m>> {
        match self.value {
            Value::String(x) => core::str::from_utf8(x).map_err(|_| self.refuse("UTF-8 text")),
            _ => Err(self.refuse("a string")),
        }
    }

    /// The value as array.
    pub fn array(&self) -> Result<Array<'m>, Error<'m>> {
        match self.value {
            Value::Array(x) => Ok(x),
            _ => Err(self.refuse("an array")),
        }
    }

    /// The value as array of strings, which need not be UTF-8.
    pub fn strings(&self) -> Result<Strings<'m>, Error<'m>> {
        self.array()?.strings().ok_or(self.refuse("an array of strings"))
    }

    /// The value as array of integers of any width up to `i64::MAX`.
    pub fn integers(&self) -> Result<Integers<'m>, Error<'m>> {
        self.array()?.integers().ok_or(self.refuse("an array of integers"))
    }
}
