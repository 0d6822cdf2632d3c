//! The steps of attention that a variant has instructions for.

use crate::activation::{Block, quantize_block};
use crate::kv::BLOCK;
use crate::lanes::Lanes;

/// What attention is made of, by a variant's instructions.
pub(crate) trait Steps {
    /// Eight singles.
    type Lanes: Lanes;

    /// The integer products of eight interleaved keys' quants with a block of a query.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn multiply(keys: &[i8; 256], query: &QueryBlock) -> [i32; 8];
}

/// 32 values of a query.
#[derive(Clone, Copy)]
pub(crate) struct QueryBlock {
    /// Quants from −127 to 127.
    pub(crate) quants: [i8; BLOCK],
    /// Their sum, which instructions that multiply signed with unsigned bytes need.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    pub(crate) sum: i32,
    /// Value of a quant, times `1 / sqrt(head)`.
    pub(super) scale: f32,
}

impl QueryBlock {
    pub(super) const ZERO: QueryBlock = QueryBlock { quants: [0; BLOCK], sum: 0, scale: 0.0 };

    #[inline(always)]
    pub(super) fn new(values: &[f32; BLOCK], factor: f32) -> QueryBlock {
        let Block { quants, scale, sum } = quantize_block(values);
        QueryBlock { quants, sum: sum.into(), scale: factor * scale }
    }
}
