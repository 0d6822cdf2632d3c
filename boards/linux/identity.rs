//! What a file is: the same one as before, or another.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use wick_core::{StoreError, StoreReason};

/// What tells a file from another one in its place, and from itself after it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds; none for block devices, whose nodes are touched without need.
    modified: Option<(i64, i64)>,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Identity {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (!metadata.file_type().is_block_device()).then_some(modified),
        }
    }

    /// Whether it is that of a block device.
    pub(crate) fn is_of_device(&self) -> bool {
        self.modified.is_none()
    }
}

/// Bytes of a file or a block device.
pub(crate) fn size_of(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// Checks that all files of a model are as they were, of each of which one thing says whether it is.
pub(crate) fn check_all(
    unchanged: impl Iterator<Item = io::Result<bool>>,
) -> Result<(), StoreError> {
    for (file, unchanged) in unchanged.enumerate() {
        let reason = match unchanged {
            Ok(true) => continue,
            Ok(false) => StoreReason::Changed,
            Err(error) => StoreReason::Refused { code: error.raw_os_error().unwrap_or(0) },
        };
        return Err(StoreError { at: None, file, offset: 0, reason });
    }
    Ok(())
}
