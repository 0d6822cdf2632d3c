//! The steps of attention in vectors.

use super::dot::Dot;
use super::lanes::Halves;
use crate::attention::{QueryBlock, Steps};
use core::arch::aarch64::*;
use core::marker::PhantomData;

/// Steps by NEON and `D`.
pub(super) struct Vectors<D>(PhantomData<D>);

impl<D: Dot> Steps for Vectors<D> {
    type Lanes = Halves;

    #[inline(always)]
    unsafe fn multiply(keys: &[i8; 256], query: &QueryBlock) -> [i32; 8] {
        let mut out = [0; 8];
        // SAFETY: the query is two vectors and `out` is as large as two. The caller has the variant's
        // features.
        unsafe {
            let query = query.quants.as_ptr();
            let [low, high] = D::interleaved(keys, [vld1q_s8(query), vld1q_s8(query.add(16))]);
            vst1q_s32(out.as_mut_ptr(), low);
            vst1q_s32(out.as_mut_ptr().add(4), high);
        }
        out
    }
}
