//! The table of kernels that a model computes with.

use crate::{Activation, Format, scalar};
use core::fmt;
use half::f16;

/// `out[r] = Σ_c weights[r][c] · x[c]` for `out.len()` consecutive rows of `x.values.len()`
/// weights. Each product is the same bits whatever rows are computed with it.
pub type MatVec = fn(weights: &[u8], x: &Activation<'_>, out: &mut [f32]);

/// Attention of the query heads that share one KV head; see [`scalar::attention`].
pub type Attention = fn(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]);

/// Keys and values of one KV head and the positions to attend to.
///
/// Position `p` lies in row `p % rows` of `rows × head` values, which is a ring when `rows` is
/// less than the context. `rows` is a multiple of [`crate::KEY_TILE`].
#[derive(Clone, Copy, Debug)]
pub struct KvView<'a> {
    /// Keys, `rows × head`.
    pub keys: &'a [f16],
    /// Values, `rows × head`.
    pub values: &'a [f16],
    /// Size of a head.
    pub head: usize,
    /// First position to attend to.
    pub from: usize,
    /// One past the last position; more than `from`, by `rows` at most.
    pub to: usize,
}

impl<'a> KvView<'a> {
    /// The key at a position.
    pub fn key(&self, position: usize) -> &'a [f16] {
        self.row(self.keys, position)
    }

    /// The value at a position.
    pub fn value(&self, position: usize) -> &'a [f16] {
        self.row(self.values, position)
    }

    fn row(&self, slab: &'a [f16], position: usize) -> &'a [f16] {
        let row = position % (slab.len() / self.head);
        &slab[row * self.head..][..self.head]
    }
}

/// Function pointers to one variant of every kernel.
///
/// A table is reached only through a function that checks for its instructions, so holding one
/// proves that they exist.
pub struct Kernels {
    name: &'static str,
    matvec: [MatVec; Format::ALL.len()],
    attention: Attention,
}

impl Kernels {
    pub(crate) const fn new(
        name: &'static str,
        matvec: [MatVec; Format::ALL.len()],
        attention: Attention,
    ) -> Kernels {
        Kernels { name, matvec, attention }
    }

    /// The kernels in plain Rust, which exist everywhere.
    pub fn scalar() -> &'static Kernels {
        &scalar::KERNELS
    }

    /// The variant's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The matrix-vector product for rows of this format.
    pub fn matvec(&self, format: Format) -> MatVec {
        self.matvec[format as usize]
    }

    /// The attention kernel.
    pub fn attention(&self) -> Attention {
        self.attention
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernels").field("name", &self.name).finish_non_exhaustive()
    }
}
