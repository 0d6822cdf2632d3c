//! Where tensors lie.

/// Where a tensor lies in the files of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Which file, from 0.
    pub file: usize,
    /// The byte of the file at which it begins.
    pub offset: u64,
    /// Bytes from the matrix of an expert to that of the next; of another tensor, all its bytes.
    pub stride: u64,
}
