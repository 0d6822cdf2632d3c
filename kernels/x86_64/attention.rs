//! The steps of attention in vectors.

use super::dot::Dot;
use crate::attention::{QueryBlock, Steps};
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// Steps by vectors and `D`.
pub(super) struct Vectors<D>(PhantomData<D>);

impl<D: Dot> Steps for Vectors<D> {
    type Lanes = __m256;

    #[inline(always)]
    unsafe fn multiply(keys: &[i8; 256], query: &QueryBlock) -> [i32; 8] {
        let mut out = [0; 8];
        // SAFETY: keys are 8 vectors, the query 8 pieces of four bytes, and `out` is as large as a
        // vector. The caller has the variant's features.
        unsafe {
            let mut sums = _mm256_set1_epi32(-D::BIAS * query.sum);
            for piece in 0..8 {
                let keys = _mm256_loadu_si256(keys.as_ptr().add(32 * piece).cast());
                let query = query.quants.as_ptr().add(4 * piece).cast::<i32>().read_unaligned();
                sums = D::add_signed(sums, keys, _mm256_set1_epi32(query));
            }
            _mm256_storeu_si256(out.as_mut_ptr().cast(), sums);
        }
        out
    }
}
