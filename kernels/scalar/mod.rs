//! The kernels in plain Rust: compiled everywhere, and the oracle for every other variant.
//!
//! Sums have a fixed order, so results are the same bits on every machine. Integer products are
//! those of llama.cpp: weights and activations are multiplied as integers within a group, and
//! only the groups' sums are scaled and added as `f32`, block after block.

pub(crate) mod arranged;
pub(crate) mod attention;
pub(crate) mod attention_q8_0;
pub(crate) mod block256;
pub(crate) mod block32;
pub(crate) mod plain;
mod sketch;
pub(crate) mod vector;

use crate::activation::quantize_block;
use crate::{Activation, Format, Kernels, MatMul, RowLayout, lanes};
use half::f16;

use block32::Rows32;
use block256::Rows256;

pub use attention::attention;
pub use vector::{exp, rms_norm, rope, rope_table, scale_add, softmax};

/// The table of scalar kernels.
pub static KERNELS: Kernels = Kernels {
    name: "scalar",
    rows: MATMUL,
    grouped: arranged::matmul_grouped,
    split: arranged::pick_rows,
    columns: arranged::sum_columns,
    bound: sketch::bound,
    axpy,
    attention,
    narrow,
    encode,
    prefetch,
};

const MATMUL: [MatMul; 13] = [
    matmul::<plain::F32>,
    matmul::<plain::F16>,
    matmul::<plain::BF16>,
    matmul::<Rows32<block32::Q4_0>>,
    matmul::<Rows32<block32::Q4_1>>,
    matmul::<Rows32<block32::Q5_0>>,
    matmul::<Rows32<block32::Q5_1>>,
    matmul::<Rows32<block32::Q8_0>>,
    matmul::<Rows256<block256::Q2_K>>,
    matmul::<Rows256<block256::Q3_K>>,
    matmul::<Rows256<block256::Q4_K>>,
    matmul::<Rows256<block256::Q5_K>>,
    matmul::<Rows256<block256::Q6_K>>,
];

/// A row format that the scalar kernels can multiply and expand.
pub(crate) trait Row {
    /// The format's sizes.
    const FORMAT: Format;
    /// The product of a row of weights and a row of activations.
    fn dot(row: &[u8], x: &Activation<'_>) -> f32;
    /// Hands the weights of a row to `each`, in order, with their column.
    fn for_each(row: &[u8], each: impl FnMut(usize, f32));
}

/// The product with a [`crate::Layout::Rows`] matrix.
fn matmul<R: Row>(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
    matmul_rows::<R>(weights, xs, out);
}

/// The code that every variant without a kernel of its own for `R` is compiled from.
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

/// The rounding to half precision.
fn narrow(values: &[f32], halves: &mut [f16]) {
    lanes::narrow::<[f32; 8]>(values, halves);
}

/// The encoding of activation rows.
fn encode(layout: &RowLayout, slab: &mut [f32]) {
    layout.encode(slab, quantize_block);
}

/// Nothing: plain Rust has no way to ask.
fn prefetch(_: &[u8]) {}

/// Calls `for_each` of the row type of `format`.
fn for_each(format: Format, row: &[u8], each: impl FnMut(usize, f32)) {
    match format {
        Format::F32 => plain::F32::for_each(row, each),
        Format::F16 => plain::F16::for_each(row, each),
        Format::BF16 => plain::BF16::for_each(row, each),
        Format::Q4_0 => Rows32::<block32::Q4_0>::for_each(row, each),
        Format::Q4_1 => Rows32::<block32::Q4_1>::for_each(row, each),
        Format::Q5_0 => Rows32::<block32::Q5_0>::for_each(row, each),
        Format::Q5_1 => Rows32::<block32::Q5_1>::for_each(row, each),
        Format::Q8_0 => Rows32::<block32::Q8_0>::for_each(row, each),
        Format::Q2_K => Rows256::<block256::Q2_K>::for_each(row, each),
        Format::Q3_K => Rows256::<block256::Q3_K>::for_each(row, each),
        Format::Q4_K => Rows256::<block256::Q4_K>::for_each(row, each),
        Format::Q5_K => Rows256::<block256::Q5_K>::for_each(row, each),
        Format::Q6_K => Rows256::<block256::Q6_K>::for_each(row, each),
    }
}

/// Expands a row (or a run of whole blocks of one) to `f32`: `out[c] = row[c]`.
pub fn dequantize(format: Format, row: &[u8], out: &mut [f32]) {
    for_each(format, row, |c, w| out[c] = w);
}

/// Adds a multiple of a row (or of a run of whole blocks of one): `out[c] += factor · row[c]`.
pub fn axpy(format: Format, row: &[u8], factor: f32, out: &mut [f32]) {
    for_each(format, row, |c, w| out[c] += factor * w);
}
