//! Products of bytes and of words, and their sums.

use core::arch::x86_64::*;

/// How a variant multiplies bytes.
pub(super) trait Dot {
    /// What [`Dot::multiply`] and [`Dot::add_signed`] add to each weight.
    const BIAS: i32;

    /// Adds the products of 32 unsigned bytes, at most 15 each, and 32 signed bytes to running sums
    /// that start at zero and take at most 8 additions.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i;
    /// Running sums as 8 sums of 32 bits, each of four bytes' products.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn finish(sums: __m256i) -> __m256i;

    /// Products of 32 signed weights, plus [`Dot::BIAS`], and 32 signed bytes above −128, as 8 sums
    /// of four products each.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn multiply(weights: __m256i, x: __m256i) -> __m256i;
    /// Adds such products to 8 sums.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn add_signed(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i;

    /// Adds the products of 16 words with 16 words to 8 sums.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn add_words(sums: __m256i, a: __m256i, b: __m256i) -> __m256i;
}

/// Products by pairs in 16 bits: 8 additions of at most `2 · 15 · 128` do not overflow.
pub(super) struct Maddubs;

impl Dot for Maddubs {
    const BIAS: i32 = 0;

    #[inline(always)]
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(unsigned, signed)) }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m256i) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_madd_epi16(sums, _mm256_set1_epi16(1)) }
    }

    /// Magnitudes of weights meet signs of weights: pairs of at most `2 · 128 · 127` do not overflow.
    #[inline(always)]
    unsafe fn multiply(weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe {
            let pairs =
                _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
            _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
        }
    }

    #[inline(always)]
    unsafe fn add_signed(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_add_epi32(sums, Self::multiply(weights, x)) }
    }

    #[inline(always)]
    unsafe fn add_words(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)) }
    }
}

/// AVX-VNNI.
pub(super) struct Vnni;

impl Dot for Vnni {
    const BIAS: i32 = 128;

    #[inline(always)]
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: the caller has AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, unsigned, signed) }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m256i) -> __m256i {
        sums
    }

    #[inline(always)]
    unsafe fn multiply(weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the caller has AVX-VNNI.
        unsafe { Self::add_signed(_mm256_setzero_si256(), weights, x) }
    }

    #[inline(always)]
    unsafe fn add_signed(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the caller has AVX-VNNI.
        unsafe {
            let unsigned = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
            _mm256_dpbusd_avx_epi32(sums, unsigned, x)
        }
    }

    #[inline(always)]
    unsafe fn add_words(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller has AVX-VNNI.
        unsafe { _mm256_dpwssd_avx_epi32(sums, a, b) }
    }
}

/// The same instruction as part of AVX-512.
pub(super) struct Vnni512;

impl Dot for Vnni512 {
    const BIAS: i32 = 128;

    #[inline(always)]
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: the caller has AVX512-VNNI and AVX512-VL.
        unsafe { _mm256_dpbusd_epi32(sums, unsigned, signed) }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m256i) -> __m256i {
        sums
    }

    #[inline(always)]
    unsafe fn multiply(weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the caller has AVX512-VNNI and AVX512-VL.
        unsafe { Self::add_signed(_mm256_setzero_si256(), weights, x) }
    }

    #[inline(always)]
    unsafe fn add_signed(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the caller has AVX512-VNNI and AVX512-VL.
        unsafe {
            let unsigned = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
            _mm256_dpbusd_epi32(sums, unsigned, x)
        }
    }

    #[inline(always)]
    unsafe fn add_words(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller has AVX512-VNNI and AVX512-VL.
        unsafe { _mm256_dpwssd_epi32(sums, a, b) }
    }
}
