//! What the hub says that a file is: SHA-256 of a large one, Git's SHA-1 of any other.

use crate::Error;
use sha1::Sha1;
use sha2::Digest as _;
use sha2::Sha256;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// The checksum of a file, which is its name in the hub's cache, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    is_sha256: bool,
    hex: String,
}

impl Digest {
    /// SHA-256, as files in LFS have it.
    pub(crate) fn sha256(hex: &str) -> Option<Digest> {
        is_hex(hex, 64).then(|| Digest { is_sha256: true, hex: hex.into() })
    }

    /// SHA-1 of Git's object.
    pub(crate) fn git(hex: &str) -> Option<Digest> {
        is_hex(hex, 40).then(|| Digest { is_sha256: false, hex: hex.into() })
    }

    /// The digits.
    pub(crate) fn hex(&self) -> &str {
        &self.hex
    }

    /// Begins to compute that of a file of `size` bytes.
    pub(crate) fn hasher(&self, size: u64) -> Hasher {
        if self.is_sha256 {
            return Hasher::Sha256(Sha256::new());
        }
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {size}\0"));
        Hasher::Git(hasher)
    }

    /// Fails if this is not what was computed.
    pub(crate) fn check(&self, hasher: Hasher) -> Result<(), String> {
        let found = hasher.hex();
        if found == self.hex { Ok(()) } else { Err(format!("{self} expected, {found} found")) }
    }

    /// Whether the file at `path` has these bytes; `done` is told how many were read.
    pub(crate) fn is_of(
        &self,
        path: &Path,
        size: u64,
        mut done: impl FnMut(u64),
    ) -> io::Result<bool> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() != size {
            return Ok(false);
        }
        let (mut hasher, mut piece, mut read) = (self.hasher(size), vec![0; PIECE], 0);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(self.check(hasher).is_ok()),
                n => {
                    hasher.update(&piece[..n]);
                    read += n as u64;
                    done(read);
                }
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.is_sha256 { "SHA-256" } else { "Git's SHA-1" };
        write!(f, "{name} {}", self.hex)
    }
}

/// A checksum that is being computed.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    fn hex(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Hasher::Sha256(hasher) => hex(&hasher.finalize()),
            Hasher::Git(hasher) => hex(&hasher.finalize()),
        }
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The checksum of a file as the hub lists it.
pub(crate) fn of_listing(oid: &str, lfs: Option<&str>, path: &str) -> Result<Digest, Error> {
    let found = lfs.map_or_else(|| Digest::git(oid), Digest::sha256);
    found.ok_or_else(|| Error::hub(path, "the hub lists no checksum of it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_git_and_of_lfs() {
        for (digest, bytes) in [
            // git hash-object of a file with "hello\n".
            (Digest::git("ce013625030ba8dba906f756967f9e9ca394464a"), "hello\n"),
            (
                Digest::sha256("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"),
                "hello\n",
            ),
        ] {
            let digest = digest.unwrap();
            let mut hasher = digest.hasher(bytes.len() as u64);
            hasher.update(bytes.as_bytes());
            digest.check(hasher).unwrap();
            assert!(digest.check(digest.hasher(0)).is_err());
        }
        assert!(Digest::sha256("../../x").is_none());
    }
}
