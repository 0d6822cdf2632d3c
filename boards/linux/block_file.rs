//! Files and block devices that are read past the page cache.

use crate::identity::{Identity, size_of};
use crate::map::ModelFile;
use crate::slot_memory::Memory;
use rustix::fs::{Advice, AtFlags, OFlags, StatxFlags, fadvise, ioctl_blksszget, statx};
use rustix::io::{Errno, pread};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What offsets, lengths and addresses of reads past the page cache are multiples of, unless the
/// device asks for more.
pub const ALIGNMENT: usize = 4096;

/// Whether reads go through the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caching {
    /// Past the page cache (`O_DIRECT`), where the filesystem can.
    #[default]
    Direct,
    /// Through the page cache; what was read is dropped from it at once.
    Buffered,
}

/// A file or block device, opened for reads of whole blocks.
#[derive(Debug)]
pub struct BlockFile {
    path: PathBuf,
    file: File,
    size: u64,
    alignment: usize,
    is_direct: bool,
    identity: Identity,
}

impl BlockFile {
    /// Opens the file or device at `path`. Where reads past the page cache are refused, when it is
    /// opened or when it is first read, it is opened for reads through it.
    pub fn open(path: &Path, caching: Caching) -> io::Result<BlockFile> {
        let direct = match caching {
            Caching::Direct => open_direct(path)?,
            Caching::Buffered => None,
        };
        let is_direct = direct.is_some();
        let (file, alignment) = match direct {
            Some(direct) => direct,
            None => (File::open(path)?, 1),
        };
        if !is_direct {
            // What is read ahead would be dropped before it is used.
            let _refused = fadvise(&file, 0, None, Advice::Random);
        }
        let (size, identity) = (size_of(&file)?, Identity::of(&file.metadata()?));
        Ok(BlockFile { path: path.to_owned(), file, size, alignment, is_direct, identity })
    }

    /// A pipe or a device, for tests: reads of it may take long or never end.
    #[cfg(test)]
    pub(crate) fn of_device(file: File) -> io::Result<BlockFile> {
        let identity = Identity::of(&file.metadata()?);
        let (path, size, alignment, is_direct) = (PathBuf::new(), 0, 1, true);
        Ok(BlockFile { path, file, size, alignment, is_direct, identity })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether reads go past the page cache.
    pub fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// What offsets, lengths and addresses of reads must be multiples of; 1 for reads through the
    /// page cache.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether this is the file that was mapped, as it was then.
    pub fn is_same(&self, mapped: &ModelFile) -> bool {
        self.identity == mapped.identity() && self.size == mapped.len() as u64
    }

    /// Whether the file is still as it was when it was opened. One that was deleted or replaced is, as
    /// long as it is open; a device that is gone is an error.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        let size = size_of(&self.file)?;
        if size == 0 && self.identity.is_of_device() {
            return Err(Errno::NODEV.into());
        }
        Ok(Identity::of(&self.file.metadata()?) == self.identity && size == self.size)
    }

    /// Reads once, at `offset`, into the start of `target`.
    pub(crate) fn read_at(&self, offset: u64, target: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        let (read, _) = pread(&self.file, &mut *target, offset)?;
        let len = read.len();
        self.forget(offset, len);
        Ok(len)
    }

    /// Drops what was read from the page cache, so that it does not count as memory of the process.
    pub(crate) fn forget(&self, offset: u64, len: usize) {
        if let Some(len) = NonZeroU64::new(len as u64).filter(|_| !self.is_direct) {
            // Pages at the ends are dropped only if they are named whole.
            let start = offset / ALIGNMENT as u64 * ALIGNMENT as u64;
            let end = (offset + len.get()).next_multiple_of(ALIGNMENT as u64);
            let _refused =
                fadvise(&self.file, start, NonZeroU64::new(end - start), Advice::DontNeed);
        }
    }
}

/// Opens for reads past the page cache, and tells the alignment that they need; `None` where the
/// filesystem refuses them.
fn open_direct(path: &Path) -> io::Result<Option<(File, usize)>> {
    let flags = OFlags::DIRECT.bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if is_refusal(&error) => return Ok(None),
        file => file?,
    };
    let alignment = alignment(&file)?.max(ALIGNMENT);
    let mut probe = Memory::new(alignment)?;
    match pread(&file, probe.as_mut_slice(), 0).map_err(io::Error::from) {
        Err(error) if is_refusal(&error) => Ok(None),
        // Other errors are for those to report who read what they need.
        _ => Ok(Some((file, alignment))),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    let refusals = [Errno::INVAL, Errno::OPNOTSUPP];
    refusals.iter().any(|refusal| error.raw_os_error() == Some(refusal.raw_os_error()))
}

/// The alignment that a file or device asks for; 0 if it does not say.
fn alignment(file: &File) -> io::Result<usize> {
    if file.metadata()?.file_type().is_block_device() {
        return Ok(ioctl_blksszget(file)? as usize);
    }
    let known = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    Ok(known.map_or(0, |found| found.stx_dio_offset_align.max(found.stx_dio_mem_align) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn a_change_is_noticed_and_a_deleted_or_replaced_file_is_read_on() {
        let (_folder, path) = file(&[1; 5000]);
        let block = BlockFile::open(&path, Caching::Direct).unwrap();
        assert_eq!((block.size(), block.is_unchanged().unwrap()), (5000, true));
        assert!(block.is_same(&ModelFile::open(&path).unwrap()));
        let other = path.with_extension("new");
        fs::write(&other, [2; 5000]).unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(block.is_unchanged().unwrap());
        assert!(!block.is_same(&ModelFile::open(&path).unwrap()));
        fs::remove_file(&path).unwrap();
        assert!(block.is_unchanged().unwrap());

        let (_folder, path) = file(&[1; 5000]);
        let block = BlockFile::open(&path, Caching::Buffered).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&[0]).unwrap();
        assert!(!block.is_unchanged().unwrap());
        OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
        assert!(!block.is_unchanged().unwrap());
    }

    #[test]
    fn buffered_reads_need_no_alignment() {
        let (_folder, path) = file(b"0123456789");
        let block = BlockFile::open(&path, Caching::Buffered).unwrap();
        let mut target = [MaybeUninit::new(b'x'); 20];
        assert_eq!(block.read_at(3, &mut target).unwrap(), 7);
        // SAFETY: every byte was initialized above.
        let read = target.map(|byte| unsafe { byte.assume_init() });
        assert_eq!(&read[..8], b"3456789x");
        assert!(!block.is_direct() && block.alignment() == 1);
    }

    #[test]
    fn a_filesystem_without_direct_reads_is_read_through_the_cache() {
        // Recent kernels take O_DIRECT on tmpfs and ignore it; either way the bytes must come.
        let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
        let path = folder.path().join("file");
        fs::write(&path, [7; 9000]).unwrap();
        let block = BlockFile::open(&path, Caching::Direct).unwrap();
        let mut memory = Memory::new(ALIGNMENT).unwrap();
        let target = memory.as_mut_slice();
        // SAFETY: `MaybeUninit<u8>` has the layout of `u8`, and only bytes are written.
        let target = unsafe { &mut *(std::ptr::from_mut(target) as *mut [MaybeUninit<u8>]) };
        assert_eq!(block.read_at(8192, target).unwrap(), 9000 - 8192);
        assert_eq!(memory.as_mut_slice()[..9000 - 8192], [7; 9000 - 8192]);
    }
}
