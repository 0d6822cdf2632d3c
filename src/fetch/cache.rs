//! The cache of the hub's own tools, which find what is fetched here, and the other way round.
//!
//! ```text
//!   models--USER--NAME/refs/main                        the commit that main was
//!   models--USER--NAME/blobs/CHECKSUM                   the bytes
//!   models--USER--NAME/snapshots/COMMIT/sub/model.gguf  a link to them
//! ```

use crate::Error;
use crate::digest::Digest;
use crate::error::at;
use crate::name::{is_commit, is_safe};
use crate::place::{Place, folder, make, replace};
use crate::source::Source;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Most files of a snapshot that are looked at.
const MOST_FILES: usize = 10_000;

/// What is kept of one repository.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(crate) fn new(root: &Path, source: &Source) -> Cache {
        let name = format!("models--{}", source.repository.replace('/', "--"));
        Cache { folder: root.join(name) }
    }

    /// The commit that a revision was when it was asked for last.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let path = self.folder.join("refs").join(revision);
        if !fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Where the bytes of a file are, or go.
    pub(crate) fn blob(&self, digest: &Digest) -> Place {
        Place::new(self.folder.join("blobs").join(digest.hex()), false)
    }

    /// Where a file of a commit is.
    pub(crate) fn path(&self, commit: &str, path: &str) -> PathBuf {
        self.snapshot(commit).join(path)
    }

    /// The folder with the files of a commit.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The files of a commit that are there, and their sizes.
    pub(crate) fn files(&self, commit: &str) -> Vec<(String, u64)> {
        let mut files = Vec::new();
        list(&self.snapshot(commit), "", &mut files);
        files.sort();
        files
    }

    /// Gives bytes that are there the name that they have in a commit.
    pub(crate) fn link(&self, commit: &str, path: &str, digest: &Digest) -> Result<PathBuf, Error> {
        let (link, blob) = (self.path(commit, path), self.blob(digest).target);
        make(folder(&link))?;
        let depth = 2 + path.split('/').count() - 1;
        let target = format!("{}blobs/{}", "../".repeat(depth), digest.hex());
        if fs::read_link(&link).is_ok_and(|found| found == Path::new(&target)) {
            return Ok(link);
        }
        // Where there are no links, the file itself.
        let put = |new: &Path| {
            symlink(&target, new)
                .or_else(|_| fs::hard_link(&blob, new))
                .or_else(|_| fs::rename(&blob, new))
        };
        replace(&link, put).map_err(at(&link, "the link cannot be made"))?;
        Ok(link)
    }

    /// Writes down what a revision is.
    pub(crate) fn note(&self, revision: &str, commit: &str) -> Result<(), Error> {
        let path = self.folder.join("refs").join(revision);
        if is_commit(revision) || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        make(folder(&path))?;
        let put = |new: &Path| fs::write(new, commit);
        replace(&path, put).map_err(at(&path, "the commit cannot be written down"))
    }
}

fn list(folder: &Path, before: &str, files: &mut Vec<(String, u64)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{before}{name}");
        if files.len() >= MOST_FILES || !is_safe(&path) {
            continue;
        }
        match (entry.file_type(), fs::metadata(entry.path())) {
            (Ok(kind), _) if kind.is_dir() => list(&entry.path(), &format!("{path}/"), files),
            (_, Ok(found)) if found.is_file() => files.push((path, found.len())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_that_of_the_hubs_tools() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path(), &"a/b".parse().unwrap());
        let (commit, other) = ("c".repeat(40), "d".repeat(40));
        let digest = Digest::git(&"e".repeat(40)).unwrap();
        let blob = cache.blob(&digest);
        blob.make().unwrap();
        fs::write(&blob.target, "bytes").unwrap();
        for path in ["m.gguf", "sub/er/m.gguf"] {
            for _again in 0..2 {
                let link = cache.link(&commit, path, &digest).unwrap();
                assert_eq!(fs::read(&link).unwrap(), b"bytes");
                assert!(fs::read_link(&link).unwrap().is_relative());
            }
        }
        let path = root.path().join("models--a--b/snapshots").join(&commit).join("m.gguf");
        assert_eq!(
            fs::read_link(path).unwrap(),
            PathBuf::from(format!("../../blobs/{}", digest.hex()))
        );
        assert_eq!(cache.files(&commit), [("m.gguf".into(), 5), ("sub/er/m.gguf".into(), 5)]);
        assert_eq!(cache.commit("main"), None);
        for commit in [&commit, &other] {
            cache.note("refs/pr/1", commit).unwrap();
            assert_eq!(cache.commit("refs/pr/1").as_deref(), Some(&**commit));
        }
        assert_eq!(
            fs::read(root.path().join("models--a--b/refs/refs/pr/1")).unwrap(),
            other.as_bytes()
        );
        assert!(cache.files(&other).is_empty());
    }
}
