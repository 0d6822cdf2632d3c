//! Machines that are not this one, as files of `/proc` and `/sys`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The machines in `tests/machines`.
pub const MACHINES: [&str; 7] = ["pi4", "pi5", "rdk-x5", "rk3566", "rk3588", "virtual", "zero2w"];

/// The root of the machine of a name. Its description has a line `== PATH` before what stands in each file, with `\x00` for a zero,
/// and `== PATH -> TARGET` for a link.
///
/// # Panics
/// If there is no such machine.
pub fn machine(name: &str) -> TempDir {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("machines").join(name);
    let text = fs::read_to_string(file.with_extension("txt")).expect("a machine is described");
    let root = tempfile::tempdir().expect("there is room");
    for part in text.split("\n== ").skip(1) {
        let (path, rest) = part.split_once('\n').unwrap_or((part, ""));
        let (path, target) = path.split_once(" -> ").map_or((path, None), |(p, t)| (p, Some(t)));
        let place = root.path().join(path);
        fs::create_dir_all(place.parent().expect("a file is in a folder")).expect("there is room");
        match target {
            Some(target) => symlink(target, place).expect("a place is taken once"),
            None => fs::write(place, rest.to_owned().replace("\\x00", "\0") + "\n")
                .expect("there is room"),
        }
    }
    root
}

/// All files below a folder; links are not followed.
///
/// # Panics
/// If the folder cannot be read.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| match fs::symlink_metadata(&path).expect("it is there") {
            kind if kind.is_dir() => files(&path),
            kind if kind.is_file() => vec![path],
            _ => Vec::new(),
        })
        .collect()
}
