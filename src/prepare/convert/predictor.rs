//! PowerInfer's predictor of rows of the LM head, which comes in a file of its own.

use super::checkpoint::Checkpoint;
use crate::new_tensor::{NewTensor, Source};
use crate::{Error, Tensor};
use wick_core::{Config, Role, TensorName};
use wick_format::Gguf;
use wick_kernels::Format;

/// The predictor: two matrices, of which the second is multiplied with what the first one gives. They come as a
/// safetensors file with the two, or as a GGUF file that has a predictor.
#[derive(Debug)]
pub enum Predictor<'m> {
    /// Two matrices in a safetensors file.
    Matrices(Checkpoint<'m>),
    /// One tensor of a GGUF file, which has both.
    Tensor(wick_format::Tensor<'m>),
}

impl<'m> Predictor<'m> {
    /// Reads a file, which messages call `name`.
    ///
    /// # Errors
    /// It is neither, or a GGUF file without a predictor.
    pub fn parse(name: &'m str, bytes: &'m [u8]) -> Result<Predictor<'m>, Error> {
        if !bytes.starts_with(b"GGUF") {
            return Ok(Predictor::Matrices(Checkpoint::parse([(name, bytes)])?));
        }
        let gguf = Gguf::parse(bytes)?;
        let tensor = gguf.tensor(&TensorName::once(Role::Profiler).to_string());
        let refusal =
            || Error::Input { message: format!("{name}: no lm_head_profiler.weight is in it") };
        tensor.map(Predictor::Tensor).ok_or_else(refusal)
    }

    /// The tensor of the file, in a format if blocks of that fit.
    pub(crate) fn tensor(&self, config: &Config, format: Format) -> Result<NewTensor<'m>, Error> {
        let refuse = |message: String| Error::Input { message };
        let &Config { hidden, vocab, .. } = config;
        match self {
            Predictor::Matrices(checkpoint) => {
                let (rank, matrices) = both(checkpoint, hidden, vocab).map_err(refuse)?;
                let fits = |format: &Format| {
                    format.row_bytes(rank).is_some() && format.row_bytes(hidden).is_some()
                };
                let format = [format, Format::Q4_0].into_iter().find(fits).unwrap_or(Format::F32);
                let name = TensorName::once(Role::Profiler).to_string();
                let tensor = Tensor { name, format, dims: vec![rank * (hidden + vocab)] };
                Ok(NewTensor::rounded(&tensor, matrices.into(), None)?.with_cols(rank))
            }
            Predictor::Tensor(tensor) => {
                let (found, unit) = (tensor.dims().elements(), hidden + vocab);
                let fits = found.is_multiple_of(unit);
                let wrong = || {
                    refuse(format!(
                        "lm_head_profiler.weight: a multiple of {unit} weights expected, {found} found"
                    ))
                };
                NewTensor::kept(tensor).filter(|_| fits).ok_or_else(wrong)
            }
        }
    }
}

/// The number of features, and the two matrices: one with a row for each feature, one with a row for each entry of the
/// vocabulary. They are told by their shapes, since their names differ.
fn both<'m>(
    checkpoint: &Checkpoint<'m>,
    hidden: usize,
    vocab: usize,
) -> Result<(usize, [Source<'m>; 2]), String> {
    let names: Vec<&str> = checkpoint.names().collect();
    let shapes =
        names.iter().map(|name| checkpoint.shape_of(name)).collect::<Result<Vec<_>, _>>()?;
    let expected = |found: &str| {
        format!(
            "the predictor: two matrices of N x {hidden} and {vocab} x N weights expected, {found} found"
        )
    };
    let (first, second) = match shapes[..] {
        [&[rank, cols], &[rows, other]] if (cols, rows, rank) == (hidden, vocab, other) => (0, 1),
        [&[rows, other], &[rank, cols]] if (cols, rows, rank) == (hidden, vocab, other) => (1, 0),
        _ => return Err(expected(&format!("{shapes:?}"))),
    };
    let rank = shapes[first][0];
    if rank == 0 {
        return Err(expected("no features"));
    }
    let take = |i: usize| checkpoint.take(names[i], shapes[i]);
    Ok((rank, [take(first)?, take(second)?]))
}
