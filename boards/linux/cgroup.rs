//! The control groups of the process, and the files in which the kernel tells a number.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of the control groups that hold the process, from its own up to the root; none if
/// `/proc` does not tell. `controller` is the name of a v1 hierarchy.
pub(crate) fn folders(root: &Path, controller: &str) -> Vec<PathBuf> {
    let base = root.join("sys/fs/cgroup");
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut folders = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let top = match controllers {
            "" if base.join("unified").is_dir() => base.join("unified"),
            "" => base.clone(),
            list if list.split(',').any(|c| c == controller) => base.join(controller),
            _ => continue,
        };
        let group = top.join(path.trim_start_matches('/'));
        folders
            .extend(group.ancestors().take_while(|f| f.starts_with(&top)).map(Path::to_path_buf));
    }
    folders
}

/// A file that holds one number and nothing else.
pub(crate) fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
