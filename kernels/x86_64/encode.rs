//! Activations in 8 bits.

use crate::activation::{Block, block_scale};
use core::arch::x86_64::*;

/// [`crate::activation::quantize_block`], with the same bits.
///
/// # Safety
/// The processor has AVX2 and F16C.
#[inline(always)]
pub(super) unsafe fn quantize_block(x: &[f32; 32]) -> Block {
    // SAFETY: 32 values are loaded from as many, and so are quants stored. The caller has AVX2 and
    // F16C.
    unsafe {
        let mut values = [_mm256_setzero_ps(); 4];
        let mut largest = _mm256_setzero_ps();
        for (i, v) in values.iter_mut().enumerate() {
            *v = _mm256_loadu_ps(x.as_ptr().add(i * 8));
            // Of a NaN, the maximum is the second operand.
            largest = _mm256_max_ps(magnitude(*v), largest);
        }
        let (scale, inverse) = block_scale(maximum(largest));
        let mut rounded = [_mm256_setzero_si256(); 4];
        for (to, v) in rounded.iter_mut().zip(values) {
            *to = round_half_away(_mm256_mul_ps(v, _mm256_set1_ps(inverse)));
        }
        let [a, b, c, d] = rounded;
        let (first, second) = (_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        // The lower bytes, as a cast takes them.
        let byte = _mm256_set1_epi16(0xFF);
        let bytes =
            _mm256_packus_epi16(_mm256_and_si256(first, byte), _mm256_and_si256(second, byte));
        // Packing works within halves: fours of a, b, c, d and again a, b, c, d.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let mut quants = [0; 32];
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        _mm256_storeu_si256(quants.as_mut_ptr().cast(), bytes);
        let scale = _mm_cvtph_ps(_mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(scale)));
        let sum = sum(_mm256_add_epi16(first, second));
        Block { quants, scale: _mm_cvtss_f32(scale), sum }
    }
}

/// Magnitudes of eight numbers.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn magnitude(v: __m256) -> __m256 {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), v) }
}

/// The largest of eight numbers.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn maximum(v: __m256) -> f32 {
    // SAFETY: the caller has AVX2.
    unsafe {
        let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
    }
}

/// The sum of 16 words.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn sum(words: __m256i) -> i16 {
    // SAFETY: the caller has AVX2.
    unsafe {
        let eight = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
        let four =
            _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b1110>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two))) as i16
    }
}

/// Rounds values of at most 200 in magnitude; others become 0.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn round_half_away(v: __m256) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        // Beyond this number the next float is one away: sums are rounded to whole numbers, which
        // stand in the lowest bits, and ties go to even ones.
        let shift = _mm256_set1_ps(12_582_912.0);
        let magnitude = magnitude(v);
        let shifted = _mm256_add_ps(magnitude, shift);
        let even = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(shift));
        let above = _mm256_sub_ps(magnitude, _mm256_sub_ps(shifted, shift));
        let is_tie = _mm256_cmp_ps::<_CMP_EQ_OQ>(above, _mm256_set1_ps(0.5));
        let rounded = _mm256_sub_epi32(even, _mm256_castps_si256(is_tie));
        let is_small = _mm256_cmp_ps::<_CMP_LE_OQ>(magnitude, _mm256_set1_ps(200.0));
        let rounded = _mm256_and_si256(rounded, _mm256_castps_si256(is_small));
        _mm256_sign_epi32(rounded, _mm256_castps_si256(v))
    }
}
