//! Model files, mapped read-only.

use crate::fault::{Watch, page_size};
use crate::identity::{Identity, size_of};
use crate::open_files::TooManyFiles;
use crate::refusal::{Refusal, is_refusal};
use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use wick_format::{Error, Gguf};

/// A model file in memory. Pages are read when they are touched and shared with other processes; metadata
/// and tensor table are read at once, into memory of their own.
#[derive(Debug)]
pub struct ModelFile {
    path: PathBuf,
    file: File,
    /// Before the map, so that it is dropped before it.
    watch: Option<Watch>,
    map: Mmap,
    /// Bytes at the front that are in memory of their own.
    front: usize,
    identity: Identity,
}

impl ModelFile {
    /// Maps the file or block device at `path`.
    pub fn open(path: &Path) -> Result<ModelFile, MapError> {
        let fail = |reason| MapError { path: path.to_owned(), reason };
        let io = |e| fail(Reason::Io(TooManyFiles::name(e)));
        // Before it is opened: a pipe would wait for its writer, and some devices act when opened.
        check_kind(&fs::metadata(path).map_err(io)?).map_err(fail)?;
        let options = OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(options).open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        check_kind(&metadata).map_err(fail)?;
        let size = size_of(&file).map_err(io)?;
        if size == 0 {
            return Err(fail(Reason::Empty));
        }
        let size = usize::try_from(size).map_err(|_| fail(Reason::TooLarge))?;
        // SAFETY: the map is private and read-only. Who shortens or rewrites the file meanwhile is found
        // out by the watch and by `is_unchanged`, before what was read is believed.
        let map = unsafe { MmapOptions::new().len(size).map(&file) };
        let map = map.map_err(|error| io(Refusal::of(size)(error)))?;
        let front = copy_front(&file, &map).map_err(io)?;
        let pages = map.as_ptr() as usize;
        // SAFETY: the map has these pages, is read-only, and is dropped after the watch.
        let watch = unsafe { Watch::over(pages..pages + size.next_multiple_of(page_size())) };
        let (path, identity) = (path.to_owned(), Identity::of(&metadata));
        Ok(ModelFile { path, file, watch, map, front, identity })
    }

    /// Whether the file is still what was mapped, and all of it could be read. One that was renamed or
    /// deleted is, since it is open; a device that is gone is an error.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        let size = size_of(&self.file)?;
        if size == 0 && self.identity.is_of_device() {
            return Err(Errno::NODEV.into());
        }
        let is_same = Identity::of(&self.file.metadata()?) == self.identity;
        match is_same && size == self.map.len() as u64 {
            true if self.watch.as_ref().is_some_and(Watch::has_failed) => Err(Errno::IO.into()),
            is_unchanged => Ok(is_unchanged),
        }
    }

    /// Whether another file lies where this one lay when it was mapped, or one that was written to since.
    pub fn is_replaced(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| Identity::of(&found) != self.identity)
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
        for start in (0..bytes.len()).step_by(AHEAD) {
            let len = AHEAD.min(bytes.len() - start);
            if let Err(error) = self.map.advise_range(Advice::WillNeed, offset + start, len) {
                return log::debug!("{}: cannot read ahead: {error}", self.path.display());
            }
        }
    }

    /// Gives the pages of `bytes` back to the system, if they are the file's; they are read again
    /// when they are touched again. A refusal costs memory only, so it is just logged.
    pub fn release(&self, bytes: &[u8]) {
        let Some(offset) = self.offset_of(bytes) else { return };
        // What is in memory of its own would not come back.
        let (start, end) = (offset.max(self.front), offset + bytes.len());
        if start >= end {
            return;
        }
        // SAFETY: the map is private, read-only and, after its front, of a file: what is dropped comes
        // back the same.
        let result = unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
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

/// Bytes that every system reads ahead when it is asked to; of more, it may leave out the rest.
const AHEAD: usize = 128 << 10;

/// Bytes that are read first to find out where tensors begin; then four times as many, until they do.
const PROBE: usize = 1 << 20;

/// Puts the front of a file into memory of its own, in place of its pages: what stands before the tensors,
/// so that it stays as it is whatever becomes of the file. Returns how much that is, in whole pages.
fn copy_front(file: &File, map: &Mmap) -> io::Result<usize> {
    let mut bytes = Vec::new();
    let mut probe = PROBE;
    let front = loop {
        bytes.resize(probe.min(map.len()), 0);
        let read = read_up_to(file, &mut bytes)?;
        match Gguf::parse_front(&bytes[..read], map.len() as u64) {
            Err(Error::Cut { .. }) if read == probe && read < map.len() => probe *= 4,
            Ok(gguf) => break gguf.data_offset().min(read),
            // What is wrong is said by who parses the copy.
            Err(_) => break read,
        }
    };
    let whole = front.next_multiple_of(page_size());
    // The rest of the last page is another one's, and is not to be zeros.
    bytes.resize(whole.min(map.len()), 0);
    read_up_to(file, &mut bytes)?;
    let (protection, flags) =
        (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
    let start = map.as_ptr().cast_mut().cast();
    // SAFETY: these are the first pages of the map, of which nobody has a reference yet; they are written
    // before anybody gets one, and never again.
    unsafe {
        mmap_anonymous(start, whole, protection, flags)
            .map_err(|error| Refusal::of(whole)(error.into()))?;
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast(), bytes.len());
        mprotect(start, whole, MprotectFlags::READ)?;
    }
    Ok(whole)
}

/// Reads from the start of a file until `bytes` are full or it ends, and tells how many were read.
fn read_up_to(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(done)
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

impl MapError {
    /// Whether the system refuses memory for the map.
    pub fn is_refusal(&self) -> bool {
        matches!(&self.reason, Reason::Io(error) if is_refusal(error))
    }

    /// Whether too many files are open.
    pub fn is_of_open_files(&self) -> bool {
        matches!(&self.reason, Reason::Io(error) if TooManyFiles::is_in(error))
    }
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
    use rustix::fs::{Advice as FileAdvice, fadvise};
    use std::thread;
    use std::time::{Duration, Instant};

    /// A file of several pages, which begins like a GGUF file without tensors.
    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.resize(24, 0);
        bytes.resize(40 * page_size(), 7);
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn write(path: &Path) -> File {
        OpenOptions::new().write(true).open(path).unwrap()
    }

    #[test]
    fn a_file_that_is_cut_short_is_read_as_zeros_and_told() {
        let (_folder, path) = file();
        let mapped = ModelFile::open(&path).unwrap();
        let page = page_size();
        assert!(mapped[20 * page] == 7 && mapped.is_unchanged().unwrap());
        write(&path).set_len(10 * page as u64).unwrap();
        // Pages that are gone would end the process.
        assert_eq!((mapped[9 * page], mapped[30 * page], mapped[40 * page - 1]), (7, 0, 0));
        assert_eq!(mapped[12 * page], 0);
        assert!(!mapped.is_unchanged().unwrap());
        // Even if the file is as long as before.
        write(&path).set_len(40 * page as u64).unwrap();
        assert!(!mapped.is_unchanged().is_ok_and(|is_unchanged| is_unchanged));
    }

    #[test]
    fn what_stands_before_the_tensors_stays_as_it_was() {
        let (_folder, path) = file();
        let mapped = ModelFile::open(&path).unwrap();
        let page = page_size();
        write(&path).write_all_at(&vec![1; 40 * page], 0).unwrap();
        assert_eq!(&mapped[..4], b"GGUF");
        // The rest is the file's.
        assert_eq!(mapped[page], 1);
        mapped.release(&mapped);
        assert_eq!((&mapped[..4], mapped[page]), (&b"GGUF"[..], 1));
        assert!(!mapped.is_unchanged().unwrap());
    }

    #[test]
    fn a_file_that_is_replaced_or_deleted_is_the_same_for_who_has_it_open() {
        let (_folder, path) = file();
        let mapped = ModelFile::open(&path).unwrap();
        let other = path.with_extension("new");
        fs::write(&other, vec![1; 40 * page_size()]).unwrap();
        assert!(!mapped.is_replaced());
        fs::rename(&other, &path).unwrap();
        assert!(mapped.is_unchanged().unwrap() && mapped.is_replaced());
        fs::remove_file(&path).unwrap();
        assert!(!mapped.is_replaced());
        assert!(mapped.is_unchanged().unwrap() && mapped[30 * page_size()] == 7);
    }

    /// Whether all pages of some bytes of a map are in memory.
    fn are_in_memory(pages: &[u8]) -> bool {
        let mut there = vec![0; pages.len().div_ceil(page_size())];
        // SAFETY: the pages are those of a map, and there is a byte for each.
        let result =
            unsafe { libc::mincore(pages.as_ptr() as *mut _, pages.len(), there.as_mut_ptr()) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        there.iter().all(|page| page & 1 == 1)
    }

    #[test]
    fn what_will_be_needed_is_read_to_its_end() {
        // An emulator of processes hears no such advice.
        if std::env::var_os("WICK_EMULATED").is_some() {
            return;
        }
        let (_folder, path) = file();
        let pages = 160 * AHEAD / page_size();
        let file = write(&path);
        file.write_all_at(&vec![7; pages * page_size()], page_size() as u64).unwrap();
        file.sync_all().unwrap();
        let mapped = ModelFile::open(&path).unwrap();
        fadvise(&mapped.file, 0, None, FileAdvice::DontNeed).unwrap();
        mapped.will_need(&mapped[2 * page_size() + 1..(pages - 1) * page_size() + 1]);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !are_in_memory(&mapped[2 * page_size()..pages * page_size()]) {
            assert!(Instant::now() < deadline, "not all of it was read");
            thread::sleep(Duration::from_millis(5));
        }
    }

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
