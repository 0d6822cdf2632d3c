//! Importance matrices: what the error of each weight counts, as llama.cpp's `llama-imatrix` measures it.
//!
//! A file has, for each matrix, the mean of the squares of what each of its columns is multiplied with; for experts, one
//! row of them for each. There are two forms, both read: GGUF files (`general.type` `imatrix`, tensors `NAME.in_sum2` and
//! `NAME.counts`), and the older one, of plain numbers.

use crate::{Error, Metadata};
use std::collections::HashMap;
use wick_format::Gguf;
use wick_kernels::Format;

/// Most entries of the older form: as many as tensors of a GGUF file.
const MOST_ENTRIES: usize = wick_format::MAX_TENSORS;
/// Bytes of the longest name that is believed.
const LONGEST_NAME: usize = 4096;

/// What the error of each weight counts, by the names of tensors.
#[derive(Clone, Debug, Default)]
pub struct Importances {
    file: String,
    entries: HashMap<String, Vec<f32>>,
    dataset: Option<String>,
    chunks: Option<u32>,
}

impl Importances {
    /// Reads a file, which messages call `file`.
    ///
    /// # Errors
    /// It is neither form, or cut off, or says what cannot be.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Importances, Error> {
        let read = if bytes.starts_with(b"GGUF") { read_gguf(bytes) } else { read_plain(bytes) };
        let mut importances = read.map_err(|message| refuse(format!("{file}: {message}")))?;
        let wrong = importances.entries.iter().find(|(_, values)| !are_possible(values));
        if let Some((name, _)) = wrong {
            return Err(refuse(format!("{file}: {name}: finite values, 0 or more, expected")));
        }
        importances.file = file.into();
        Ok(importances)
    }

    /// Number of matrices that something is known about.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Refuses what is of another model altogether.
    pub(crate) fn check_any<'n>(
        &self,
        mut tensors: impl Iterator<Item = &'n str>,
    ) -> Result<(), Error> {
        match tensors.any(|name| self.entries.contains_key(name)) {
            true => Ok(()),
            false => Err(refuse(format!("{}: no entry is for a tensor of this model", self.file))),
        }
    }

    /// What is known of a tensor of `count` matrices with `cols` columns: a row for each, or one for all.
    pub(crate) fn of(
        &self,
        tensor: &str,
        cols: usize,
        count: usize,
    ) -> Result<Option<Vec<f32>>, Error> {
        let Some(values) = self.entries.get(tensor) else { return Ok(None) };
        let (found, all) = (values.len(), cols * count);
        if found != all && found != cols {
            let file = &self.file;
            let message = format!(
                "{file}: {tensor}: {all} values expected, {found} found; it is of another model"
            );
            return Err(refuse(message));
        }
        Ok(Some(values.clone()))
    }

    /// Says what the weights were rounded by, with llama.cpp's keys.
    pub(crate) fn describe(&self, metadata: &mut Metadata) {
        metadata.str("quantize.imatrix.file", &self.file);
        if let Some(dataset) = &self.dataset {
            metadata.str("quantize.imatrix.dataset", dataset);
        }
        metadata.integer("quantize.imatrix.entries_count", self.entries.len() as i32);
        if let Some(chunks) = self.chunks {
            metadata.integer("quantize.imatrix.chunks_count", chunks as i32);
        }
    }
}

fn refuse(message: String) -> Error {
    Error::Input { message }
}

fn are_possible(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite() && *value >= 0.0)
}

fn to_floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

/// Sums of squares, divided by how often they were added to; what was never used counts 1.
fn read_gguf(bytes: &[u8]) -> Result<Importances, String> {
    let gguf = Gguf::parse(bytes).map_err(|error| error.to_string())?;
    let kind = gguf.get("general.type").and_then(|entry| entry.str().ok());
    if kind != Some("imatrix") {
        return Err("a GGUF file of general.type imatrix expected".into());
    }
    let floats = |name: &str| {
        let tensor = gguf.tensor(name).filter(|tensor| tensor.format() == Some(Format::F32));
        let bytes = tensor.and_then(|tensor| tensor.bytes());
        let bytes = bytes.ok_or_else(|| format!("{name}: a tensor of F32 expected"))?;
        Ok::<Vec<f32>, String>(to_floats(bytes))
    };
    let mut entries = HashMap::new();
    for sums in gguf.tensors() {
        let Some(name) = sums.name().strip_suffix(".in_sum2") else { continue };
        let (values, counts) = (floats(sums.name())?, floats(&format!("{name}.counts"))?);
        if !are_possible(&counts) {
            return Err(format!("{name}.counts: finite values, 0 or more, expected"));
        }
        if !values.len().is_multiple_of(counts.len()) {
            return Err(format!("{name}: a count for each matrix expected"));
        }
        let rows = values.chunks(values.len() / counts.len()).zip(&counts);
        let mean = rows.flat_map(|(row, &count)| {
            row.iter().map(move |sum| if count > 0.0 { sum / count } else { 1.0 })
        });
        entries.insert(name.to_owned(), mean.collect());
    }
    let datasets = gguf.get("imatrix.datasets").and_then(|entry| entry.strings().ok());
    let dataset = datasets.and_then(|mut all| all.next());
    let chunks = gguf.get("imatrix.chunk_count").and_then(|entry| entry.u32().ok());
    let dataset = dataset.map(|name| String::from_utf8_lossy(name).into_owned());
    Ok(Importances { file: String::new(), entries, dataset, chunks })
}

/// Number of entries; of each the name, a number of calls, and values, which are sums over the calls; then, if it is
/// there, the number of chunks and the name of the dataset.
fn read_plain(bytes: &[u8]) -> Result<Importances, String> {
    let mut rest = Plain(bytes);
    let count = rest.len(MOST_ENTRIES, "entries")?;
    let mut entries = HashMap::new();
    for _ in 0..count {
        let name = rest.text(LONGEST_NAME)?;
        let calls = rest.i32()?;
        let values = rest.floats()?;
        let mean = |value: f32| if calls > 0 { value / calls as f32 } else { value };
        entries.insert(name, values.into_iter().map(mean).collect());
    }
    let (mut dataset, mut chunks) = (None, None);
    if !rest.0.is_empty() {
        chunks = u32::try_from(rest.i32()?).ok();
        dataset = Some(rest.text(LONGEST_NAME)?);
    }
    Ok(Importances { file: String::new(), entries, dataset, chunks })
}

/// What is left of a file of plain numbers.
struct Plain<'b>(&'b [u8]);

impl<'b> Plain<'b> {
    fn take(&mut self, len: usize) -> Result<&'b [u8], String> {
        let found = self.0.len();
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| {
            format!("an importance matrix expected: {len} more bytes announced, {found} left")
        })?;
        self.0 = rest;
        Ok(taken)
    }

    fn i32(&mut self) -> Result<i32, String> {
        let bytes = self.take(size_of::<i32>())?;
        Ok(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A number of things, of which there are at least one and at most so many.
    fn len(&mut self, most: usize, things: &str) -> Result<usize, String> {
        let found = self.i32()?;
        let len = usize::try_from(found).ok().filter(|len| (1..=most).contains(len));
        len.ok_or_else(|| {
            format!("an importance matrix expected: 1 to {most} {things} expected, {found} found")
        })
    }

    fn text(&mut self, most: usize) -> Result<String, String> {
        let len = self.len(most, "bytes of a name")?;
        let text = self.take(len)?;
        let text = str::from_utf8(text).map_err(|_| "names in UTF-8 expected".to_owned())?;
        Ok(text.to_owned())
    }

    fn floats(&mut self) -> Result<Vec<f32>, String> {
        let len = self.len(i32::MAX as usize, "values")?;
        let bytes = self.take(len.saturating_mul(size_of::<f32>()))?;
        Ok(to_floats(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tensor, Writer};

    /// Two tensors: one matrix with 2 columns, and two experts with 1.
    fn plain(tail: bool) -> Vec<u8> {
        let mut bytes = 2i32.to_le_bytes().to_vec();
        for (name, calls, values) in [("a", 4i32, [8.0f32, 2.0]), ("b", 0, [3.0, 5.0])] {
            bytes.extend((name.len() as i32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(calls.to_le_bytes());
            bytes.extend((values.len() as i32).to_le_bytes());
            values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        }
        if tail {
            bytes.extend(7i32.to_le_bytes());
            bytes.extend(4i32.to_le_bytes());
            bytes.extend(b"text");
        }
        bytes
    }

    fn gguf(kind: &str, counts: &[f32]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix.gguf");
        let mut metadata = Metadata::default();
        metadata.str("general.type", kind).strings("imatrix.datasets", &["text"]);
        metadata.u32("imatrix.chunk_count", 7);
        let tensor = |name: &str, dims: &[usize]| Tensor {
            name: name.into(),
            format: Format::F32,
            dims: dims.into(),
        };
        let tensors = [tensor("b.in_sum2", &[1, 2]), tensor("b.counts", &[1, counts.len()])];
        let mut writer = Writer::create(&path, &metadata, &tensors).unwrap();
        for value in [6.0, 5.0].iter().chain(counts) {
            writer.write(&value.to_le_bytes()).unwrap();
        }
        writer.finish().unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn both_forms_are_means() {
        for tail in [false, true] {
            let read = Importances::parse("m.dat", &plain(tail)).unwrap();
            assert_eq!(read.of("a", 2, 1).unwrap(), Some(vec![2.0, 0.5]));
            assert_eq!(read.of("b", 1, 2).unwrap(), Some(vec![3.0, 5.0]));
            assert_eq!(read.of("c", 1, 2).unwrap(), None);
            assert_eq!(
                (read.chunks, read.dataset),
                (tail.then_some(7), tail.then(|| "text".into()))
            );
        }
        let read = Importances::parse("m.gguf", &gguf("imatrix", &[2.0, 0.0])).unwrap();
        assert_eq!(read.of("b", 1, 2).unwrap(), Some(vec![3.0, 1.0]));
        assert_eq!((read.len(), read.chunks, read.dataset.as_deref()), (1, Some(7), Some("text")));
    }

    #[test]
    fn what_is_none_is_refused() {
        let whole = plain(true);
        for cut in (0..whole.len()).filter(|&cut| cut != plain(false).len()) {
            assert!(Importances::parse("m", &whole[..cut]).is_err(), "{cut} bytes");
        }
        let refusal = |bytes: &[u8]| Importances::parse("m", bytes).unwrap_err().to_string();
        assert!(refusal(&gguf("model", &[1.0, 1.0])).contains("general.type imatrix"));
        for count in [-1.0, f32::NAN, f32::INFINITY] {
            assert!(refusal(&gguf("imatrix", &[1.0, count])).contains("b.counts: finite values"));
        }
        assert!(refusal(&gguf("imatrix", &[1.0, 1.0, 1.0])).contains("a count for each matrix"));
        let mut negative = plain(false);
        negative[17..21].copy_from_slice(&(-1.0f32).to_le_bytes());
        assert!(
            refusal(&negative).contains("a: finite values, 0 or more, expected"),
            "{}",
            refusal(&negative)
        );
        let other = Importances::parse("m", &whole).unwrap().of("a", 3, 1).unwrap_err();
        assert!(other.to_string().contains("3 values expected, 2 found; it is of another model"));
    }
}
