//! Estimates of products from the [`sketch`](crate::sketch()) of a matrix, a row in each lane.

use super::dot::Dot;
use crate::Activation;
use crate::activation::count_blocks;
use crate::layout::{BLOCK, GROUP};
use crate::sketch::{SCALES, SKETCH_BLOCK, group};
use core::arch::x86_64::*;
use core::ops::Range;

/// How many groups ahead of their use bytes are asked for.
const AHEAD: usize = 4;

/// What the products with some rows hardly exceed.
#[inline(always)]
pub(super) unsafe fn bound<D: Dot>(
    sketch: &[u8],
    rows: Range<usize>,
    x: &Activation<'_>,
    spreads: &[f32],
    out: &mut [f32],
) {
    let x = &x.q8_0;
    let blocks = count_blocks([x], BLOCK, BLOCK);
    assert!(rows.start.is_multiple_of(GROUP) && out.len() == rows.len());
    assert!(spreads.len() == blocks);
    for (row, out) in rows.step_by(GROUP).zip(out.as_chunks_mut::<GROUP>().0) {
        let group = group(blocks, sketch, row);
        // SAFETY: a group has `blocks` blocks of `SKETCH_BLOCK` bytes, as many as the
        // activations and the spreads. The caller has the variant's features.
        unsafe {
            let (mut total, mut variance) = (_mm256_setzero_ps(), _mm256_setzero_ps());
            for b in 0..blocks {
                let block = group.as_ptr().add(b * SKETCH_BLOCK);
                // A block has a little more than a cache line.
                for line in 0..2 {
                    let ahead = block.wrapping_add(AHEAD * blocks * SKETCH_BLOCK + line * 64);
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                }
                let mut sums = _mm256_setzero_si256();
                for i in 0..2 {
                    let plane = _mm256_loadu_si256(block.add(SCALES + i * 32).cast());
                    let mask = _mm256_set1_epi8(3);
                    let x = x.quants.as_ptr().add(b * BLOCK + i * 16).cast::<i32>();
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
                let offset = _mm256_set1_epi32(13 * i32::from(*x.sums.get_unchecked(b)));
                let twice = _mm256_slli_epi32::<3>(D::finish(sums));
                let twice = _mm256_cvtepi32_ps(_mm256_sub_epi32(twice, offset));
                let scales = _mm256_cvtph_ps(_mm_loadu_si128(block.cast()));
                let half = _mm256_set1_ps(0.5 * *x.scales.get_unchecked(b));
                let product = _mm256_mul_ps(twice, _mm256_mul_ps(scales, half));
                total = _mm256_add_ps(total, product);
                let spread = _mm256_set1_ps(*spreads.get_unchecked(b));
                let square = _mm256_mul_ps(_mm256_mul_ps(scales, scales), spread);
                variance = _mm256_add_ps(variance, square);
            }
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_add_ps(total, _mm256_sqrt_ps(variance)));
        }
    }
}
