//! Eight singles in a vector. Every variant has AVX2 and F16C.

use crate::lanes::Lanes;
use core::arch::x86_64::*;
use half::f16;

impl Lanes for __m256 {
    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(values: &[f32; 8]) -> __m256 {
        // SAFETY: the array is as large as the vector. The caller has AVX2.
        unsafe { _mm256_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn widen(halves: &[f16; 8]) -> __m256 {
        // SAFETY: the array is as large as the vector. The caller has F16C.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast())) }
    }

    #[inline(always)]
    unsafe fn multiply(self, other: __m256) -> __m256 {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_mul_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_add_ps(self, _mm256_mul_ps(a, b)) }
    }

    #[inline(always)]
    unsafe fn add_root(self, other: __m256) -> __m256 {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_add_ps(self, _mm256_sqrt_ps(other)) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller has AVX2.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn values(self) -> [f32; 8] {
        let mut values = [0.0; 8];
        // SAFETY: the array is as large as the vector. The caller has AVX2.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), self) };
        values
    }

    #[inline(always)]
    unsafe fn narrow(self) -> [f16; 8] {
        let mut out = [f16::ZERO; 8];
        // SAFETY: the array is as large as the vector. The caller has F16C.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self);
            _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
        }
        out
    }

    #[inline(always)]
    fn prefetch(place: *const u8) {
        // SAFETY: a hint reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) };
    }
}
