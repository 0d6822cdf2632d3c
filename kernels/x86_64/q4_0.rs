//! Products with Q4_0 matrices in the layouts that are made for vector units.
//!
//! Quants are taken as 0 … 15 and multiplied as unsigned bytes; 8 times the sum of the activations
//! is taken away afterwards. Within a row, blocks are scaled and added one after another, as the
//! scalar kernels do, so results are the same bits.

use super::dot::Dot;
use crate::activation::count_blocks;
use crate::layout::{BLOCK, BLOCK_BYTES, GROUP, GROUP_BLOCK};
use crate::scalar::arranged::add_blocks;
use crate::tokens::Product;
use crate::{Activation, Layout, Q8};
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
                let mut sums = [_mm256_setzero_si256(); T];
                for i in 0..4 {
                    let quants = _mm256_loadu_si256(block.add(16 + i * 32).cast());
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
                    let scale = _mm256_set1_ps(*xs[t].scales.get_unchecked(b));
                    let scale = _mm256_mul_ps(scales, scale);
                    let product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
                    totals[t] = _mm256_add_ps(totals[t], product);
                }
                block = block.add(GROUP_BLOCK);
            }
            for (t, total) in totals.into_iter().enumerate() {
                _mm256_storeu_ps(out.as_mut_ptr().add(t * rows + group * GROUP), total);
            }
        }
    }
}

/// Low and high nibbles of 32 bytes.
#[inline(always)]
pub(super) unsafe fn nibbles(bytes: __m256i) -> (__m256i, __m256i) {
    // SAFETY: the caller has AVX2.
    unsafe {
        let mask = _mm256_set1_epi8(15);
        (_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask))
    }
}

/// Blocks whose products stand side by side in the lanes of [`split`].
const LANES: usize = 8;

/// The product with chosen rows of a [`Layout::Split`] matrix, 8 rows at a time: products of 8
/// blocks are computed side by side, turned around so that each lane has a row, and added in order.
#[inline(always)]
pub(super) unsafe fn split<D: Dot>(
    weights: &[u8],
    rows: &[u32],
    x: &Activation<'_>,
    out: &mut [f32],
) {
    let q8 = &x.q8_0;
    let blocks = count_blocks([q8], BLOCK, BLOCK);
    let row_bytes = blocks * BLOCK_BYTES;
    for (rows, out) in rows.chunks(8).zip(out.chunks_mut(8)) {
        let most = rows.iter().fold(0, |most, row| most.max(*row as usize));
        assert!((most + 1) * row_bytes <= weights.len(), "row {most} of {} bytes", weights.len());
        // Lanes without a row repeat the first one.
        let row = |i: usize| *rows.get(i).unwrap_or(&rows[0]) as usize;
        let starts: [usize; 8] = core::array::from_fn(|i| row(i) * row_bytes);
        let whole = blocks / LANES * LANES;
        let mut lanes = [0f32; 8];
        // SAFETY: rows lie inside `weights`, and `b .. b + 8` inside the blocks of a row and of the
        // activations. The caller has the variant's features.
        unsafe {
            let mut total = _mm256_setzero_ps();
            for b in (0..whole).step_by(LANES) {
                let x = EightBlocks::load(q8, b);
                let mut products = [_mm256_setzero_ps(); 8];
                for (product, start) in products.iter_mut().zip(starts) {
                    let row = weights.as_ptr().add(start);
                    let scales = _mm256_cvtph_ps(_mm_loadu_si128(row.add(b * 2).cast()));
                    let sums = x.multiply::<D>(row.add(blocks * 2 + b * 16));
                    let scale = _mm256_mul_ps(scales, x.scales);
                    *product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale);
                }
                for block in transpose(products) {
                    total = _mm256_add_ps(total, block);
                }
            }
            _mm256_storeu_ps(lanes.as_mut_ptr(), total);
        }
        for (i, (y, total)) in out.iter_mut().zip(lanes).enumerate().take(rows.len()) {
            *y = add_blocks(total, Layout::Split, weights, row(i), x, whole..blocks);
        }
    }
}

/// Eight blocks of an activation row, prepared for [`split`].
struct EightBlocks {
    /// The first halves of two blocks, then their second halves; four times.
    quants: [[__m256i; 2]; 4],
    /// 8 times the sums of the quants.
    offsets: __m256i,
    scales: __m256,
}

impl EightBlocks {
    /// The blocks from `b` on, of which there must be 8.
    #[inline(always)]
    unsafe fn load(x: &Q8<'_>, b: usize) -> EightBlocks {
        // SAFETY: the caller has AVX2, and 8 blocks from `b` on.
        unsafe {
            let mut quants = [[_mm256_setzero_si256(); 2]; 4];
            for (i, pair) in quants.iter_mut().enumerate() {
                let at = x.quants.as_ptr().add((b + i * 2) * BLOCK);
                let first = _mm256_loadu_si256(at.cast());
                let second = _mm256_loadu_si256(at.add(BLOCK).cast());
                pair[0] = _mm256_permute2x128_si256::<0x20>(first, second);
                pair[1] = _mm256_permute2x128_si256::<0x31>(first, second);
            }
            let sums = _mm256_cvtepi16_epi32(_mm_loadu_si128(x.sums.as_ptr().add(b).cast()));
            EightBlocks {
                quants,
                offsets: _mm256_slli_epi32::<3>(sums),
                scales: _mm256_loadu_ps(x.scales.as_ptr().add(b)),
            }
        }
    }

    /// The sums of products with 8 blocks of weights, whose quants lie at `row`.
    #[inline(always)]
    unsafe fn multiply<D: Dot>(&self, row: *const u8) -> __m256i {
        // SAFETY: the caller has the variant's features and 128 bytes at `row`.
        unsafe {
            // Each half of a pair has four sums of one block.
            let mut pairs = [_mm256_setzero_si256(); 4];
            for (i, (pair, [first, second])) in pairs.iter_mut().zip(self.quants).enumerate() {
                let (low, high) = nibbles(_mm256_loadu_si256(row.add(i * 32).cast()));
                *pair = D::finish(D::add(D::add(*pair, low, first), high, second));
            }
            let left = _mm256_hadd_epi32(pairs[0], pairs[1]);
            let right = _mm256_hadd_epi32(pairs[2], pairs[3]);
            let sums = _mm256_hadd_epi32(left, right);
            // Now the blocks 0 2 4 6 | 1 3 5 7.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            _mm256_sub_epi32(_mm256_permutevar8x32_epi32(sums, order), self.offsets)
        }
    }
}

/// Lane `i` of row `j` becomes lane `j` of row `i`.
#[inline(always)]
unsafe fn transpose(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller has AVX2.
    unsafe {
        let (mut pairs, mut quads) = (r, r);
        for i in [0, 2, 4, 6] {
            pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
        }
        for i in [0, 4] {
            quads[i] = _mm256_shuffle_ps::<0x44>(pairs[i], pairs[i + 2]);
            quads[i + 1] = _mm256_shuffle_ps::<0xEE>(pairs[i], pairs[i + 2]);
            quads[i + 2] = _mm256_shuffle_ps::<0x44>(pairs[i + 1], pairs[i + 3]);
            quads[i + 3] = _mm256_shuffle_ps::<0xEE>(pairs[i + 1], pairs[i + 3]);
        }
        let mut out = r;
        for i in 0..4 {
            out[i] = _mm256_permute2f128_ps::<0x20>(quads[i], quads[i + 4]);
            out[i + 4] = _mm256_permute2f128_ps::<0x31>(quads[i], quads[i + 4]);
        }
        out
    }
}
