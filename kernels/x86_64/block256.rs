//! Products with matrices of super-blocks ("K-quants") as they lie in a file.
//!
//! Quants are multiplied as unsigned bytes. The sums over a super-block are integers, whose order
//! does not matter; super-blocks are scaled and added one after another, as the scalar kernels do,
//! so results are the same bits.

use super::dot::Dot;
use crate::activation::count_blocks;
use crate::scalar::block256::{Q4_K, Q6_K, packed_scales};
use crate::tokens::Product;
use crate::{Activation, Format};
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// Weights in a super-block, and in the groups that an activation row has sums for.
const BLOCK: usize = 256;
const GROUP: usize = 16;

/// What a super-block has besides its quants.
pub(super) struct Head {
    scale: f32,
    /// What `minimums` are scaled with, unless they are part of the quants' own sum.
    minimum: f32,
    /// Word `p` of each half is the scale of the group that has this half of plane `p`.
    scales: __m256i,
    /// What the sum of each group of activations is multiplied with and taken away.
    minimums: __m256i,
}

/// How a format's super-block is taken apart. Quants come in planes of 32.
///
/// The functions may be called only where AVX2 and F16C exist, with a whole super-block.
pub(super) trait Unpack {
    const FORMAT: Format;
    /// Whether the minimums have a scale of their own.
    const MINIMUM: bool;
    unsafe fn head(block: *const u8) -> Head;
    /// Four planes, the first or the second half of the quants, from 0 up and below 64.
    unsafe fn planes(block: *const u8, half: usize) -> [__m256i; 4];
}

impl Unpack for Q4_K {
    const FORMAT: Format = Format::Q4_K;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn head(block: *const u8) -> Head {
        // SAFETY: the caller has the features and the super-block.
        unsafe {
            let halves = _mm_cvtsi32_si128(block.cast::<i32>().read_unaligned());
            let halves = _mm_cvtph_ps(halves);
            let [scales, minimums] = packed_scales(&block.add(4).cast::<[u8; 12]>().read());
            let minimums = _mm_cvtsi64_si128(minimums.cast_signed());
            Head {
                scale: _mm_cvtss_f32(halves),
                minimum: _mm_cvtss_f32(_mm_movehdup_ps(halves)),
                scales: _mm256_cvtepu8_epi16(_mm_set1_epi64x(scales.cast_signed())),
                minimums: _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(minimums, minimums)),
            }
        }
    }

    #[inline(always)]
    unsafe fn planes(block: *const u8, half: usize) -> [__m256i; 4] {
        // SAFETY: the caller has the features and the super-block.
        unsafe {
            let quants = block.add(16 + half * 64);
            let first = _mm256_loadu_si256(quants.cast());
            let second = _mm256_loadu_si256(quants.add(32).cast());
            let mask = _mm256_set1_epi8(15);
            let low = |bytes| _mm256_and_si256(bytes, mask);
            let high = |bytes| _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
            [low(first), high(first), low(second), high(second)]
        }
    }
}

impl Unpack for Q6_K {
    const FORMAT: Format = Format::Q6_K;
    const MINIMUM: bool = false;

    /// Quants are around 32, so that 32 times each scale is a minimum.
    #[inline(always)]
    unsafe fn head(block: *const u8) -> Head {
        // SAFETY: the caller has the features and the super-block.
        unsafe {
            let half = block.add(208).cast::<u16>().read_unaligned();
            let scales = _mm_loadu_si128(block.add(192).cast());
            let even_then_odd = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
            Head {
                scale: _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half.into()))),
                minimum: 0.0,
                scales: _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, even_then_odd)),
                minimums: _mm256_slli_epi16::<5>(_mm256_cvtepi8_epi16(scales)),
            }
        }
    }

    #[inline(always)]
    unsafe fn planes(block: *const u8, half: usize) -> [__m256i; 4] {
        // SAFETY: the caller has the features and the super-block.
        unsafe {
            let low = block.add(half * 64);
            let first = _mm256_loadu_si256(low.cast());
            let second = _mm256_loadu_si256(low.add(32).cast());
            let high = _mm256_loadu_si256(block.add(128 + half * 32).cast());
            let plane = |low, high| {
                let low = _mm256_and_si256(low, _mm256_set1_epi8(15));
                _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8(48)))
            };
            [
                plane(first, _mm256_slli_epi16::<4>(high)),
                plane(second, _mm256_slli_epi16::<2>(high)),
                plane(_mm256_srli_epi16::<4>(first), high),
                plane(_mm256_srli_epi16::<4>(second), _mm256_srli_epi16::<2>(high)),
            ]
        }
    }
}

/// The product in the format `U`, with words multiplied by `D`.
pub(super) struct Block256<U, D>(PhantomData<(U, D)>);

impl<U: Unpack, D: Dot> Product for Block256<U, D> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        let xs = xs.map(|x| &x.q8_k);
        let blocks = count_blocks(xs, BLOCK, GROUP);
        let rows = out.len() / T;
        let row_bytes = blocks * U::FORMAT.block_bytes();
        assert!(weights.len() >= rows * row_bytes);
        for row in 0..rows {
            let mut totals = [0f32; T];
            for b in 0..blocks {
                // SAFETY: the asserts above keep every access inside its slice: a row of weights
                // has `blocks` super-blocks, an activation row as many of `BLOCK` quants and of a
                // sum for each `GROUP` of them. The caller has the variant's features.
                unsafe {
                    let block = weights.as_ptr().add(row * row_bytes + b * U::FORMAT.block_bytes());
                    let head = U::head(block);
                    let mut sums = [_mm256_setzero_si256(); T];
                    for half in 0..2 {
                        for (i, quants) in U::planes(block, half).into_iter().enumerate() {
                            let plane = half * 4 + i;
                            // Bytes 2 · plane and 2 · plane + 1, again and again.
                            let word = _mm256_set1_epi16(0x0100 + 0x0202 * plane as i16);
                            let scales = _mm256_shuffle_epi8(head.scales, word);
                            for (sum, x) in sums.iter_mut().zip(xs) {
                                let x = x.quants.as_ptr().add(b * BLOCK + plane * 32);
                                // At most 2 · 63 · 128.
                                let pairs =
                                    _mm256_maddubs_epi16(quants, _mm256_loadu_si256(x.cast()));
                                *sum = D::add_words(*sum, pairs, scales);
                            }
                        }
                    }
                    for ((total, sum), x) in totals.iter_mut().zip(sums).zip(xs) {
                        let groups = x.sums.as_ptr().add(b * BLOCK / GROUP);
                        let groups = _mm256_loadu_si256(groups.cast());
                        let minimums = _mm256_madd_epi16(head.minimums, groups);
                        let scale = *x.scales.get_unchecked(b);
                        if U::MINIMUM {
                            *total += scale * head.scale * add_lanes(sum) as f32;
                            *total -= scale * head.minimum * add_lanes(minimums) as f32;
                        } else {
                            let sum = _mm256_sub_epi32(sum, minimums);
                            *total += scale * head.scale * add_lanes(sum) as f32;
                        }
                    }
                }
            }
            for (t, total) in totals.into_iter().enumerate() {
                out[t * rows + row] = total;
            }
        }
    }
}

/// The sum of the lanes.
#[inline(always)]
unsafe fn add_lanes(v: __m256i) -> i32 {
    // SAFETY: the caller has AVX2.
    unsafe {
        let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b_01_00_11_10>(v));
        _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<0b_10_11_00_01>(v)))
    }
}
