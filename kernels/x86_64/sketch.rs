//! Products with the bits of a [`sketch`](crate::sketch()), a row in each lane.

use super::dot::Dot;
use crate::generic::sketch::SketchDot;
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// Products by `D`.
pub(super) struct Crumbs<D>(PhantomData<D>);

impl<D: Dot> SketchDot for Crumbs<D> {
    type Lanes = __m256;

    #[inline(always)]
    unsafe fn multiply(bits: *const u8, x: *const i8, offset: i32) -> __m256 {
        // SAFETY: the caller has the bits, the activations and the variant's features.
        unsafe {
            let mut sums = _mm256_setzero_si256();
            for i in 0..2 {
                let plane = _mm256_loadu_si256(bits.add(i * 32).cast());
                let mask = _mm256_set1_epi8(3);
                let x = x.add(i * 16).cast::<i32>();
                let crumbs = [
                    _mm256_and_si256(plane, mask),
                    _mm256_and_si256(_mm256_srli_epi16::<2>(plane), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(plane), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<6>(plane), mask),
                ];
                for (s, crumbs) in crumbs.into_iter().enumerate() {
                    sums = D::add(sums, crumbs, _mm256_set1_epi32(x.add(s).read_unaligned()));
                }
            }
            let eightfold = _mm256_slli_epi32::<3>(D::finish(sums));
            _mm256_cvtepi32_ps(_mm256_sub_epi32(eightfold, _mm256_set1_epi32(offset)))
        }
    }
}
