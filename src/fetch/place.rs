//! Where a file goes, and what stands beside it until it is whole.

use crate::Error;
use crate::error::at;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The names of one file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// What it is called when it is whole.
    pub(crate) target: PathBuf,
    /// What has come of it. The hub's own tools call theirs `.incomplete` and take its length for what is there, which
    /// they must not do with a file that is fetched in ranges.
    pub(crate) part: PathBuf,
    /// Which ranges of it are there.
    pub(crate) record: PathBuf,
}

impl Place {
    /// A file whose name is followed by what it is, or, in somebody's own folder, hidden as well.
    pub(crate) fn new(target: PathBuf, is_hidden: bool) -> Place {
        let beside = |end: &str| {
            let mut name = OsString::from(if is_hidden { "." } else { "" });
            name.push(target.file_name().unwrap_or_default());
            name.push(end);
            target.with_file_name(name)
        };
        Place { part: beside(".wick-part"), record: beside(".wick-ranges"), target }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        folder(&self.target)
    }

    /// Makes the folder, if it is not there.
    pub(crate) fn make(&self) -> Result<(), Error> {
        make(self.folder())
    }
}

/// The folder of a file.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// Makes a folder and those above it.
pub(crate) fn make(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(at(folder, "the folder cannot be made"))
}

/// Puts something in the place of what may be there, at once.
pub(crate) fn replace(path: &Path, put: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.wick-{}", std::process::id()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => put(&new)?,
    }
    fs::rename(&new, path).inspect_err(|_| drop(fs::remove_file(&new)))
}
