//! Ends of files that were never written, as downloads leave them that take their room first.

use wick_core::{Role, TensorName};

use crate::error::Error;
use crate::gguf::Gguf;
use crate::model::Model;
use crate::packed::EXTENT_ALIGNMENT;
use crate::tensor::Tensor;

/// Bytes at the end of a file's last tensor of which some are not zero: some rows, which are not zero for
/// good but for a neuron now and then.
const TAIL: usize = 4096;
/// The last rows of a vocabulary may belong to no token, and be zero for good: that share of them at
/// most.
const VOCABULARY_SHARE: usize = 8;

impl<'m> Model<'_, 'm> {
    /// Refuses files whose tensors, as far as a model of `layers` layers uses them, end with nothing but
    /// zeros, if their ends are at hand.
    pub(crate) fn check_tails(&self, layers: usize) -> Result<(), Error<'m>> {
        self.files().iter().try_for_each(|file| check_tail(file, layers))
    }
}

fn check_tail<'m>(file: &Gguf<'m>, layers: usize) -> Result<(), Error<'m>> {
    let is_used = |tensor: &Tensor<'_>| TensorName::parse(tensor.name(), layers).is_some();
    let used = file.tensors().filter(|tensor| is_used(tensor) || tensor.is_extents());
    let last = used.max_by_key(Tensor::extent);
    let Some((tensor, bytes)) = last.and_then(|last| Some((last, last.bytes()?))) else {
        return Ok(());
    };
    let tail = match TensorName::parse(tensor.name(), layers).map(|name| name.role) {
        Some(Role::Embedding | Role::LmHead | Role::Profiler) => bytes.len() / VOCABULARY_SHARE,
        // After the padding of an expert.
        None => (EXTENT_ALIGNMENT + TAIL).min(bytes.len()),
        Some(_) => TAIL.min(bytes.len()),
    };
    match is_zero(&bytes[bytes.len() - tail..]) {
        true => Err(Error::ZeroTail { name: tensor.name(), from: zeros_from(file) }),
        false => Ok(()),
    }
}

/// The byte from which on a file has nothing but zeros.
fn zeros_from(file: &Gguf<'_>) -> usize {
    file.bytes().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Whether all of several bytes are zero; seldom more than the last are looked at.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().rev().all(|byte| *byte == 0)
}
