//! Products of unsigned with signed bytes, summed by fours.

use core::arch::x86_64::{
    __m256i, _mm256_add_epi16, _mm256_dpbusd_avx_epi32, _mm256_dpbusd_epi32, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi16,
};

/// How a variant multiplies bytes.
///
/// The functions may be called only where the variant's features exist.
pub(super) trait Dot {
    /// Adds the products of 32 unsigned bytes, at most 15 each, and 32 signed bytes to running sums
    /// that start at zero and take at most 8 additions.
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i;
    /// Running sums as 8 sums of 32 bits, each of four bytes' products.
    unsafe fn finish(sums: __m256i) -> __m256i;
}

/// Products by pairs in 16 bits: 8 additions of at most `2 · 15 · 128` do not overflow.
pub(super) struct Maddubs;

impl Dot for Maddubs {
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
}

/// AVX-VNNI.
pub(super) struct Vnni;

impl Dot for Vnni {
    #[inline(always)]
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: the caller has AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, unsigned, signed) }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m256i) -> __m256i {
        sums
    }
}

/// The same instruction as part of AVX-512.
pub(super) struct Vnni512;

impl Dot for Vnni512 {
    #[inline(always)]
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: the caller has AVX512-VNNI and AVX512-VL.
        unsafe { _mm256_dpbusd_epi32(sums, unsigned, signed) }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m256i) -> __m256i {
        sums
    }
}
