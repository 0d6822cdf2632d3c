//! Super-blocks ("K-quants") in vectors. Quants are multiplied as unsigned bytes.

use super::dot::Dot;
use crate::Format;
use crate::generic::block256::{Head, Sums, SuperBlock};
use crate::scalar::block256::{Q4_K, Q6_K, packed_scales};
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// How a format's super-block is taken apart: [`SuperBlock`] has the same.
pub(super) trait Unpack {
    const FORMAT: Format;
    const MINIMUM: bool;

    /// Word `p` of each half of the scales is that of the group that has this half of plane `p`.
    ///
    /// # Safety
    /// There is a whole super-block, and the processor has AVX2 and F16C.
    unsafe fn head(block: *const u8) -> Head<__m256i, __m256i>;

    /// Four planes, the first or the second half of the quants, from 0 up and below 64.
    ///
    /// # Safety
    /// There is a whole super-block, and the processor has AVX2.
    unsafe fn planes(block: *const u8, half: usize) -> [__m256i; 4];
}

impl Unpack for Q4_K {
    const FORMAT: Format = Format::Q4_K;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn head(block: *const u8) -> Head<__m256i, __m256i> {
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
    unsafe fn head(block: *const u8) -> Head<__m256i, __m256i> {
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

/// Super-blocks in the format `U`, with words multiplied by `D`.
pub(super) struct By<U, D>(PhantomData<(U, D)>);

impl<U: Unpack, D: Dot> SuperBlock for By<U, D> {
    const FORMAT: Format = U::FORMAT;
    const MINIMUM: bool = U::MINIMUM;
    type Plane = __m256i;
    type Scales = __m256i;
    type Pair = __m256i;
    type Sums = __m256i;

    #[inline(always)]
    unsafe fn head(block: *const u8) -> Head<__m256i, __m256i> {
        // SAFETY: the caller's promise.
        unsafe { U::head(block) }
    }

    #[inline(always)]
    unsafe fn planes(block: *const u8, half: usize) -> [__m256i; 4] {
        // SAFETY: the caller's promise.
        unsafe { U::planes(block, half) }
    }

    /// Bytes 2 · plane and 2 · plane + 1, again and again.
    #[inline(always)]
    unsafe fn pair(scales: &__m256i, plane: usize) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe {
            let word = _mm256_set1_epi16(0x0100 + 0x0202 * plane as i16);
            _mm256_shuffle_epi8(*scales, word)
        }
    }

    /// Pairs of products are at most 2 · 63 · 128.
    #[inline(always)]
    unsafe fn add(sums: __m256i, quants: __m256i, x: *const i8, scales: __m256i) -> __m256i {
        // SAFETY: the caller has the activations and the variant's features.
        unsafe {
            let pairs = _mm256_maddubs_epi16(quants, _mm256_loadu_si256(x.cast()));
            D::add_words(sums, pairs, scales)
        }
    }
}

impl Sums for __m256i {
    type Words = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn words(words: __m256i, others: *const i16) -> __m256i {
        // SAFETY: the caller has the words and AVX2.
        unsafe { _mm256_madd_epi16(words, _mm256_loadu_si256(others.cast())) }
    }

    #[inline(always)]
    unsafe fn minus(self, other: __m256i) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_sub_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn total(self) -> i32 {
        // SAFETY: the caller has AVX2.
        unsafe {
            let four =
                _mm_add_epi32(_mm256_castsi256_si128(self), _mm256_extracti128_si256::<1>(self));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b_01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b_10_11_00_01>(two)))
        }
    }
}
