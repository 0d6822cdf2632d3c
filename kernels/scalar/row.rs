//! Rows of weights, whatever their format.

use crate::{Activation, Format};

/// A row format that the scalar kernels can multiply and expand.
pub(crate) trait Row {
    /// The format's sizes.
    const FORMAT: Format;
    /// The product of a row of weights and a row of activations.
    fn dot(row: &[u8], x: &Activation<'_>) -> f32;
    /// Hands the weights of a row to `each`, in order, with their column.
    fn for_each(row: &[u8], each: impl FnMut(usize, f32));
}

/// The product with a [`crate::Layout::Rows`] matrix: the code that every variant without a kernel of
/// its own for `R` is compiled from.
#[inline(always)]
pub(crate) fn matmul_rows<R: Row>(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
    let rows = out.len() / xs.len().max(1);
    for (x, out) in xs.iter().zip(out.chunks_exact_mut(rows.max(1))) {
        let row_bytes = x.values.len() / R::FORMAT.block_len() * R::FORMAT.block_bytes();
        for (row, y) in weights.chunks_exact(row_bytes).zip(out) {
            *y = R::dot(row, x);
        }
    }
}
