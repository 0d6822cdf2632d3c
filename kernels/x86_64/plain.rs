//! Plain floating-point weights in vectors.

use crate::plain::{Lanes, Widen};
use crate::scalar::plain::{BF16, F16, F32};
use core::arch::x86_64::*;

impl Lanes for __m256 {
    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(values: *const f32) -> __m256 {
        // SAFETY: the caller has AVX2 and eight values there.
        unsafe { _mm256_loadu_ps(values) }
    }

    #[inline(always)]
    unsafe fn add_product(self, w: __m256, x: __m256) -> __m256 {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_add_ps(self, _mm256_mul_ps(w, x)) }
    }

    #[inline(always)]
    unsafe fn values(self) -> [f32; 8] {
        let mut values = [0.0; 8];
        // SAFETY: the array is as large as the vector. The caller has AVX2.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), self) };
        values
    }
}

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
