//! Blocks of 32 as they lie in a file, eight rows or blocks side by side.

use super::dot::Dot;
use super::q4_0::{add_blocks, nibbles};
use super::transpose::transpose_4;
use crate::generic::rows::{SCALE, SideBySide};
use crate::layout::BLOCK;
use crate::{Format, Q8};
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// Rows, or blocks of a row, side by side: one in each lane.
pub(super) const LANES: usize = 8;

/// A format whose blocks are a scale and 32 quants.
pub(super) trait Block32 {
    const FORMAT: Format;

    /// The quants of a block, as signed numbers.
    ///
    /// # Safety
    /// There are such quants, and the processor has AVX2.
    unsafe fn weights(quants: *const u8) -> __m256i;

    /// Adds to the totals of eight rows the products of their blocks, whose quants are at these
    /// places, with block `b` of `xs`.
    ///
    /// # Safety
    /// There are such quants and blocks, and the processor has the features of `D`.
    unsafe fn add<D: Dot, const T: usize>(
        totals: &mut [__m256; T],
        scales: __m256,
        quants: [*const u8; LANES],
        xs: [&Q8<'_>; T],
        b: usize,
    );
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

    /// As in [`Layout::Grouped`](crate::Layout::Grouped), once the bytes are transposed.
    #[inline(always)]
    unsafe fn add<D: Dot, const T: usize>(
        totals: &mut [__m256; T],
        scales: __m256,
        quants: [*const u8; LANES],
        xs: [&Q8<'_>; T],
        b: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut rows = [_mm256_setzero_si256(); 4];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm256_loadu2_m128i(quants[i + 4].cast(), quants[i].cast());
            }
            let totals = core::array::from_mut(totals);
            add_blocks::<D, T, 1>(totals, [scales], transpose_4(rows).map(|rows| [rows]), xs, b);
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

    #[inline(always)]
    unsafe fn add<D: Dot, const T: usize>(
        totals: &mut [__m256; T],
        scales: __m256,
        quants: [*const u8; LANES],
        xs: [&Q8<'_>; T],
        b: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            for (total, x) in totals.iter_mut().zip(xs) {
                let block = _mm256_loadu_si256(x.quants.as_ptr().add(b * BLOCK).cast());
                let mut products = [_mm256_setzero_si256(); LANES];
                for (product, quants) in products.iter_mut().zip(quants) {
                    *product = D::multiply(Self::weights(quants), block);
                }
                let bias = D::BIAS * i32::from(*x.sums.get_unchecked(b));
                let product = _mm256_sub_epi32(add_lanes(products), _mm256_set1_epi32(bias));
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*x.scales.get_unchecked(b)));
                let product = _mm256_mul_ps(_mm256_cvtepi32_ps(product), scale);
                *total = _mm256_add_ps(*total, product);
            }
        }
    }
}

/// Rows of blocks `B` side by side, bytes multiplied by `D`.
pub(super) struct Eight<B, D>(PhantomData<(B, D)>);

impl<B: Block32, D: Dot> SideBySide<LANES> for Eight<B, D> {
    const FORMAT: Format = B::FORMAT;
    type Totals = __m256;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add_rows<const T: usize>(
        totals: &mut [__m256; T],
        starts: [*const u8; LANES],
        xs: [&Q8<'_>; T],
        b: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let offset = b * B::FORMAT.block_bytes();
            let mut quants = starts;
            for quants in &mut quants {
                *quants = quants.add(offset + SCALE);
            }
            B::add::<D, T>(totals, widen(&starts, offset), quants, xs, b);
        }
    }

    #[inline(always)]
    unsafe fn blocks(start: *const u8, x: &Q8<'_>, first: usize, count: usize) -> [f32; LANES] {
        let mut values = [0f32; LANES];
        // SAFETY: the caller's promise.
        unsafe {
            let mut starts = [start; LANES];
            let mut products = [_mm256_setzero_si256(); LANES];
            let (mut scales, mut biases) = ([0f32; LANES], [0i32; LANES]);
            for i in 0..LANES {
                let b = first + i.min(count - 1);
                starts[i] = start.add(b * B::FORMAT.block_bytes());
                let quants = _mm256_loadu_si256(x.quants.as_ptr().add(b * BLOCK).cast());
                products[i] = D::multiply(B::weights(starts[i].add(SCALE)), quants);
                scales[i] = *x.scales.get_unchecked(b);
                biases[i] = D::BIAS * i32::from(*x.sums.get_unchecked(b));
            }
            let biases = _mm256_loadu_si256(biases.as_ptr().cast());
            let product = _mm256_cvtepi32_ps(_mm256_sub_epi32(add_lanes(products), biases));
            let scale = _mm256_mul_ps(widen(&starts, 0), _mm256_loadu_ps(scales.as_ptr()));
            _mm256_storeu_ps(values.as_mut_ptr(), _mm256_mul_ps(product, scale));
        }
        values
    }

    #[inline(always)]
    unsafe fn store(totals: __m256, out: *mut f32) {
        // SAFETY: the caller has room for the totals, and AVX2.
        unsafe { _mm256_storeu_ps(out, totals) }
    }

    #[inline(always)]
    fn prefetch(place: *const u8, bytes: usize) {
        for line in 0..bytes.div_ceil(64) {
            // SAFETY: a hint reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(place.wrapping_add(line * 64).cast()) };
        }
    }
}

/// The half-precision numbers at an offset from eight places.
///
/// # Safety
/// There are two bytes at each place, and the processor has F16C.
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
///
/// # Safety
/// The processor has AVX2.
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
