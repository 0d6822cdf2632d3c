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

/// Whether the kernel limits the memory of control groups. Raspberry Pi OS has that turned off
/// unless its command line says `cgroup_enable=memory`.
pub fn has_memory_groups() -> bool {
    has_memory_groups_at(Path::new("/"))
}

pub(crate) fn has_memory_groups_at(root: &Path) -> bool {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let unified = read("sys/fs/cgroup/cgroup.controllers");
    let is_memory = |line: &str| {
        let mut fields = line.split_whitespace();
        (fields.next(), fields.nth(2)) == (Some("memory"), Some("1"))
    };
    unified.split_whitespace().any(|name| name == "memory")
        || unified.is_empty() && read("proc/cgroups").lines().any(is_memory)
}

/// A file that holds one number and nothing else.
pub(crate) fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an unpatched Debian, a Raspberry Pi OS and an older system tell it.
    #[test]
    fn kernels_tell_whether_they_limit_memory() {
        let header = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";
        for (controllers, groups, expected) in [
            (Some("cpuset cpu io memory hugetlb pids\n"), "memory\t0\t104\t1\n", true),
            (Some("cpuset cpu io pids\n"), "memory\t0\t63\t0\n", false),
            (None, "cpu\t2\t9\t1\nmemory\t5\t80\t1\n", true),
            (None, "memory\t0\t80\t0\n", false),
        ] {
            let root = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            controllers
                .into_iter()
                .for_each(|text| write("sys/fs/cgroup/cgroup.controllers", text));
            write("proc/cgroups", &format!("{header}{groups}"));
            assert_eq!(has_memory_groups_at(root.path()), expected, "{controllers:?} {groups}");
        }
    }
}
