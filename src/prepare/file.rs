//! Files that are written: each is whole or not there, and none takes the place of what it is made of.
//!
//! A new file stands beside its target under another name until it is complete, then takes the target's
//! place at once. While it is written it is locked, so that what a killed process left behind can be
//! told from what another one is still writing.

use crate::Error;
use crate::partial::{Partial, left_behind, remove_left_behind};
use rustix::fs::{Access, AtFlags, CWD, FallocateFlags, accessat, fallocate, fstatvfs};
use rustix::io::{Errno, retry_on_intr};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Links from name to name that are followed, as the system does.
const MOST_LINKS: usize = 40;
/// Names of what the process has open already.
const OPEN_ALREADY: [&str; 5] =
    ["/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"];

/// Refuses to write `path` if it is one of the `inputs`, by whatever name, or if one of them would be removed as
/// what a killed process left of `path`.
///
/// # Errors
/// It is, or would be, or it is no name of a file.
pub fn refuse_input<'p>(
    path: &Path,
    inputs: impl IntoIterator<Item = &'p Path>,
) -> Result<(), Error> {
    refuse_dash(path)?;
    let leftovers = target(path).map(|target| left_behind(&target)).unwrap_or_default();
    for input in inputs {
        let Some(read) = identity(input) else { continue };
        if identity(path) == Some(read) {
            return Err(Error::IsInput { path: path.to_owned() });
        }
        if leftovers.iter().any(|leftover| identity(leftover) == Some(read)) {
            return Err(Error::IsLeftover { input: input.to_owned(), path: path.to_owned() });
        }
    }
    Ok(())
}

/// Who writes `-` means stdout, and wants no file of this name.
fn refuse_dash(path: &Path) -> Result<(), Error> {
    if path == Path::new("-") { Err(Error::IsDash) } else { Ok(()) }
}

/// What a file is by whatever name, if it is there.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// A file that is being written.
///
/// A regular file appears when it is [finished](NewFile::finish), with the permissions of the one that
/// it replaces, and goes away if it is given up. Where the name leads to a device or a pipe, that is
/// written as it is.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    /// The name that was asked for, and the file that it leads to.
    name: PathBuf,
    target: PathBuf,
    /// Bytes of the whole file.
    bytes: u64,
    /// What stands beside the target; nothing if that is written as it is.
    partial: Option<Partial>,
}

impl NewFile {
    /// Begins a file of `bytes` bytes at `path`.
    ///
    /// # Errors
    /// The file cannot be written, there is no room for so many bytes, or it is no name of a file.
    pub fn create(path: &Path, bytes: u64) -> Result<NewFile, Error> {
        refuse_dash(path)?;
        let blame = |source| Error::File { path: path.to_owned(), bytes, source };
        NewFile::begin(path, bytes).map_err(blame)
    }

    fn begin(path: &Path, bytes: u64) -> io::Result<NewFile> {
        let target = target(path)?;
        let found = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            found => Some(found?),
        };
        let new =
            |file, target, partial| NewFile { file, name: path.into(), target, bytes, partial };
        if let Some(found) = &found {
            if is_written_as_it_is(path, found)? {
                let file = OpenOptions::new().write(true).open(path)?;
                return Ok(new(file, target, None));
            }
            accessat(CWD, &target, Access::WRITE_OK, AtFlags::EACCESS)?;
        }
        remove_left_behind(&target);
        let (file, partial) = Partial::beside(&target)?;
        reserve(&file, bytes)?;
        if let Some(found) = found {
            take_over(&file, &found);
        }
        Ok(new(file, target, Some(partial)))
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the name leads to a device or a pipe.
    pub fn is_direct(&self) -> bool {
        self.partial.is_none()
    }

    /// Gives the complete file its name, in place of a file that may stand there, once all of it is
    /// on the disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<(), Error> {
        let Some(partial) = self.partial.take() else { return Ok(()) };
        let done = self.file.sync_all().and_then(|()| partial.rename(&self.target));
        done.map_err(|e| self.blame(e))
    }

    /// An error in writing, with the name of the file.
    pub fn blame(&self, source: io::Error) -> Error {
        Error::File { path: self.name.clone(), bytes: self.bytes, source }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, at: SeekFrom) -> io::Result<u64> {
        self.file.seek(at)
    }
}

/// The file that links at `path` lead to, be it there or not.
fn target(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            // No link, or nothing.
            Err(_) => return Ok(target),
        }
    }
    Err(Errno::LOOP.into())
}

/// Whether what stands at `path` is no file to be replaced but takes bytes as they come.
fn is_written_as_it_is(path: &Path, found: &Metadata) -> io::Result<bool> {
    let kind = found.file_type();
    if kind.is_char_device() || kind.is_fifo() {
        return Ok(true);
    }
    if !kind.is_file() {
        let why = "something that is no regular file has this name";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    Ok(OPEN_ALREADY.iter().any(|open| path.starts_with(open)))
}

/// Takes room for so many bytes, so that a disk that is too small is found before anything is written.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    // Asked first, since some filesystems fill the disk before they find it too small. Some do not know.
    let disk = fstatvfs(file)?;
    if disk.f_blocks > 0 && disk.f_bfree.saturating_mul(disk.f_frsize) < bytes {
        return Err(Errno::NOSPC.into());
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes)) {
        // Not every filesystem can.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        done => Ok(done?),
    }
}

/// Gives `file` the permissions of the one that it will replace, and its owner where that is allowed.
fn take_over(file: &File, replaced: &Metadata) {
    let _allowed_to_root = fchown(file, Some(replaced.uid()), Some(replaced.gid()));
    let mode = fs::Permissions::from_mode(replaced.mode() & 0o777);
    let _some_systems_have_none = file.set_permissions(mode);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FlockOperation, flock};
    use std::os::unix::fs::symlink;

    /// Names in a folder, in order.
    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| name(entry).unwrap()).collect();
        names.sort();
        names
    }

    fn write(path: &Path, text: &str) {
        let mut file = NewFile::create(path, text.len() as u64).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.finish().unwrap();
    }

    #[test]
    fn links_are_kept_and_lead_to_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("far")).unwrap();
        fs::write(path("far/old"), "old").unwrap();
        symlink("far/old", path("near")).unwrap();
        symlink(path("near"), path("link")).unwrap();
        symlink("far/new", path("dangling")).unwrap();
        symlink("round", path("round")).unwrap();
        let mut file = NewFile::create(&path("link"), 3).unwrap();
        assert_eq!(names(&path("far")).len(), 2, "written beside the target");
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(path("far/old")).unwrap(), b"old");
        file.finish().unwrap();
        write(&path("dangling"), "there");
        assert_eq!(fs::read(path("far/old")).unwrap(), b"new");
        assert_eq!(fs::read(path("far/new")).unwrap(), b"there");
        assert!(fs::symlink_metadata(path("link")).unwrap().is_symlink());
        assert_eq!(names(folder.path()), ["dangling", "far", "link", "near", "round"]);
        let error = NewFile::create(&path("round"), 3).unwrap_err().to_string();
        assert!(error.ends_with("round: 3 bytes cannot be written"), "{error}");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let others = [
            "a.wick-0123456789abcdef.part.txt",
            "a.wick-0123456789abcdeg.part",
            "ab.wick-0123456789abcdef.part",
        ];
        others.iter().for_each(|name| fs::write(path(name), "mine").unwrap());
        fs::write(path("a.wick-0123456789abcdef.part"), "left behind").unwrap();
        let held = File::create(path("a.wick-fedcba9876543210.part")).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let other = NewFile::create(&path("a"), 3).unwrap();
        write(&path("a"), "whole");
        assert_eq!(names(folder.path()).len(), 6, "{:?}", names(folder.path()));
        assert!(path("a.wick-fedcba9876543210.part").exists(), "somebody writes it");
        drop((held, other));
        write(&path("a"), "again");
        assert_eq!(names(folder.path()), [&["a"], &others[..]].concat());
    }

    #[test]
    fn there_is_room_or_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let disk = fstatvfs(File::open(folder.path()).unwrap()).unwrap();
        for bytes in [disk.f_blocks * disk.f_frsize * 2, u64::MAX] {
            let error = NewFile::create(&folder.path().join("a"), bytes).unwrap_err();
            let Error::File { source, .. } = &error else { panic!("{error}") };
            assert_eq!(source.kind(), io::ErrorKind::StorageFull, "{error}");
        }
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn permissions_are_those_of_the_file_that_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        fs::write(path("plain"), "").unwrap();
        write(&path("new"), "as any new file");
        assert_eq!(mode(&path("new")), mode(&path("plain")));
        fs::set_permissions(path("new"), fs::Permissions::from_mode(0o640)).unwrap();
        write(&path("new"), "again");
        assert_eq!(mode(&path("new")), 0o640);
    }

    #[test]
    fn names_may_be_as_long_as_they_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let name = "n".repeat(255);
        write(&folder.path().join(&name), "whole");
        assert_eq!(names(folder.path()), [name]);
    }

    #[test]
    fn inputs_are_known_by_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("in"), "x").unwrap();
        fs::write(path("other"), "x").unwrap();
        fs::hard_link(path("in"), path("hard")).unwrap();
        symlink("hard", path("soft")).unwrap();
        let (input, other) = (path("in"), path("other"));
        for out in ["in", "hard", "soft"] {
            let error = refuse_input(&path(out), [&*other, &*input]).unwrap_err();
            assert!(error.to_string().ends_with(": is the input; name another file"), "{error}");
        }
        refuse_input(&other, [&*input]).unwrap();
        refuse_input(&path("new"), [&*input]).unwrap();
    }

    #[test]
    fn what_is_no_regular_file_is_written_as_it_is_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let before = fs::metadata("/dev/null").unwrap().ino();
        write(Path::new("/dev/null"), "nothing");
        assert_eq!(fs::metadata("/dev/null").unwrap().ino(), before);
        let mut full = NewFile::create(Path::new("/dev/full"), 1).unwrap();
        assert!(full.write_all(b"x").is_err());
        for name in [folder.path(), &folder.path().join("new/")] {
            NewFile::create(name, 1).unwrap_err();
        }
        assert!(names(folder.path()).is_empty());
    }
}
