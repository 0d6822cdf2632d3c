//! A folder of tiles, of bounded size, to which no more is written in a day than its device is to bear.

use super::name::Name;
use rustix::fs::{Advice, FlockOperation, OFlags, fadvise, flock};
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a file of a tile begins with: this, the bytes of the tile, and their CRC-32, numbers in four bytes, the lowest first.
const MAGIC: [u8; 8] = *b"wickkv\x01\n";
const HEAD: usize = MAGIC.len() + 8;
/// How names of files end: of tiles, of those that were never completed.
const TILE: &str = "kv";
const PART: &str = "part";
/// Where it is written down how much was written today, and after how many bytes anew.
const WRITTEN: &str = "written-today";
const WRITTEN_STEP: u64 = 64 << 20;
/// Locked by whoever uses the folder.
const LOCK: &str = "lock";

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// A folder of tiles. Those that were not used for longest give way to new ones.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
    /// Most bytes of all tiles, and most that are written in a day.
    most: u64,
    daily: u64,
    tiles: HashMap<Name, Kept>,
    /// Bytes of all.
    bytes: u64,
    /// Uses so far.
    uses: u64,
    today: Today,
}

/// A tile that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Its bytes.
    pub(super) bytes: u64,
    /// The last use.
    used: u64,
}

/// What was written today.
#[derive(Clone, Copy, Debug, Default)]
struct Today {
    /// Days since 1970.
    day: u64,
    bytes: u64,
    /// Of these, how many are written down.
    noted: u64,
}

/// Something is wrong with a folder, or with a file in it.
#[derive(Debug)]
pub struct FolderError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for FolderError {}

impl Folder {
    /// The folder at `path`, which is made if it is not there: for `most` bytes of tiles, of which `daily` are written in a
    /// day.
    ///
    /// # Errors
    /// It cannot be made, read or written to, or another process uses it.
    pub fn open(path: &Path, most: u64, daily: u64) -> Result<Folder, FolderError> {
        let blame = |source| FolderError { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(blame)?;
        let lock = private().create(true).truncate(false).open(path.join(LOCK)).map_err(blame)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| blame(io::Error::other("another process uses it")))?;
        let mut folder = Folder {
            path: path.to_owned(),
            _lock: lock,
            most,
            daily,
            tiles: HashMap::new(),
            bytes: 0,
            uses: 0,
            today: Today::default(),
        };
        folder.look().map_err(blame)?;
        folder.today = folder.read_today().unwrap_or_default();
        folder.make_room(0);
        Ok(folder)
    }

    /// Finds the tiles that are there, and removes what was never completed.
    fn look(&mut self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            // Whoever opens a pipe waits for its writer.
            if !metadata.is_file() {
                continue;
            }
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            match (path.extension().and_then(|end| end.to_str()), stem.and_then(Name::parse)) {
                (Some(TILE), Some(name)) => {
                    found.push((metadata.modified()?, name, metadata.len()));
                }
                (Some(PART), Some(_)) => fs::remove_file(&path)?,
                _ => {}
            }
        }
        found.sort_unstable();
        for (_, name, len) in found {
            self.add(name, len.saturating_sub(HEAD as u64));
        }
        Ok(())
    }

    fn add(&mut self, name: Name, bytes: u64) {
        self.uses += 1;
        self.bytes += bytes;
        self.tiles.insert(name, Kept { bytes, used: self.uses });
    }

    /// A tile that is there.
    pub(super) fn kept(&self, name: &Name) -> Option<Kept> {
        self.tiles.get(name).copied()
    }

    fn file(&self, name: &Name, end: &str) -> PathBuf {
        self.path.join(format!("{name}.{end}"))
    }

    /// Reads a tile of so many bytes at most.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub(super) fn read(
        &self,
        name: &Name,
        most: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), FolderError> {
        let path = self.file(name, TILE);
        read_tile(&path, most, into).map_err(|source| FolderError { path, source })
    }

    /// Writes a tile, whole or not at all, in place of one that is there; `false` if as much was written today as may be, or it has no room at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&mut self, name: &Name, bytes: &[u8]) -> Result<bool, FolderError> {
        let len = bytes.len() as u64;
        if !self.today.may_write(len, self.daily) || len > self.most {
            return Ok(false);
        }
        self.make_room(len);
        let (path, part) = (self.file(name, TILE), self.file(name, PART));
        let written = write_tile(&part, bytes).and_then(|()| fs::rename(&part, &path));
        if let Err(source) = written {
            let _may_not_be_there = fs::remove_file(&part);
            return Err(FolderError { path, source });
        }
        let before = self.tiles.get(name).map_or(0, |kept| kept.bytes);
        self.bytes -= before;
        self.add(*name, len);
        self.today.bytes += len;
        if self.today.bytes > self.today.noted + WRITTEN_STEP {
            self.note_today();
        }
        Ok(true)
    }

    /// Removes tiles until there is room for so many bytes.
    fn make_room(&mut self, bytes: u64) {
        while self.bytes + bytes > self.most {
            let oldest = self.tiles.iter().min_by_key(|(_, kept)| kept.used);
            let Some(name) = oldest.map(|(name, _)| *name) else { return };
            self.remove(&name);
        }
    }

    /// Removes a tile.
    pub(super) fn remove(&mut self, name: &Name) {
        if let Some(kept) = self.tiles.remove(name) {
            self.bytes -= kept.bytes;
            let _may_be_gone = fs::remove_file(self.file(name, TILE));
        }
    }

    /// Takes note that a tile is used, also for those who open the folder later.
    pub(super) fn touch(&mut self, name: &Name) {
        let path = self.file(name, TILE);
        if let Some(kept) = self.tiles.get_mut(name) {
            self.uses += 1;
            kept.used = self.uses;
            let file = OpenOptions::new().write(true).open(path);
            let _forgotten_then = file.and_then(|file| file.set_modified(SystemTime::now()));
        }
    }

    fn read_today(&self) -> Option<Today> {
        let path = self.path.join(WRITTEN);
        // Whatever else lies there.
        fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let mut text = String::new();
        File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
        let (day, bytes) = text.trim_end().split_once(' ')?;
        let bytes = bytes.parse().ok()?;
        Some(Today { day: day.parse().ok()?, bytes, noted: bytes })
    }

    fn note_today(&mut self) {
        let Today { day, bytes, .. } = self.today;
        self.today.noted = bytes;
        let path = self.path.join(WRITTEN);
        let file = private().create(true).truncate(true).open(&path);
        let _counted_anew_then = file.and_then(|mut file| writeln!(file, "{day} {bytes}"));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.today.bytes > self.today.noted {
            self.note_today();
        }
    }
}

impl Today {
    /// Whether so many bytes more may be written, of `daily` in a day.
    fn may_write(&mut self, bytes: u64, daily: u64) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        if self.day != now / DAY {
            *self = Today { day: now / DAY, ..Today::default() };
        }
        self.bytes + bytes <= daily
    }
}

/// Files that nobody else reads.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    // A pipe in the place of one would wait for its reader.
    options.write(true).mode(0o600).custom_flags(OFlags::NONBLOCK.bits() as i32);
    options
}

fn write_tile(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private().create(true).truncate(true).open(path)?;
    file.write_all(&MAGIC)?;
    file.write_all(&(bytes.len() as u32).to_le_bytes())?;
    file.write_all(&crc32fast::hash(bytes).to_le_bytes())?;
    file.write_all(bytes)?;
    // The clock of the file system is too coarse to tell which of two tiles was written first.
    file.set_modified(SystemTime::now())?;
    // What waits to be written counts as memory of the process.
    file.sync_data()?;
    forget(&file);
    Ok(())
}

fn read_tile(path: &Path, most: usize, into: &mut Vec<u8>) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut head = [0; HEAD];
    file.read_exact(&mut head)?;
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (bytes, sum) = (number(MAGIC.len()), number(MAGIC.len() + 4));
    let found = file.metadata()?.len();
    let is_whole = found == HEAD as u64 + u64::from(bytes);
    if head[..MAGIC.len()] != MAGIC || !is_whole || bytes as usize > most {
        return Err(io::Error::other("it is no tile of a KV cache"));
    }
    into.resize(bytes as usize, 0);
    file.read_exact(into)?;
    forget(&file);
    match crc32fast::hash(into) {
        found if found == sum => Ok(()),
        found => Err(io::Error::other(format!("CRC-32 {sum:08x} expected, {found:08x} found"))),
    }
}

/// Gives the pages of a file back, which count as memory of the process and are needed for experts.
fn forget(file: &File) {
    let _they_stay_then = fadvise(file, 0, None, Advice::DontNeed);
}

#[cfg(test)]
mod tests;
