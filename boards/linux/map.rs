//! Model files, mapped read-only.

use crate::identity::{Identity, size_of};
use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileTypeExt;
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
        let file = File::open(path).map_err(|e| fail(Reason::Io(e)))?;
        let metadata = file.metadata().map_err(|e| fail(Reason::Io(e)))?;
        if !metadata.is_file() && !metadata.file_type().is_block_device() {
            return Err(fail(Reason::NotAFile));
        }
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

/// A file cannot be mapped.
#[derive(Debug)]
pub struct MapError {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Io(io::Error),
    NotAFile,
    Empty,
    TooLarge,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.reason {
            Reason::Io(e) => e.fmt(f),
            Reason::NotAFile => f.write_str("a regular file or a block device expected"),
            Reason::Empty => f.write_str("the file is empty"),
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
        let error = ModelFile::open(Path::new("/")).unwrap_err();
        let expected = "a regular file or a block device expected";
        assert_eq!(error.to_string(), format!("/: {expected}"));
        let error = ModelFile::open(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.to_string(), format!("/dev/null: {expected}"));
    }
}
