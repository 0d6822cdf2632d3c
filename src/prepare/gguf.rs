//! Writing GGUF files (version 3) as a stream: metadata and tensor table first, then tensor after
//! tensor, so that a file may be far larger than memory.

use crate::metadata::{Metadata, push_string};
use crate::{Error, NewFile};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use wick_core::{Config, TensorName};
use wick_format::Keys;
use wick_kernels::Format;

const VERSION: u32 = 3;
/// Bytes before the metadata: magic, version and counts.
const HEADER: u64 = 24;

/// An entry of the tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, `.weight` included.
    pub name: String,
    /// How its rows are stored.
    pub format: Format,
    /// Its dimensions in GGUF's order, one at least: the length of a row first.
    pub dims: Vec<usize>,
}

impl Tensor {
    /// A tensor of a model of this shape.
    pub fn of(name: TensorName, format: Format, config: &Config) -> Tensor {
        let dims = name.role.shape(config).dims().to_vec();
        Tensor { name: name.to_string(), format, dims }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product()
    }

    /// Weights in a row.
    pub fn cols(&self) -> usize {
        self.dims[0]
    }

    /// Bytes of a row.
    ///
    /// # Errors
    /// A row is no whole number of blocks.
    pub fn row_bytes(&self) -> Result<usize, Error> {
        let &Tensor { format, .. } = self;
        let blocks = || Error::Blocks { tensor: self.name.clone(), format, cols: self.cols() };
        format.row_bytes(self.cols()).ok_or_else(blocks)
    }

    /// Bytes of the tensor.
    ///
    /// # Errors
    /// Those of [`Tensor::row_bytes`].
    pub fn bytes(&self) -> Result<u64, Error> {
        Ok(self.row_bytes()? as u64 * self.rows() as u64)
    }

    /// The entry of the table.
    ///
    /// # Errors
    /// Those of [`Tensor::row_bytes`].
    pub(crate) fn entry(&self) -> Result<Entry, Error> {
        let (name, dims, number) = (self.name.clone(), self.dims.clone(), self.format.ggml());
        Ok(Entry { name, dims, number, bytes: self.bytes()? })
    }
}

/// An entry of the tensor table, of any type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its dimensions in GGUF's order.
    pub dims: Vec<usize>,
    /// The number of its type, `ggml_type`.
    pub number: u32,
    /// Its bytes.
    pub bytes: u64,
}

/// A file that is being written.
#[derive(Debug)]
pub struct Writer {
    out: BufWriter<NewFile>,
    alignment: u64,
    /// Bytes of the metadata.
    metadata: usize,
    /// Bytes written.
    at: u64,
    /// Bytes that the tensor at hand still takes.
    left: u64,
    /// Bytes of the tensors after it.
    sizes: std::vec::IntoIter<u64>,
}

impl Writer {
    /// Begins the file at `path` and writes everything before its tensors' data.
    ///
    /// # Errors
    /// The file cannot be written, or a tensor's rows are no whole number of blocks.
    pub fn create(path: &Path, metadata: &Metadata, tensors: &[Tensor]) -> Result<Writer, Error> {
        let entries = tensors.iter().map(Tensor::entry).collect::<Result<Vec<Entry>, Error>>()?;
        Writer::begin(path, metadata, &entries)
    }

    /// As [`Writer::create`], with tensors of any type.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(path: &Path, metadata: &Metadata, tensors: &[Entry]) -> Result<Writer, Error> {
        let is_rewritten = false;
        Writer::start(path, metadata, tensors, is_rewritten)
    }

    /// The same for a file that will be [rewritten](Writer::rewrite).
    ///
    /// # Errors
    /// The file cannot be written, or takes bytes only as they come.
    pub fn begin_rewritable(
        path: &Path,
        metadata: &Metadata,
        tensors: &[Entry],
    ) -> Result<Writer, Error> {
        let is_rewritten = true;
        Writer::start(path, metadata, tensors, is_rewritten)
    }

    fn start(
        path: &Path,
        metadata: &Metadata,
        tensors: &[Entry],
        is_rewritten: bool,
    ) -> Result<Writer, Error> {
        let alignment = metadata.alignment as u64;
        let sizes: Vec<u64> = tensors.iter().map(|tensor| tensor.bytes).collect();
        let (header, table) = (header(metadata, tensors), table(metadata, tensors));
        let head = header.len() + metadata.bytes.len() + table.len();
        let data: u64 = sizes.iter().map(|size| size.next_multiple_of(alignment)).sum();
        let bytes = (head as u64).next_multiple_of(alignment) + data;
        let mut file = NewFile::create(path, bytes)?;
        if is_rewritten && file.stream_position().is_err() {
            return Err(Error::IsStream { path: path.to_owned() });
        }
        let out = BufWriter::with_capacity(1 << 20, file);
        let (left, sizes) = (0, sizes.into_iter());
        let mut writer =
            Writer { out, alignment, metadata: metadata.bytes.len(), at: 0, left, sizes };
        [&header, &metadata.bytes, &table].into_iter().try_for_each(|part| writer.put(part))?;
        writer.pad()?;
        Ok(writer)
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> u64 {
        self.out.get_ref().bytes()
    }

    /// Writes the next bytes of the tensors' data; padding between tensors comes by itself.
    ///
    /// # Errors
    /// The file cannot be written.
    ///
    /// # Panics
    /// If the table has no room for so many bytes.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.left = self.sizes.next().expect("no more bytes than the table has room for");
            }
            let now = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.put(&bytes[..now])?;
            bytes = &bytes[now..];
            self.left -= now as u64;
            if self.left == 0 {
                self.pad()?;
            }
        }
        Ok(())
    }

    /// Writes the metadata again, with other values that take the same room: what is known only after
    /// the data.
    ///
    /// # Errors
    /// The file cannot be written.
    ///
    /// # Panics
    /// If they take another room.
    pub fn rewrite(&mut self, metadata: &Metadata) -> Result<(), Error> {
        assert_eq!(metadata.bytes.len(), self.metadata, "bytes of metadata");
        let written = (|| {
            self.out.seek(SeekFrom::Start(HEADER))?;
            self.out.write_all(&metadata.bytes)?;
            self.out.seek(SeekFrom::End(0))
        })();
        written.map(drop).map_err(|e| self.blame(e))
    }

    /// Gives the complete file its name, in place of a file that may stand there.
    ///
    /// # Errors
    /// The file cannot be written.
    ///
    /// # Panics
    /// If data of a tensor are missing.
    pub fn finish(mut self) -> Result<(), Error> {
        assert!(self.left == 0 && self.sizes.len() == 0, "all data are written");
        self.out.flush().map_err(|e| self.blame(e))?;
        self.out.into_parts().0.finish()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|e| self.blame(e))
    }

    fn pad(&mut self) -> Result<(), Error> {
        let padding = self.at.next_multiple_of(self.alignment) - self.at;
        self.put(&vec![0; padding as usize])
    }

    fn blame(&self, source: io::Error) -> Error {
        self.out.get_ref().blame(source)
    }
}

/// Adds the checksum of header, metadata and tensor table to the metadata of a packed file, whose last
/// entry it is.
pub(crate) fn seal(metadata: &mut Metadata, tensors: &[Entry]) {
    metadata.u32(Keys::HEAD_CHECKSUM, 0);
    let mut hasher = crc32fast::Hasher::new();
    let table = table(metadata, tensors);
    let parts = [&header(metadata, tensors)[..], &metadata.bytes, &table];
    parts.into_iter().for_each(|part| hasher.update(part));
    let at = metadata.bytes.len() - size_of::<u32>();
    metadata.bytes[at..].copy_from_slice(&hasher.finalize().to_le_bytes());
}

/// What stands before the metadata.
fn header(metadata: &Metadata, tensors: &[Entry]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(metadata.count.to_le_bytes());
    out
}

/// The tensor table, which follows them.
fn table(metadata: &Metadata, tensors: &[Entry]) -> Vec<u8> {
    let (mut out, mut offset) = (Vec::new(), 0u64);
    for tensor in tensors {
        push_string(&tensor.name, &mut out);
        out.extend((tensor.dims.len() as u32).to_le_bytes());
        tensor.dims.iter().for_each(|&d| out.extend((d as u64).to_le_bytes()));
        out.extend(tensor.number.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += tensor.bytes.next_multiple_of(metadata.alignment as u64);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::fs;
    use wick_format::Gguf;

    fn tensor(name: &str, format: Format, dims: &[usize]) -> Tensor {
        Tensor { name: name.into(), format, dims: dims.into() }
    }

    fn files(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        fs::write(&path, "an older file").unwrap();
        for alignment in [32, 4096] {
            let mut metadata = Metadata::with_alignment(alignment);
            metadata.u32("a", 7).f32("b", 0.5).bool("c", true).str("d", "naïve");
            metadata.strings("e", &["x".into(), String::new()]).integers("f", &[-1, 2]);
            let tensors = [tensor("t", Format::F16, &[3]), tensor("u", Format::Q4_0, &[32, 2, 2])];
            let mut writer = Writer::create(&path, &metadata, &tensors).unwrap();
            let size = writer.bytes();
            assert_ne!(fs::read(&path).unwrap().len() as u64, size, "not there before it is whole");
            // Pieces need not end where tensors do.
            let data: Vec<u8> = (0..6 + 4 * 18).collect();
            data.chunks(5).for_each(|piece| writer.write(piece).unwrap());
            writer.finish().unwrap();

            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len() as u64, size);
            let gguf = Gguf::parse(&bytes).unwrap();
            assert_eq!((gguf.version(), gguf.alignment()), (VERSION, alignment as usize));
            assert_eq!(gguf.get("a").unwrap().u32(), Ok(7));
            assert_eq!(gguf.get("b").unwrap().f32(), Ok(0.5));
            assert_eq!(gguf.get("c").unwrap().bool(), Ok(true));
            assert_eq!(gguf.get("d").unwrap().str(), Ok("naïve"));
            assert!(gguf.get("e").unwrap().strings().unwrap().eq([&b"x"[..], b""]));
            assert!(gguf.get("f").unwrap().integers().unwrap().eq([-1, 2]));
            let read: Vec<Tensor> = gguf
                .tensors()
                .map(|t| tensor(t.name(), t.format().unwrap(), t.dims().as_slice()))
                .collect();
            assert_eq!(read, tensors);
            let both = ["t", "u"].map(|name| gguf.tensor(name).unwrap().bytes().unwrap());
            assert_eq!(both.concat(), data);
        }
        assert_eq!(files(folder.path()), ["a.gguf"]);
    }

    #[test]
    fn what_is_given_up_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = [tensor("t", Format::F32, &[3])];
        let path = folder.path().join("a.gguf");
        let writer = Writer::create(&path, &Metadata::default(), &tensors).unwrap();
        assert_eq!(files(folder.path()).len(), 1);
        drop(writer);
        assert!(files(folder.path()).is_empty());
    }

    #[test]
    fn names_that_cannot_be_taken_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("missing/a.gguf");
        for path in [folder.path(), &below] {
            let error = Writer::create(path, &Metadata::default(), &[]).unwrap_err();
            assert!(error.to_string().contains("bytes cannot be written"), "{error}");
        }
        assert!(files(folder.path()).is_empty());
    }

    #[test]
    fn broken_rows_are_refused() {
        let tensors = [tensor("t", Format::Q4_0, &[33])];
        let path = Path::new("never written");
        let error = Writer::create(path, &Metadata::default(), &tensors).unwrap_err();
        assert!(
            error.to_string().starts_with("t: rows of a multiple of 32 weights expected for Q4_0")
        );
    }
}
