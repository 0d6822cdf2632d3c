//! The table of kernels that a model computes with.

use crate::activation::{Activation, RowLayout};
use crate::format::Format;
use crate::kv::KvView;
use crate::layout::Layout;
use core::fmt;
use core::ops::Range;
use half::f16;

/// `out[t · rows + r] = Σ_c weights[r][c] · xs[t][c]` for every activation row `xs[t]` and as many
/// rows of `xs[0].values.len()` weights as `out` has room for. A product is the same bits whatever
/// else is computed with it.
pub type MatMul = fn(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]);

/// `out[i] = Σ_c weights[rows[i]][c] · x[c]` for chosen rows of a [`Layout::Split`] matrix.
pub type PickRows = fn(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]);

/// `out[i] = Σ_c weights[rows.start + i][c] · x[c]` for some of the rows of a [`Layout::Columns`]
/// matrix with as many columns as `x` has values; columns that meet a zero are not read. The bounds
/// of `rows` are multiples of 32.
pub type SumColumns = fn(weights: &[u8], x: &Activation<'_>, rows: Range<usize>, out: &mut [f32]);

/// Likely upper bounds of products with some rows of a matrix, from its [`sketch`](crate::sketch()): the
/// products with the sketch, and the square roots of `Σ_b scale[b]² · spreads[b]` over the blocks `b` of
/// the row. The bounds of `rows` are multiples of [`crate::GROUP`].
pub type BoundRows =
    fn(sketch: &[u8], rows: Range<usize>, x: &Activation<'_>, spreads: &[f32], out: &mut [f32]);

/// Adds a multiple of a run of whole blocks to `out`: `out[c] += factor · row[c]`.
pub type Axpy = fn(format: Format, row: &[u8], factor: f32, out: &mut [f32]);

/// Attention of query heads that share one KV head; see [`crate::scalar::attention`]. A head's values are
/// the same bits whatever heads are computed with it.
pub type Attention = fn(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]);

/// `halves[i] = values[i]`, rounded to half precision, ties to even.
pub type Narrow = fn(values: &[f32], halves: &mut [f16]);

/// Computes the 8-bit forms of an activation row from its values, which stand first in the slab.
pub type Encode = fn(layout: &RowLayout, slab: &mut [f32]);

/// Asks for bytes that will soon be read.
pub type Prefetch = fn(bytes: &[u8]);

/// A product with [`Layout::Rows`] matrices for each format.
#[derive(Clone, Copy)]
pub(crate) struct RowProducts {
    pub(crate) f32: MatMul,
    pub(crate) f16: MatMul,
    pub(crate) bf16: MatMul,
    pub(crate) q4_0: MatMul,
    pub(crate) q4_1: MatMul,
    pub(crate) q5_0: MatMul,
    pub(crate) q5_1: MatMul,
    pub(crate) q8_0: MatMul,
    pub(crate) q2_k: MatMul,
    pub(crate) q3_k: MatMul,
    pub(crate) q4_k: MatMul,
    pub(crate) q5_k: MatMul,
    pub(crate) q6_k: MatMul,
}

impl RowProducts {
    /// The product with matrices of a format.
    fn of(&self, format: Format) -> MatMul {
        match format {
            Format::F32 => self.f32,
            Format::F16 => self.f16,
            Format::BF16 => self.bf16,
            Format::Q4_0 => self.q4_0,
            Format::Q4_1 => self.q4_1,
            Format::Q5_0 => self.q5_0,
            Format::Q5_1 => self.q5_1,
            Format::Q8_0 => self.q8_0,
            Format::Q2_K => self.q2_k,
            Format::Q3_K => self.q3_k,
            Format::Q4_K => self.q4_k,
            Format::Q5_K => self.q5_k,
            Format::Q6_K => self.q6_k,
        }
    }
}

/// Function pointers to one variant of every kernel.
///
/// A table is reached only through a function that checks for its instructions or demands that the
/// caller has, so holding one proves that they exist.
pub struct Kernels {
    /// The variant's name.
    pub(crate) name: &'static str,
    /// Products with matrices in [`Layout::Rows`].
    pub(crate) rows: RowProducts,
    /// Products with Q4_0 matrices in [`Layout::Grouped`].
    pub(crate) grouped: MatMul,
    pub(crate) split: PickRows,
    pub(crate) columns: SumColumns,
    pub(crate) bound: BoundRows,
    pub(crate) axpy: Axpy,
    pub(crate) attention: Attention,
    pub(crate) narrow: Narrow,
    pub(crate) encode: Encode,
    pub(crate) prefetch: Prefetch,
}

impl Kernels {
    /// The variant's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The product with a matrix of this format and layout; `None` for the layouts that have
    /// kernels of their own, [`Layout::Split`] and [`Layout::Columns`].
    pub fn matmul(&self, format: Format, layout: Layout) -> Option<MatMul> {
        match layout {
            Layout::Rows => Some(self.rows.of(format)),
            Layout::Grouped => Some(self.grouped),
            Layout::Split | Layout::Columns => None,
        }
    }

    /// The product with chosen rows of a [`Layout::Split`] matrix.
    pub fn pick_rows(&self) -> PickRows {
        self.split
    }

    /// The product with a [`Layout::Columns`] matrix.
    pub fn sum_columns(&self) -> SumColumns {
        self.columns
    }

    /// Likely upper bounds of products, from the sketch of a matrix.
    pub fn bound_rows(&self) -> BoundRows {
        self.bound
    }

    /// The addition of a multiple of a row.
    pub fn axpy(&self) -> Axpy {
        self.axpy
    }

    /// The attention kernel.
    pub fn attention(&self) -> Attention {
        self.attention
    }

    /// The rounding to half precision.
    pub fn narrow(&self) -> Narrow {
        self.narrow
    }

    /// The encoding of activation rows.
    pub fn encode(&self) -> Encode {
        self.encode
    }

    /// The hint that bytes will soon be read.
    pub fn prefetch(&self) -> Prefetch {
        self.prefetch
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernels").field("name", &self.name).finish_non_exhaustive()
    }
}
