//! Model files, mapped read-only.

use crate::identity::{Identity, size_of};
use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use rustix::fs::OFlags;
use std::fmt;
use std::fs::{self, Metadata, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A model file in memory. Pages are read when they are touched and shared with other processes.
#[derive(Debug)]
pub struct ModelFile {
    path: PathBuf,
    map: Mmap,
    identity: Identity,
}

impl ModelFile {
    /// Maps the file or block device at `path`.
    pub fn open(path: &Path) -> Result<ModelFile, MapError> {
        let fail = |reason| MapError { path: path.to_owned(), reason };
        let io = |e| fail(Reason::Io(e));
        // Before it is opened: a pipe would wait for its writer, and some devices act when opened.
        check_kind(&fs::metadata(path).map_err(io)?).map_err(fail)?;
        let options = OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(options).open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        check_kind(&metadata).map_err(fail)?;
        let size = size_of(&file).map_err(|e| fail(Reason::Io(e)))?;
        if size == 0 {
            return Err(fail(Reason::Empty));
        }
        let size = usize::try_from(size).map_err(|_| fail(Reason::TooLarge))?;
        // SAFETY: the map is private and read-only. Nobody may shorten or rewrite a model file
        // while it is mapped; that cannot be enforced, and is what every mapped file asks for.
        let map = unsafe { MmapOptions::new().len(size).map(&file) };
        let map = map.map_err(|e| fail(Reason::Io(e)))?;
        Ok(ModelFile { path: path.to_owned(), map, identity: Identity::of(&metadata) })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file was when it was mapped.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Where `bytes` lie in the file, if they are the file's.
    fn offset_of(&self, bytes: &[u8]) -> Option<usize> {
        let (whole, part) = (self.map.as_ptr_range(), bytes.as_ptr_range());
        let inside = whole.start <= part.start && part.end <= whole.end;
        inside.then(|| part.start as usize - whole.start as usize)
    }

    /// Asks the system to read `bytes` ahead, if they are the file's. A refusal costs time only, so it
    /// is just logged.
    pub fn will_need(&self, bytes: &[u8]) {
        let Some(offset) = self.offset_of(bytes) else { return };
        if let Err(error) = self.map.advise_range(Advice::WillNeed, offset, bytes.len()) {
            log::debug!("{}: cannot read ahead: {error}", self.path.display());
        }
    }

    /// Gives the pages of `bytes` back to the system, if they are the file's; they are read again
    /// when they are touched again. A refusal costs memory only, so it is just logged.
    pub fn release(&self, bytes: &[u8]) {
        let Some(offset) = self.offset_of(bytes) else { return };
        // SAFETY: the map is private, read-only and of a file: what is dropped comes back the same.
        let result = unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, bytes.len())
        };
        if let Err(error) = result {
            log::debug!("{}: cannot release pages: {error}", self.path.display());
        }
    }
}

impl Deref for ModelFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// Refuses what has no bytes to be mapped.
fn check_kind(metadata: &Metadata) -> Result<(), Reason> {
    let kind = metadata.file_type();
    let what = match kind {
        _ if kind.is_file() || kind.is_block_device() => return Ok(()),
        _ if kind.is_dir() => "directory",
        _ if kind.is_fifo() => "pipe",
        _ if kind.is_socket() => "socket",
        _ => "character device",
    };
    Err(Reason::NotAFile(what))
}

/// A file cannot be mapped.
#[derive(Debug)]
pub struct MapError {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Io(io::Error),
    NotAFile(&'static str),
    Empty,
    TooLarge,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.reason {
            Reason::Io(e) => e.fmt(f),
            Reason::NotAFile(what) => {
                write!(f, "a regular file or a block device expected, a {what} found")
            }
            Reason::Empty => f.write_str("the file is empty: download it again"),
            Reason::TooLarge => f.write_str("larger than the address space"),
        }
    }
}

/// The message has the cause in it, so there is no source to print after it.
impl std::error::Error for MapError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file() {
        let error = ModelFile::open(Path::new("/nowhere/model.gguf")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nowhere/model.gguf: No such file or directory (os error 2)"
        );
        let expected = "a regular file or a block device expected";
        for (path, kind) in [("/", "directory"), ("/dev/null", "character device")] {
            let error = ModelFile::open(Path::new(path)).unwrap_err();
            assert_eq!(error.to_string(), format!("{path}: {expected}, a {kind} found"));
        }
    }
}
