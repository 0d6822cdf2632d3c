//! Products with matrices of blocks of 32 as they lie in a file.
//!
//! Within a row, blocks are scaled and added one after another, as the scalar kernels do, so results
//! are the same bits.

use super::dot::Dot;
use super::q4_0::nibbles;
use crate::activation::count_blocks;
use crate::tokens::Product;
use crate::{Activation, Format};
use core::arch::x86_64::*;
use core::marker::PhantomData;

const BLOCK: usize = 32;
/// Bytes of the scale that a block begins with.
const SCALE: usize = 2;

/// Rows side by side: one in each lane.
const ROWS: usize = 8;

/// A format whose blocks are a scale and 32 quants.
pub(super) trait Block32 {
    const FORMAT: Format;
    /// The quants, which follow the scale, as signed numbers.
    ///
    /// # Safety
    /// A whole block is there, and the processor has AVX2.
    unsafe fn weights(quants: *const u8) -> __m256i;
}

/// 4 bits around 8.
pub(super) struct Q4_0;
/// 8 bits.
pub(super) struct Q8_0;

impl Block32 for Q4_0 {
    const FORMAT: Format = Format::Q4_0;

    #[inline(always)]
    unsafe fn weights(quants: *const u8) -> __m256i {
        // SAFETY: the caller has 16 bytes of quants and AVX2.
        unsafe {
            let bytes = _mm256_castsi128_si256(_mm_loadu_si128(quants.cast()));
            let (low, high) = nibbles(bytes);
            let all = _mm256_inserti128_si256::<1>(low, _mm256_castsi256_si128(high));
            _mm256_sub_epi8(all, _mm256_set1_epi8(8))
        }
    }
}

impl Block32 for Q8_0 {
    const FORMAT: Format = Format::Q8_0;

    #[inline(always)]
    unsafe fn weights(quants: *const u8) -> __m256i {
        // SAFETY: the caller has 32 bytes of quants and AVX2.
        unsafe { _mm256_loadu_si256(quants.cast()) }
    }
}

/// The product with rows of blocks `B`, bytes multiplied by `D`.
pub(super) struct Rows<B, D>(PhantomData<(B, D)>);

impl<B: Block32, D: Dot> Product for Rows<B, D> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        let xs = xs.map(|x| &x.q8_0);
        let blocks = count_blocks(xs, BLOCK, BLOCK);
        let (rows, block_bytes) = (out.len() / T, B::FORMAT.block_bytes());
        assert!(weights.len() >= rows * blocks * block_bytes);
        for first in (0..rows).step_by(ROWS) {
            let mut totals = [[0f32; ROWS]; T];
            // SAFETY: the asserts above keep every access inside its slice: a row of weights has
            // `blocks` blocks of `block_bytes` bytes, an activation row as many of `BLOCK` quants.
            // Lanes without a row repeat the last one. The caller has the variant's features.
            unsafe {
                let starts: [*const u8; ROWS] = core::array::from_fn(|i| {
                    let row = (first + i).min(rows - 1);
                    weights.as_ptr().add(row * blocks * block_bytes)
                });
                let mut sums = [_mm256_setzero_ps(); T];
                for b in 0..blocks {
                    let offset = b * block_bytes;
                    let scales = widen(&starts, offset);
                    let mut weights = [_mm256_setzero_si256(); ROWS];
                    for (weights, start) in weights.iter_mut().zip(starts) {
                        *weights = B::weights(start.add(offset + SCALE));
                    }
                    for (sum, x) in sums.iter_mut().zip(xs) {
                        let quants = _mm256_loadu_si256(x.quants.as_ptr().add(b * BLOCK).cast());
                        let mut products = [_mm256_setzero_si256(); ROWS];
                        for (product, weights) in products.iter_mut().zip(weights) {
                            *product = D::multiply(weights, quants);
                        }
                        let bias = D::BIAS * i32::from(*x.sums.get_unchecked(b));
                        let product =
                            _mm256_sub_epi32(add_lanes(products), _mm256_set1_epi32(bias));
                        let scale = _mm256_set1_ps(*x.scales.get_unchecked(b));
                        let scale = _mm256_mul_ps(scales, scale);
                        let product = _mm256_mul_ps(_mm256_cvtepi32_ps(product), scale);
                        *sum = _mm256_add_ps(*sum, product);
                    }
                }
                for (total, sum) in totals.iter_mut().zip(sums) {
                    _mm256_storeu_ps(total.as_mut_ptr(), sum);
                }
            }
            for (t, total) in totals.iter().enumerate() {
                let out = &mut out[t * rows..][first..rows.min(first + ROWS)];
                out.copy_from_slice(&total[..out.len()]);
            }
        }
    }
}

/// The half-precision numbers at an offset from eight places.
#[inline(always)]
unsafe fn widen(starts: &[*const u8; 8], offset: usize) -> __m256 {
    // SAFETY: the caller has F16C and two bytes at each place.
    unsafe {
        let half = |i: usize| starts[i].add(offset).cast::<i16>().read_unaligned();
        let [a, b, c, d] = [half(0), half(1), half(2), half(3)];
        let [e, f, g, h] = [half(4), half(5), half(6), half(7)];
        _mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h))
    }
}

/// The sum of the lanes of each vector.
#[inline(always)]
unsafe fn add_lanes(v: [__m256i; 8]) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let four = |a, b, c, d| _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        // Each half of these has four sums of the same half of their vectors.
        let (low, high) = (four(v[0], v[1], v[2], v[3]), four(v[4], v[5], v[6], v[7]));
        _mm256_add_epi32(
            _mm256_permute2x128_si256::<0x20>(low, high),
            _mm256_permute2x128_si256::<0x31>(low, high),
        )
    }
}
