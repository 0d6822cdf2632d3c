//! The file that a doctor is asked about.

use serde::Serialize;
use std::path::Path;
use wick_linux::{BlockFile, Caching};

/// The model's file.
#[derive(Serialize)]
pub(super) struct FileReport {
    pub(super) path: String,
    pub(super) is_packed: bool,
    /// Whether reads go past the page cache.
    pub(super) is_direct: Option<bool>,
}

impl FileReport {
    pub(super) fn new(path: &Path, is_packed: bool, is_here: bool) -> FileReport {
        let opened = is_here.then(|| BlockFile::open(path, Caching::Direct).ok()).flatten();
        FileReport {
            path: path.display().to_string(),
            is_packed,
            is_direct: opened.map(|file| file.is_direct()),
        }
    }
}
