//! Products with Q4_0 matrices in the layouts that are made for vector units.
//!
//! Quants are taken as 0 … 15 and multiplied as unsigned bytes; 8 times the sum of the activations
//! is taken away afterwards. Within a row, blocks are scaled and added one after another, as the
//! scalar kernels do, so results are the same bits.

use super::dot::Dot;
use crate::activation::count_blocks;
use crate::generic::tokens::Product;
use crate::layout::{BLOCK, GROUP, GROUP_BLOCK};
use crate::{Activation, Q8};
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// How many bytes ahead of their use weights are asked for, for the second-level cache: requests for the
/// first-level one would take the few places that those for rows of other matrices need.
const AHEAD: usize = 4096;

/// The product with a [`Layout::Grouped`] matrix: a row in each lane.
pub(super) struct Grouped<D>(PhantomData<D>);

impl<D: Dot> Product for Grouped<D> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        // SAFETY: the caller has the variant's features.
        unsafe { grouped::<D, T>(weights, xs.map(|x| &x.q8_0), out) }
    }
}

/// The product for `T` activation rows.
///
/// # Safety
/// The processor has the features of `D`.
#[inline(always)]
unsafe fn grouped<D: Dot, const T: usize>(weights: &[u8], xs: [&Q8<'_>; T], out: &mut [f32]) {
    let blocks = count_blocks(xs, BLOCK, BLOCK);
    let rows = out.len() / T;
    assert!(weights.len() >= rows / GROUP * blocks * GROUP_BLOCK && rows.is_multiple_of(GROUP));
    for group in 0..rows / GROUP {
        // SAFETY: the asserts above keep every access inside its slice: a group has `blocks` blocks
        // of `GROUP_BLOCK` bytes, an activation row as many of `BLOCK` quants, and each row of
        // `out` has 8 values for each group. The caller has the variant's features.
        unsafe {
            let mut block = weights.as_ptr().add(group * blocks * GROUP_BLOCK);
            let mut totals = [_mm256_setzero_ps(); T];
            for b in 0..blocks {
                // With several tokens, time is spent on products, and weights come by themselves. A
                // block has a little more than two cache lines.
                if T == 1 {
                    for line in 0..3 {
                        let ahead = block.wrapping_add(AHEAD + line * 64);
                        _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                    }
                }
                let scales = _mm256_cvtph_ps(_mm_loadu_si128(block.cast()));
                let mut quants = [_mm256_setzero_si256(); 4];
                for (i, quants) in quants.iter_mut().enumerate() {
                    *quants = _mm256_loadu_si256(block.add(16 + i * 32).cast());
                }
                add_block::<D, T>(&mut totals, scales, quants, xs, b);
                block = block.add(GROUP_BLOCK);
            }
            for (t, total) in totals.into_iter().enumerate() {
                _mm256_storeu_ps(out.as_mut_ptr().add(t * rows + group * GROUP), total);
            }
        }
    }
}

/// Adds to the totals of eight rows the products of their blocks with block `b` of `xs`. Vector `i` of
/// `quants` has the `i`-th four bytes of each row.
///
/// # Safety
/// Each of `xs` has block `b`, and the processor has F16C and the features of `D`.
#[inline(always)]
pub(super) unsafe fn add_block<D: Dot, const T: usize>(
    totals: &mut [__m256; T],
    scales: __m256,
    quants: [__m256i; 4],
    xs: [&Q8<'_>; T],
    b: usize,
) {
    // SAFETY: the caller has block `b` in each of `xs`, and the variant's features.
    unsafe {
        let mut sums = [_mm256_setzero_si256(); T];
        for (i, quants) in quants.into_iter().enumerate() {
            let (low, high) = nibbles(quants);
            for t in 0..T {
                let x = xs[t].quants.as_ptr().add(b * BLOCK + i * 4).cast::<i32>();
                let first = _mm256_set1_epi32(x.read_unaligned());
                let second = _mm256_set1_epi32(x.add(4).read_unaligned());
                sums[t] = D::add(D::add(sums[t], low, first), high, second);
            }
        }
        for t in 0..T {
            let offset = _mm256_set1_epi32(8 * i32::from(*xs[t].sums.get_unchecked(b)));
            let sum = _mm256_sub_epi32(D::finish(sums[t]), offset);
            let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*xs[t].scales.get_unchecked(b)));
            let product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
            totals[t] = _mm256_add_ps(totals[t], product);
        }
    }
}

/// Low and high nibbles of 32 bytes.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
pub(super) unsafe fn nibbles(bytes: __m256i) -> (__m256i, __m256i) {
    // SAFETY: the caller has AVX2.
    unsafe {
        let mask = _mm256_set1_epi8(15);
        (_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask))
    }
}
