//! What tiles are called.

use sha2::{Digest, Sha256};
use std::fmt;
use wick_core::KV_TILE;

/// A name that nobody can make up for another text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name([u8; 32]);

impl Name {
    /// That of some parts, one after another.
    pub fn of(parts: &[&[u8]]) -> Name {
        let mut hash = Sha256::new();
        for part in parts {
            // Parts that are divided elsewhere are other parts.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Name(hash.finalize().into())
    }

    /// That of something of what this names.
    pub(super) fn with(&self, what: &str) -> Name {
        Name::of(&[&self.0, what.as_bytes()])
    }

    /// The name that is written so.
    pub(super) fn parse(text: &str) -> Option<Name> {
        let mut bytes = [0; 32];
        // A sign would be taken for a digit.
        if text.len() != 2 * bytes.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Name(bytes))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The names of the whole tiles of a text.
pub(super) fn names(
    model: Name,
    owner: usize,
    ids: &[u32],
) -> impl Iterator<Item = Name> + use<'_> {
    let mut before = Name::of(&[&model.0, &(owner as u64).to_le_bytes()]);
    ids.chunks_exact(KV_TILE).map(move |tile| {
        let mut bytes = [0; 4 * KV_TILE];
        for (bytes, id) in bytes.chunks_exact_mut(4).zip(tile) {
            bytes.copy_from_slice(&id.to_le_bytes());
        }
        before = Name::of(&[&before.0, &bytes]);
        before
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_all_that_comes_before() {
        let model = Name::of(&[b"model"]);
        let of = |owner, ids: &[u32]| names(model, owner, ids).collect::<Vec<_>>();
        let ids: Vec<u32> = (0..3 * KV_TILE as u32 + 9).collect();
        let all = of(0, &ids);
        assert_eq!(all.len(), 3);
        assert_eq!(of(0, &ids[..2 * KV_TILE]), all[..2]);
        let mut others = ids.clone();
        others[70] += 1;
        let found = of(0, &others);
        assert!(found[0] == all[0] && found[1] != all[1] && found[2] != all[2]);
        assert!(of(1, &ids).iter().all(|name| !all.contains(name)));
        assert_ne!(Name::of(&[b"ab", b"c"]), Name::of(&[b"a", b"bc"]));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = Name::of(&[b"model"]);
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        for wrong in ["", "12", &"+1".repeat(32), &"é".repeat(32), &"g".repeat(64)] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
    }
}
