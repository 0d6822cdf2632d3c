//! Products with Q4_0 matrices in the layouts that are made for vector units.
//!
//! Quants are taken as 0 … 15 and multiplied as unsigned bytes; 8 times the sum of the activations
//! is taken away afterwards. Within a row, blocks are scaled and added one after another, as the
//! scalar kernels do, so results are the same bits.

use super::dot::Dot;
use crate::Q8;
use crate::generic::grouped::Groups;
use crate::layout::{BLOCK, GROUP, GROUP_BLOCK};
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// Groups of rows of a [`Layout::Grouped`](crate::Layout::Grouped) matrix, bytes multiplied by `D`.
pub(super) struct ByLanes<D>(PhantomData<D>);

impl<D: Dot> Groups for ByLanes<D> {
    const PAIRED: usize = 2;

    #[inline(always)]
    unsafe fn multiply<const T: usize, const G: usize>(
        weights: &[u8],
        group: usize,
        xs: [&Q8<'_>; T],
        rows: usize,
        out: &mut [f32],
    ) {
        let blocks = xs[0].scales.len();
        let stride = blocks * GROUP_BLOCK;
        // SAFETY: the caller's promise.
        unsafe {
            let weights = weights.as_ptr().add(group * stride);
            let mut totals = [[_mm256_setzero_ps(); T]; G];
            for b in 0..blocks {
                let starts: [*const u8; G] =
                    core::array::from_fn(|g| weights.add(g * stride + b * GROUP_BLOCK));
                // With several tokens, time is spent on products, and weights come by themselves.
                if T == 1 {
                    starts.iter().for_each(|start| prefetch(start.wrapping_add(G * stride)));
                }
                let mut scales = [_mm256_setzero_ps(); G];
                let mut quants = [[_mm256_setzero_si256(); G]; 4];
                for (g, start) in starts.into_iter().enumerate() {
                    scales[g] = _mm256_cvtph_ps(_mm_loadu_si128(start.cast()));
                    for (i, quants) in quants.iter_mut().enumerate() {
                        quants[g] = _mm256_loadu_si256(start.add(16 + i * 32).cast());
                    }
                }
                add_blocks::<D, T, G>(&mut totals, scales, quants, xs, b);
            }
            for (g, totals) in totals.into_iter().enumerate() {
                for (t, total) in totals.into_iter().enumerate() {
                    _mm256_storeu_ps(out.as_mut_ptr().add(t * rows + (group + g) * GROUP), total);
                }
            }
        }
    }
}

/// Asks for a block of a group for the second-level cache: requests for the first-level one would take the few
/// places that those for rows of other matrices need.
#[inline(always)]
fn prefetch(block: *const u8) {
    // A block has a little more than two cache lines.
    for line in 0..3 {
        // SAFETY: a hint reads nothing, and SSE is part of every x86-64 processor.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(block.wrapping_add(line * 64).cast()) };
    }
}

/// Adds to the totals of `G` times eight rows the products of their blocks with block `b` of `xs`. Each
/// of `quants[i]` has the `i`-th four bytes of each of eight rows.
///
/// # Safety
/// Each of `xs` has block `b`, and the processor has F16C and the features of `D`.
#[inline(always)]
pub(super) unsafe fn add_blocks<D: Dot, const T: usize, const G: usize>(
    totals: &mut [[__m256; T]; G],
    scales: [__m256; G],
    quants: [[__m256i; G]; 4],
    xs: [&Q8<'_>; T],
    b: usize,
) {
    // SAFETY: the caller has block `b` in each of `xs`, and the variant's features.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); T]; G];
        for (i, quants) in quants.into_iter().enumerate() {
            let mut halves = [(_mm256_setzero_si256(), _mm256_setzero_si256()); G];
            for (halves, quants) in halves.iter_mut().zip(quants) {
                *halves = nibbles(quants);
            }
            for t in 0..T {
                let x = xs[t].quants.as_ptr().add(b * BLOCK + i * 4).cast::<i32>();
                let first = _mm256_set1_epi32(x.read_unaligned());
                let second = _mm256_set1_epi32(x.add(4).read_unaligned());
                for (sums, (low, high)) in sums.iter_mut().zip(halves) {
                    sums[t] = D::add(D::add(sums[t], low, first), high, second);
                }
            }
        }
        for t in 0..T {
            let offset = _mm256_set1_epi32(8 * i32::from(*xs[t].sums.get_unchecked(b)));
            let x_scale = _mm256_set1_ps(*xs[t].scales.get_unchecked(b));
            for g in 0..G {
                let sum = _mm256_sub_epi32(D::finish(sums[g][t]), offset);
                let scale = _mm256_mul_ps(scales[g], x_scale);
                let product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
                totals[g][t] = _mm256_add_ps(totals[g][t], product);
            }
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
