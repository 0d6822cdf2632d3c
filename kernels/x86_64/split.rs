//! Products of an activation row with chosen rows of Q4_0 matrices in [`Layout::Split`].
//!
//! Products of several blocks of a row are computed side by side. Then those of several rows are
//! transposed, so that each lane has a row, and added in the order of blocks, as the scalar kernels do.

use super::dot::Dot;
use super::q4_0::nibbles;
use super::transpose::{transpose_8, transpose_16};
use crate::activation::count_blocks;
use crate::layout::{BLOCK, BLOCK_BYTES};
use crate::scalar::arranged::add_blocks;
use crate::{Activation, Layout, Q8};
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// How a variant picks rows.
pub(super) trait Split {
    /// [`crate::PickRows`].
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn pick_rows(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]);
}

/// 8 rows and 8 blocks at a time, bytes multiplied by `D`.
pub(super) struct ByEight<D>(PhantomData<D>);

impl<D: Dot> Split for ByEight<D> {
    #[inline(always)]
    unsafe fn pick_rows(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]) {
        // SAFETY: the caller has the variant's features.
        unsafe { by_eight::<D>(weights, rows, x, out) }
    }
}

/// 16 rows and 16 blocks at a time, with AVX-512's instruction for 8-bit dot products.
pub(super) struct BySixteen;

impl Split for BySixteen {
    #[inline(always)]
    unsafe fn pick_rows(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]) {
        // SAFETY: the caller has the variant's features.
        unsafe { by_sixteen(weights, rows, x, out) }
    }
}

/// Blocks whose products stand side by side in the lanes of [`by_eight`].
const LANES: usize = 8;

/// The product with chosen rows of a [`Layout::Split`] matrix, 8 rows at a time: products of 8
/// blocks are computed side by side, transposed so that each lane has a row, and added in order.
///
/// # Safety
/// The processor has the features of `D`.
#[inline(always)]
pub(super) unsafe fn by_eight<D: Dot>(
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
                for block in transpose_8(products) {
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

/// Eight blocks of an activation row, prepared for [`by_eight`].
struct EightBlocks {
    /// The first halves of two blocks, then their second halves; four times.
    quants: [[__m256i; 2]; 4],
    /// 8 times the sums of the quants.
    offsets: __m256i,
    scales: __m256,
}

impl EightBlocks {
    /// The blocks from `b` on, of which there must be 8.
    ///
    /// # Safety
    /// `x` has 8 blocks from `b` on, and the processor has AVX2.
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
    ///
    /// # Safety
    /// There are 128 bytes at `row`, and the processor has the features of `D`.
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

/// The same for 16 rows and 16 blocks, with AVX-512's instruction for 8-bit dot products.
///
/// # Safety
/// The processor has AVX-512 F, BW, VL and VNNI.
#[inline(always)]
pub(super) unsafe fn by_sixteen(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]) {
    let q8 = &x.q8_0;
    let blocks = count_blocks([q8], BLOCK, BLOCK);
    let row_bytes = blocks * BLOCK_BYTES;
    for (rows, out) in rows.chunks(16).zip(out.chunks_mut(16)) {
        let most = rows.iter().fold(0, |most, row| most.max(*row as usize));
        assert!((most + 1) * row_bytes <= weights.len(), "row {most} of {} bytes", weights.len());
        let mut lanes = [0f32; 16];
        // SAFETY: rows lie inside `weights`; of 16 blocks from `b` on, only those are loaded that are
        // inside a row and the activations. The caller has AVX-512 F, BW, VL and VNNI.
        unsafe {
            let mut products = [_mm512_setzero_ps(); 16];
            let mut total = _mm512_setzero_ps();
            for b in (0..blocks).step_by(16) {
                let x = SixteenBlocks::load(q8, b, 16.min(blocks - b));
                for (product, row) in products.iter_mut().zip(rows) {
                    let row = weights.as_ptr().add(*row as usize * row_bytes);
                    *product = x.multiply(row.add(b * 2), row.add(blocks * 2 + b * 16));
                }
                // Blocks that are not there add zeros.
                for block in transpose_16(products) {
                    total = _mm512_add_ps(total, block);
                }
            }
            _mm512_storeu_ps(lanes.as_mut_ptr(), total);
        }
        out.copy_from_slice(&lanes[..rows.len()]);
    }
}

/// Up to 16 blocks of an activation row, prepared for [`by_sixteen`].
struct SixteenBlocks {
    /// The first halves of four blocks, and their second halves; four times.
    quants: [[__m512i; 2]; 4],
    /// 8 times the sums of the quants.
    offsets: __m512i,
    scales: __m512,
    /// Which bytes of their quants are there, for each four blocks.
    bytes: [u64; 4],
    /// Which blocks are there.
    there: u16,
}

impl SixteenBlocks {
    /// `count` blocks from `b` on.
    ///
    /// # Safety
    /// `x` has the blocks, 1 to 16, and the processor has AVX-512 F, BW and VL.
    #[inline(always)]
    unsafe fn load(x: &Q8<'_>, b: usize, count: usize) -> SixteenBlocks {
        // SAFETY: the caller has AVX-512, and what is not there is not loaded.
        unsafe {
            let there = u16::MAX >> (16 - count);
            let mut quants = [[_mm512_setzero_si512(); 2]; 4];
            let mut bytes = [0; 4];
            for (i, (pair, bytes)) in quants.iter_mut().zip(&mut bytes).enumerate() {
                let here = count.saturating_sub(i * 4).min(4);
                *bytes = first_bytes(here * 16);
                let at = x.quants.as_ptr().wrapping_add((b + i * 4) * BLOCK);
                let left = _mm512_maskz_loadu_epi8(first_bytes(here * BLOCK), at.cast());
                let more = first_bytes((here * BLOCK).saturating_sub(64));
                let right = _mm512_maskz_loadu_epi8(more, at.wrapping_add(64).cast());
                pair[0] = _mm512_shuffle_i32x4::<0x88>(left, right);
                pair[1] = _mm512_shuffle_i32x4::<0xDD>(left, right);
            }
            let sums = _mm256_maskz_loadu_epi16(there, x.sums.as_ptr().add(b));
            SixteenBlocks {
                quants,
                offsets: _mm512_slli_epi32::<3>(_mm512_cvtepi16_epi32(sums)),
                scales: _mm512_maskz_loadu_ps(there, x.scales.as_ptr().add(b)),
                bytes,
                there,
            }
        }
    }

    /// The products with blocks of weights, whose scales lie at `scales` and quants at `quants`.
    ///
    /// # Safety
    /// There are such blocks, and the processor has AVX-512 F, BW, VL and VNNI.
    #[inline(always)]
    unsafe fn multiply(&self, scales: *const u8, quants: *const u8) -> __m512 {
        // SAFETY: the caller has AVX-512 F, BW, VL and VNNI, and the blocks that are there.
        unsafe {
            let mask = _mm512_set1_epi8(15);
            // Each quarter of a four has four sums of one block.
            let mut fours = [_mm512_setzero_si512(); 4];
            for (i, (four, [first, second])) in fours.iter_mut().zip(self.quants).enumerate() {
                let quants = quants.wrapping_add(i * 64);
                let quants = _mm512_maskz_loadu_epi8(self.bytes[i], quants.cast());
                let low = _mm512_and_si512(quants, mask);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(quants), mask);
                *four = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(*four, low, first), high, second);
            }
            let [a, b, c, d] = fours;
            let left = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let right = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            let sums = _mm512_add_epi32(
                _mm512_unpacklo_epi64(left, right),
                _mm512_unpackhi_epi64(left, right),
            );
            // Now the blocks 0 4 8 12 | 1 5 9 13 | 2 6 10 14 | 3 7 11 15.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let sums = _mm512_sub_epi32(_mm512_permutexvar_epi32(order, sums), self.offsets);
            let scales = _mm256_maskz_loadu_epi16(self.there, scales.cast());
            let scale = _mm512_mul_ps(_mm512_cvtph_ps(scales), self.scales);
            _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale)
        }
    }
}

/// A mask of the first `count` bytes of a vector, or of all.
fn first_bytes(count: usize) -> u64 {
    if count < 64 { (1 << count) - 1 } else { u64::MAX }
}
