//! What stands in a file before the data of its tensors, and the checksum of that.

use core::fmt;

use crc32fast::Hasher;

/// Which model a packed file is: files of one identity give the same bits.
///
/// The checksum covers those of all tensors, which stand in the metadata, and so the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// CRC-32 of header, metadata and tensor table, in which its own value counts as 0.
    pub checksum: u32,
    /// Bytes of the file.
    pub bytes: u64,
}

impl fmt::Display for Identity {
    /// Two hexadecimal numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.checksum, self.bytes)
    }
}

/// CRC-32 of header, metadata and tensor table, in which the four bytes at `own`, if any, count as 0.
pub(crate) fn checksum(head: &[u8], own: Option<usize>) -> u32 {
    let mut hasher = Hasher::new();
    match own.and_then(|own| Some((head.get(..own)?, head.get(own.checked_add(4)?..)?))) {
        None => hasher.update(head),
        Some((before, after)) => {
            hasher.update(before);
            hasher.update(&[0; 4]);
            hasher.update(after);
        }
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_does_not_cover_itself() {
        let zero = *b"before\0\0\0\0after";
        let mut filled = zero;
        filled[6..10].fill(7);
        assert_eq!(checksum(&filled, Some(6)), crc32fast::hash(&zero));
        assert_eq!(checksum(&filled, None), crc32fast::hash(&filled));
        assert_eq!(checksum(&filled, Some(12)), crc32fast::hash(&filled), "beyond the end");
    }
}
