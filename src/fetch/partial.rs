//! A file of which some ranges are there: it is gone on with after a kill, and one process at a time does that.

use crate::Error;
use crate::digest::Digest;
use crate::error::at;
use crate::place::{Place, replace};
use crate::ranges::Ranges;
use rustix::fs::{FlockOperation, OFlags, flock, fstatvfs};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// How often is looked whether another process has ended.
const TURN: Duration = Duration::from_millis(100);
/// Bytes of a disk that are left to others.
const LEFT: u64 = 1 << 20;

/// A locked file that is not whole yet.
#[derive(Debug)]
pub(crate) struct Partial {
    file: File,
    place: Place,
    /// What the first line of the record says: of which file these are the ranges.
    key: String,
}

impl Partial {
    /// Opens what there is, or begins anew. Waits while another process is at it, unless the file is whole then: `None`.
    pub(crate) fn open(
        place: &Place,
        size: u64,
        digest: &Digest,
    ) -> Result<Option<(Partial, Ranges)>, Error> {
        place.make()?;
        let blame = at(&place.part, "what is fetched cannot be written");
        let Some(file) = locked(place).map_err(&blame)? else { return Ok(None) };
        let key = format!("wick 1 {size} {}\n", digest.hex());
        let partial = Partial { file, place: place.clone(), key };
        let length = partial.file.metadata().map_err(&blame)?.len();
        let ranges = partial.recorded().unwrap_or_default().below(size.min(length));
        if ranges.total() == 0 {
            partial.file.set_len(0).map_err(&blame)?;
        }
        partial.ask_for_room(size - ranges.total())?;
        partial.save(&ranges)?;
        Ok(Some((partial, ranges)))
    }

    /// What the record says, if it is of this file.
    fn recorded(&self) -> Option<Ranges> {
        if !fs::symlink_metadata(&self.place.record).ok()?.is_file() {
            return None;
        }
        let text = fs::read_to_string(&self.place.record).ok()?;
        Ranges::parse(text.strip_prefix(&self.key)?)
    }

    fn ask_for_room(&self, wanted: u64) -> Result<(), Error> {
        // Some filesystems do not know.
        let Ok(disk) = fstatvfs(&self.file) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if disk.f_blocks > 0 && wanted > 0 && free < wanted.saturating_add(LEFT) {
            let path = self.place.folder().to_owned();
            let error = Error::Space { path, wanted, free };
            self.remove_if_empty();
            return Err(error);
        }
        Ok(())
    }

    fn remove_if_empty(&self) {
        if self.file.metadata().is_ok_and(|found| found.len() == 0) {
            self.remove();
        }
    }

    fn remove(&self) {
        let _gone_already = fs::remove_file(&self.place.part);
        let _gone_already = fs::remove_file(&self.place.record);
    }

    /// Where bytes are written.
    pub(crate) fn write(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, at).map_err(crate::error::at(
            &self.place.part,
            "what is fetched cannot be written; it is gone on with when there is room",
        ))
    }

    /// Bytes that were written.
    pub(crate) fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), Error> {
        let blame = crate::error::at(&self.place.part, "what was fetched cannot be read");
        self.file.read_exact_at(bytes, at).map_err(blame)
    }

    /// Writes down what is there, once it is on the disk.
    pub(crate) fn save(&self, ranges: &Ranges) -> Result<(), Error> {
        let (text, record) = (format!("{}{ranges}", self.key), &self.place.record);
        let done = self.file.sync_data().and_then(|()| {
            replace(record, |new| fs::write(new, &text))
                .or_else(|error| overwrite(record, &text).map_err(|_| error))
        });
        done.map_err(at(record, "what was fetched cannot be written down"))
    }

    /// Gives it up, so that nobody goes on with it.
    pub(crate) fn discard(self) {
        self.remove();
    }

    /// Gives the whole file its name.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let Place { target, part, record } = &self.place;
        let done = self.file.sync_all().and_then(|()| fs::rename(part, target));
        done.map_err(at(target, "the file cannot be written"))?;
        let _gone_already = fs::remove_file(record);
        // A name is on the disk when its folder is. Not every filesystem can tell.
        let _where_folders_can_be_synced =
            File::open(self.place.folder()).and_then(|f| f.sync_all());
        Ok(())
    }
}

/// Writes in the place of what is there, which takes no room on a disk that is full.
fn overwrite(record: &Path, text: &str) -> io::Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().write(true).custom_flags(flags).open(record)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

/// The file, locked; `None` if another process has made it whole meanwhile.
fn locked(place: &Place) -> io::Result<Option<File>> {
    let mut has_waited = false;
    loop {
        let mut options = OpenOptions::new();
        // Not where a link leads, nor into a pipe that nobody reads.
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        let file = options.read(true).write(true).create(true).truncate(false).open(&place.part)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "no regular file; remove it"));
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                if !has_waited {
                    log::warn!(
                        "{}: another process fetches it; waiting for that",
                        place.target.display()
                    );
                }
                has_waited = true;
                sleep(TURN);
                continue;
            }
            // Some filesystems have no locks.
            Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        let (here, open) = (fs::metadata(&place.part), file.metadata()?);
        let is_it = here.is_ok_and(|here| (here.dev(), here.ino()) == (open.dev(), open.ino()));
        if has_waited && place.target.exists() {
            if is_it {
                let _one_of_ours = fs::remove_file(&place.part);
            }
            return Ok(None);
        }
        // It was given its name, or was given up, before it was locked.
        if is_it {
            return Ok(Some(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: char) -> Digest {
        Digest::git(&digit.to_string().repeat(40)).unwrap()
    }

    fn open(place: &Place, size: u64, digit: char) -> (Partial, Ranges) {
        Partial::open(place, size, &digest(digit)).unwrap().unwrap()
    }

    #[test]
    fn what_was_written_down_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().join("sub/a.gguf"), true);
        let (partial, mut ranges) = open(&place, 10, 'a');
        assert_eq!(ranges, Ranges::default());
        partial.write(b"abc", 2).unwrap();
        ranges.add(2..5);
        partial.save(&ranges).unwrap();
        drop(partial);
        assert_eq!(open(&place, 10, 'a').1, ranges);
        // Another file of the same name, or one that is shorter than it was.
        assert_eq!(open(&place, 11, 'a').1, Ranges::default());
        let (partial, _) = open(&place, 10, 'a');
        partial.write(b"abc", 2).unwrap();
        partial.save(&ranges).unwrap();
        assert_eq!(open_after(partial, &place, 'b').1, Ranges::default());
        let (partial, _) = open(&place, 10, 'a');
        partial.write(b"abcd", 0).unwrap();
        ranges.add(0..9);
        partial.save(&ranges).unwrap();
        let (partial, found) = open_after(partial, &place, 'a');
        assert_eq!((found.total(), found.prefix()), (4, 4));
        partial.finish().unwrap();
        let names: Vec<_> =
            fs::read_dir(place.folder()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(names, ["a.gguf"]);
    }

    fn open_after(partial: Partial, place: &Place, digit: char) -> (Partial, Ranges) {
        drop(partial);
        open(place, 10, digit)
    }

    #[test]
    fn there_is_room_or_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().join("a"), false);
        let error = Partial::open(&place, 1 << 60, &digest('a')).unwrap_err();
        assert!(matches!(error, Error::Space { wanted, .. } if wanted == 1 << 60), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
