//! Products with Q4_0 matrices in [`crate::Layout::Planes`], a row in each lane.

use super::dot::Dot;
use crate::layout::{BLOCK, BLOCK_BYTES, GROUP, LOWER, PANEL, UPPER, planes};
use crate::{Activation, activation::count_blocks};
use core::arch::x86_64::*;
use core::ops::Range;

/// The product with some rows.
#[inline(always)]
pub(super) unsafe fn multiply<D: Dot>(
    weights: &[u8],
    rows: Range<usize>,
    next: usize,
    x: &Activation<'_>,
    out: &mut [f32],
) {
    let x = &x.q8_0;
    let blocks = count_blocks([x], BLOCK, BLOCK);
    assert!(rows.start.is_multiple_of(GROUP) && out.len() == rows.len());
    for (row, out) in rows.step_by(GROUP).zip(out.as_chunks_mut::<GROUP>().0) {
        let (upper, lower) = planes(blocks, weights, row);
        let (next_upper, next_lower) = planes(blocks, weights, next);
        // SAFETY: the planes of a group have `blocks` blocks of `UPPER` and `LOWER` bytes, as many
        // as the activations. The caller has the variant's features.
        unsafe {
            let mut total = _mm256_setzero_ps();
            for b in 0..blocks {
                let (upper, lower) = (upper.as_ptr().add(b * UPPER), lower.as_ptr().add(b * LOWER));
                // A block of the upper plane has a little more than a cache line.
                let ahead = next_upper.as_ptr().add(b * UPPER);
                for place in [ahead, ahead.wrapping_add(64), next_lower.as_ptr().add(b * LOWER)] {
                    _mm_prefetch::<_MM_HINT_T1>(place.cast());
                }
                let mut sums = _mm256_setzero_si256();
                for i in 0..2 {
                    let high = _mm256_loadu_si256(upper.add(16 + i * 32).cast());
                    let low = _mm256_loadu_si256(lower.add(i * 32).cast());
                    // Crumbs 0 and 2, then 1 and 3 of each byte become nibbles.
                    let (even, odd) = (_mm256_set1_epi8(0x33), _mm256_set1_epi8(0xCCu8 as i8));
                    let first = _mm256_slli_epi16::<2>(_mm256_and_si256(high, even));
                    let first = _mm256_or_si256(first, _mm256_and_si256(low, even));
                    let second = _mm256_srli_epi16::<2>(_mm256_and_si256(low, odd));
                    let second = _mm256_or_si256(second, _mm256_and_si256(high, odd));
                    let mask = _mm256_set1_epi8(15);
                    let x = x.quants.as_ptr().add(b * BLOCK + i * 16).cast::<i32>();
                    let quants = [
                        _mm256_and_si256(first, mask),
                        _mm256_and_si256(second, mask),
                        _mm256_and_si256(_mm256_srli_epi16::<4>(first), mask),
                        _mm256_and_si256(_mm256_srli_epi16::<4>(second), mask),
                    ];
                    for (s, quants) in quants.into_iter().enumerate() {
                        sums = D::add(sums, quants, _mm256_set1_epi32(x.add(s).read_unaligned()));
                    }
                }
                let offset = _mm256_set1_epi32(8 * i32::from(*x.sums.get_unchecked(b)));
                let sum = _mm256_sub_epi32(D::finish(sums), offset);
                let scales = _mm256_cvtph_ps(_mm_loadu_si128(upper.cast()));
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*x.scales.get_unchecked(b)));
                let product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
                total = _mm256_add_ps(total, product);
            }
            _mm256_storeu_ps(out.as_mut_ptr(), total);
        }
    }
}

/// What the products with some rows hardly exceed.
#[inline(always)]
pub(super) unsafe fn bound<D: Dot>(
    weights: &[u8],
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
        let (upper, _) = planes(blocks, weights, row);
        // SAFETY: the upper plane of a group has `blocks` blocks of `UPPER` bytes, as many as the
        // activations and the spreads. The caller has the variant's features.
        unsafe {
            let (mut total, mut variance) = (_mm256_setzero_ps(), _mm256_setzero_ps());
            for b in 0..blocks {
                let block = upper.as_ptr().add(b * UPPER);
                // The same place of the next panel; a block has a little more than a cache line.
                for line in 0..2 {
                    let ahead = block.wrapping_add(PANEL * blocks * BLOCK_BYTES + line * 64);
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                }
                let mut sums = _mm256_setzero_si256();
                for i in 0..2 {
                    let plane = _mm256_loadu_si256(block.add(16 + i * 32).cast());
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
