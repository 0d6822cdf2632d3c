//! The lines of earlier conversations, which can be recalled.
//!
//! They are a convenience: where they cannot be read or written, there are none.

use rustyline::history::FileHistory;
use rustyline::{Editor, Helper};
use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// The file that they are kept in.
pub(crate) struct History(PathBuf);

impl History {
    /// The file among the user's state, by the XDG Base Directory Specification. Its folder is made if it is not
    /// there, for the user alone.
    pub(crate) fn find() -> Option<History> {
        let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = folder("XDG_STATE_HOME").or(folder("HOME").map(|h| h.join(".local/state")))?;
        let folder = state.join("wick");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
        let path = folder.join("history");
        // A pipe would be waited for.
        let is_file = fs::metadata(&path).map_or(true, |found| found.is_file());
        is_file.then_some(History(path))
    }

    /// Lets an editor recall the lines.
    pub(crate) fn load<H: Helper>(&self, editor: &mut Editor<H, FileHistory>) {
        if let Err(error) = editor.load_history(&self.0) {
            log::debug!("no history: {error}");
        }
    }

    /// Adds what is new to the file, which the user alone can read.
    pub(crate) fn append<H: Helper>(&self, editor: &mut Editor<H, FileHistory>) {
        if let Err(error) = editor.append_history(&self.0) {
            log::debug!("no history: {error}");
        }
    }
}
