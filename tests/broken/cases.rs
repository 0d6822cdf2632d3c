//! Making broken files from a good one.

use wick_tests::gguf::Writer;
use wick_tests::tiny::Tiny;

/// A file, or the parts of one, that must be refused.
pub(crate) struct Broken {
    pub(crate) name: &'static str,
    pub(crate) files: Vec<Vec<u8>>,
    /// The whole message; `~` stands for "smallthinker.", `[again]` for what is said of files that
    /// end too early, `[works]` for what is said of types that wick does not compute with.
    pub(crate) message: &'static str,
}

/// A good model that was changed before it was written.
pub(crate) fn edited(
    name: &'static str,
    edit: impl FnOnce(&mut Writer),
    message: &'static str,
) -> Broken {
    let mut writer = Tiny::default().writer();
    edit(&mut writer);
    Broken { name, files: vec![writer.to_bytes()], message }
}

/// A good model whose bytes were changed after it was written.
pub(crate) fn patched(
    name: &'static str,
    patch: impl FnOnce(&mut Vec<u8>),
    message: &'static str,
) -> Broken {
    let mut bytes = Tiny::default().to_bytes();
    patch(&mut bytes);
    Broken { name, files: vec![bytes], message }
}

/// A file with one metadata entry, whose key is "k" and whose value is a type and these bytes.
pub(crate) fn valued(name: &'static str, kind: u32, value: &[u8], message: &'static str) -> Broken {
    let mut bytes = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0k".to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(value);
    Broken { name, files: vec![bytes], message }
}

/// A model of another shape, changed before it was written.
pub(crate) fn shaped(
    name: &'static str,
    tiny: &Tiny,
    edit: impl FnOnce(&mut Writer),
    message: &'static str,
) -> Broken {
    let mut writer = tiny.writer();
    edit(&mut writer);
    Broken { name, files: vec![writer.to_bytes()], message }
}

/// A good model in three parts, changed before they were written.
pub(crate) fn parted(
    name: &'static str,
    edit: impl FnOnce(&mut Vec<Writer>),
    message: &'static str,
) -> Broken {
    let mut parts = Tiny::default().writer().split(8);
    edit(&mut parts);
    Broken { name, files: parts.iter().map(Writer::to_bytes).collect(), message }
}

pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}
