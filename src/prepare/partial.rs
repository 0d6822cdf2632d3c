//! Files that are not complete yet, and those that were never completed.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Between the name of the target and a random number, and after that.
const MARK: &[u8] = b".wick-";
const END: &[u8] = b".part";
/// Digits of the random number.
const DIGITS: usize = 16;
/// Most bytes of the target's name that are taken over: names have 255 at most.
const MOST_TAKEN: usize = 255 - MARK.len() - DIGITS - END.len();

/// All partial files of the process.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all files that are being written, for a process that ends right after: whoever wants to
/// begin or finish one from then on waits for ever.
pub fn remove_unfinished() {
    let unfinished = unfinished();
    unfinished.iter().for_each(|path| drop(fs::remove_file(path)));
    std::mem::forget(unfinished);
}

/// The same for a thread that may be about to begin or finish one itself, which stays then; it waits for
/// nobody.
pub fn try_remove_unfinished() {
    if let Ok(unfinished) = UNFINISHED.try_lock() {
        unfinished.iter().for_each(|path| drop(fs::remove_file(path)));
        std::mem::forget(unfinished);
    }
}

/// A locked file beside its target. It is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
}

impl Partial {
    /// A new file beside `target`, which is locked as long as it is open.
    pub(crate) fn beside(target: &Path) -> io::Result<(File, Partial)> {
        loop {
            let path = folder(target).join(partial_name(&stem(target)?));
            // Held until the file is listed, so that it is removed whenever the process ends.
            let mut unfinished = unfinished();
            let file = match File::create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            // Where there are no locks, nobody takes it for one that was left behind.
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
            if locked == Err(Errno::WOULDBLOCK) || file.metadata()?.nlink() == 0 {
                // Somebody has, before it was locked.
                continue;
            }
            unfinished.push(path.clone());
            return Ok((file, Partial { path }));
        }
    }

    /// Gives the file the name of its target for good.
    pub(crate) fn rename(self, target: &Path) -> io::Result<()> {
        let mut unfinished = unfinished();
        fs::rename(&self.path, target)?;
        unfinished.retain(|path| *path != self.path);
        drop(unfinished);
        // A name is on the disk when its folder is. Not every filesystem can tell.
        let _where_folders_can_be_synced = File::open(folder(target)).and_then(|f| f.sync_all());
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let mut unfinished = unfinished();
        let before = unfinished.len();
        unfinished.retain(|path| *path != self.path);
        if unfinished.len() < before {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

/// Removes what killed processes left of earlier attempts to write `target`.
pub(crate) fn remove_left_behind(target: &Path) {
    left_behind(target).iter().for_each(|path| remove_unlocked(path));
}

/// Files with names of partial ones of `target`.
pub(crate) fn left_behind(target: &Path) -> Vec<PathBuf> {
    let Ok(stem) = stem(target) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(folder(target)) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let partial = names.filter(|name| is_partial_name(name, &stem));
    partial.map(|name| folder(target).join(name)).collect()
}

/// Removes a file that no process has locked.
fn remove_unlocked(path: &Path) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = open(path, flags, Mode::empty()).map(File::from) else { return };
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    if is_file && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        match fs::remove_file(path) {
            Ok(()) => log::info!("{}: left behind by a killed process; removed", path.display()),
            Err(error) => {
                log::warn!("{}: left behind by a killed process: {error}", path.display())
            }
        }
    }
}

/// The folder of a file.
fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// What the names of partial files of `target` begin with.
fn stem(target: &Path) -> io::Result<Vec<u8>> {
    let name = target.file_name().ok_or(io::ErrorKind::IsADirectory)?.as_bytes();
    Ok([&name[..name.len().min(MOST_TAKEN)], MARK].concat())
}

/// A name that begins with `stem` and that nobody has chosen before.
fn partial_name(stem: &[u8]) -> OsString {
    // Seeded by the system and never the same twice.
    let number = RandomState::new().build_hasher().finish();
    let digits = format!("{number:0DIGITS$x}");
    OsString::from_vec([stem, digits.as_bytes(), END].concat())
}

fn is_partial_name(name: &OsStr, stem: &[u8]) -> bool {
    let digits = name.as_bytes().strip_prefix(stem).and_then(|rest| rest.strip_suffix(END));
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.iter().all(u8::is_ascii_hexdigit))
}
