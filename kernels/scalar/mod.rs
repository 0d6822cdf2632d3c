//! The kernels in plain Rust: compiled everywhere, and the oracle for every other variant.
//!
//! Sums have a fixed order, so results are the same bits on every machine. Integer products are
//! those of llama.cpp: weights and activations are multiplied as integers within a group, and
//! only the groups' sums are scaled and added as `f32`, block after block.

pub(crate) mod arranged;
mod attention;
pub(crate) mod block256;
pub(crate) mod block32;
pub(crate) mod expand;
pub(crate) mod plain;
pub(crate) mod row;
mod sketch;

use crate::activation::quantize_block;
use crate::lanes;
use crate::table::{Kernels, RowProducts};
use crate::{Activation, RowLayout};
use half::f16;

use block32::Rows32;
use block256::Rows256;
use row::{Row, matmul_rows};

pub use crate::vector::{
    all_finite, all_within, exp, rms_norm, rope, rope_table, scale_add, softmax,
};
pub use attention::attention;
pub use expand::{axpy, dequantize};

/// The table of scalar kernels.
pub static KERNELS: Kernels = Kernels {
    name: "scalar",
    rows: RowProducts {
        f32: matmul::<plain::F32>,
        f16: matmul::<plain::F16>,
        bf16: matmul::<plain::BF16>,
        q4_0: matmul::<Rows32<block32::Q4_0>>,
        q4_1: matmul::<Rows32<block32::Q4_1>>,
        q5_0: matmul::<Rows32<block32::Q5_0>>,
        q5_1: matmul::<Rows32<block32::Q5_1>>,
        q8_0: matmul::<Rows32<block32::Q8_0>>,
        q2_k: matmul::<Rows256<block256::Q2_K>>,
        q3_k: matmul::<Rows256<block256::Q3_K>>,
        q4_k: matmul::<Rows256<block256::Q4_K>>,
        q5_k: matmul::<Rows256<block256::Q5_K>>,
        q6_k: matmul::<Rows256<block256::Q6_K>>,
    },
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

impl Kernels {
    /// The kernels in plain Rust, which exist everywhere.
    pub fn scalar() -> &'static Kernels {
        &KERNELS
    }
}

/// The product with a [`crate::Layout::Rows`] matrix.
fn matmul<R: Row>(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
    matmul_rows::<R>(weights, xs, out);
}

/// The rounding to half precision.
fn narrow(values: &[f32], halves: &mut [f16]) {
    // SAFETY: plain Rust needs no features.
    unsafe { lanes::narrow::<[f32; 8]>(values, halves) }
}

/// The encoding of activation rows.
fn encode(layout: &RowLayout, slab: &mut [f32]) {
    layout.encode(slab, quantize_block);
}

/// Nothing: plain Rust has no way to ask.
fn prefetch(_: &[u8]) {}
