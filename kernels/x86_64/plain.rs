//! Plain floating-point weights in vectors.

use crate::generic::plain::Widen;
use crate::scalar::plain::{BF16, F16, F32};
use core::arch::x86_64::*;

impl Widen<__m256> for F32 {
    #[inline(always)]
    unsafe fn widen(weights: *const u8) -> __m256 {
        // SAFETY: the caller has AVX2 and eight weights there.
        unsafe { _mm256_loadu_ps(weights.cast()) }
    }
}

impl Widen<__m256> for F16 {
    #[inline(always)]
    unsafe fn widen(weights: *const u8) -> __m256 {
        // SAFETY: the caller has F16C and eight weights there.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(weights.cast())) }
    }
}

impl Widen<__m256> for BF16 {
    #[inline(always)]
    unsafe fn widen(weights: *const u8) -> __m256 {
        // SAFETY: the caller has AVX2 and eight weights there.
        unsafe {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(weights.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        }
    }
}
