//! Transposition of squares of vectors.

use core::arch::x86_64::*;

/// In each half of the rows, lane `i` of row `j` becomes lane `j` of row `i`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
pub(super) unsafe fn transpose_4([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: the caller has AVX2.
    unsafe {
        let (low, low_too) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (high, high_too) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(low, low_too),
            _mm256_unpackhi_epi64(low, low_too),
            _mm256_unpacklo_epi64(high, high_too),
            _mm256_unpackhi_epi64(high, high_too),
        ]
    }
}

/// Lane `i` of row `j` becomes lane `j` of row `i`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
pub(super) unsafe fn transpose_8(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller has AVX2.
    unsafe {
        let (mut pairs, mut quads) = (r, r);
        for i in [0, 2, 4, 6] {
            pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
        }
        for i in [0, 4] {
            quads[i] = _mm256_shuffle_ps::<0x44>(pairs[i], pairs[i + 2]);
            quads[i + 1] = _mm256_shuffle_ps::<0xEE>(pairs[i], pairs[i + 2]);
            quads[i + 2] = _mm256_shuffle_ps::<0x44>(pairs[i + 1], pairs[i + 3]);
            quads[i + 3] = _mm256_shuffle_ps::<0xEE>(pairs[i + 1], pairs[i + 3]);
        }
        let mut out = r;
        for i in 0..4 {
            out[i] = _mm256_permute2f128_ps::<0x20>(quads[i], quads[i + 4]);
            out[i + 4] = _mm256_permute2f128_ps::<0x31>(quads[i], quads[i + 4]);
        }
        out
    }
}

/// The same for 16 lanes and rows.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
pub(super) unsafe fn transpose_16(r: [__m512; 16]) -> [__m512; 16] {
    let mut out = r;
    // SAFETY: the caller has AVX-512.
    unsafe {
        // Column `c` of each quarter of each four rows, then the quarters of all rows.
        let mut columns = [[_mm512_setzero_si512(); 4]; 4];
        for (four, rows) in r.as_chunks::<4>().0.iter().enumerate() {
            let [a, b, c, d] = *rows;
            let low = [_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)];
            let high = [_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d)];
            let [low, low_too] = low.map(|pairs| _mm512_castps_pd(pairs));
            let [high, high_too] = high.map(|pairs| _mm512_castps_pd(pairs));
            columns[0][four] = _mm512_castpd_si512(_mm512_unpacklo_pd(low, low_too));
            columns[1][four] = _mm512_castpd_si512(_mm512_unpackhi_pd(low, low_too));
            columns[2][four] = _mm512_castpd_si512(_mm512_unpacklo_pd(high, high_too));
            columns[3][four] = _mm512_castpd_si512(_mm512_unpackhi_pd(high, high_too));
        }
        for (c, fours) in columns.into_iter().enumerate() {
            for (quarter, column) in transpose_quarters(fours).into_iter().enumerate() {
                out[quarter * 4 + c] = _mm512_castsi512_ps(column);
            }
        }
    }
    out
}

/// Quarter `i` of row `j` becomes quarter `j` of row `i`.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
pub(super) unsafe fn transpose_quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller has AVX-512.
    unsafe {
        let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xDD>(a, b));
        let (even_too, odd_too) =
            (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xDD>(c, d));
        [
            _mm512_shuffle_i32x4::<0x88>(even, even_too),
            _mm512_shuffle_i32x4::<0x88>(odd, odd_too),
            _mm512_shuffle_i32x4::<0xDD>(even, even_too),
            _mm512_shuffle_i32x4::<0xDD>(odd, odd_too),
        ]
    }
}
