//! Products of Q4_0 matrices in [`Layout::Columns`](crate::Layout::Columns) with activation rows that
//! are mostly zero.
//!
//! Columns that meet other values are taken by fours: their bytes are brought side by side, so that
//! one instruction adds up the products of four columns for a row. A block's sums are whole numbers;
//! blocks are scaled and added one after another, as the scalar kernels do.

use super::q4_0::nibbles;
use super::transpose::transpose_quarters;
use crate::layout::{BLOCK, BLOCK_BYTES};
use crate::{Activation, activation::count_blocks};
use core::arch::x86_64::*;
use core::ops::Range;

/// How a variant computes with some columns of a block.
pub(super) trait Columns: Copy {
    /// Runs of 32 rows that are computed together.
    const RUNS: usize;
    /// What four columns meet, as often as a vector has room for it.
    type Values: Copy;

    /// Four values for [`Columns::add_block`].
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn spread(values: [i8; 4]) -> Self::Values;

    /// Adds a block's products to 32 rows of `out` for each of `runs` runs, at most
    /// [`Columns::RUNS`]. `quants` is where the rows start in a column that starts at 0, `scales`
    /// are those of the rows; the products of whole numbers are `offset` too high, and what the
    /// columns meet is to be multiplied by `scale`.
    ///
    /// # Safety
    /// Each column has 16 bytes for each run, and there are 32 scales and places in `out` for each.
    unsafe fn add_block(
        columns: &[FourColumns<Self::Values>],
        quants: *const u8,
        scales: *const u8,
        runs: usize,
        offset: i32,
        scale: f32,
        out: *mut f32,
    );
}

/// Four columns that meet values other than zero.
#[derive(Clone, Copy)]
pub(super) struct FourColumns<V> {
    /// Where their quants start.
    starts: [usize; 4],
    /// The values that they meet.
    values: V,
}

/// The product with some rows of a matrix.
///
/// # Safety
/// The processor has the features of `C`.
#[inline(always)]
pub(super) unsafe fn multiply<C: Columns>(
    weights: &[u8],
    x: &Activation<'_>,
    rows: Range<usize>,
    out: &mut [f32],
) {
    let q8 = &x.q8_0;
    let blocks = count_blocks([q8], BLOCK, BLOCK);
    let height = weights.len() / (blocks * BLOCK_BYTES);
    assert!(
        weights.len() == height * blocks * BLOCK_BYTES
            && rows.end <= height
            && rows.start <= rows.end
    );
    assert!(rows.start.is_multiple_of(BLOCK) && rows.end.is_multiple_of(BLOCK));
    assert!(out.len() == rows.len());
    out.fill(0.0);
    let stride = height * BLOCK_BYTES;
    // SAFETY: block `b` has `height` scales and then 32 columns of `height / 2` bytes, all inside
    // `weights`; runs of 32 rows lie inside `rows`, which `out` has room for. The caller has the
    // variant's features.
    unsafe {
        // While a block is computed, what is two blocks ahead is asked for, and what is one block ahead
        // once more: requests that find all places for what is on its way taken are forgotten.
        let mut active = [ActiveColumns::<C>::none(); 3];
        for (b, active) in active.iter_mut().enumerate().take(blocks.min(2)) {
            active.find(&q8.quants[b * BLOCK..], b * stride, height);
        }
        for b in 0..blocks {
            let ahead = b + 2;
            if ahead < blocks {
                let quants = &q8.quants[ahead * BLOCK..];
                active[ahead % 3].find(quants, ahead * stride, height);
            } else {
                active[ahead % 3].count = 0;
            }
            let [now, next, later] = [b, b + 1, ahead].map(|b| &active[b % 3]);
            for row in rows.clone().step_by(C::RUNS * BLOCK) {
                let runs = C::RUNS.min((rows.end - row) / BLOCK);
                later.prefetch(weights, row);
                next.prefetch(weights, row);
                for run in 0..runs {
                    let scales = ahead * stride + (row + run * BLOCK) * 2;
                    _mm_prefetch::<_MM_HINT_T1>(weights.as_ptr().wrapping_add(scales).cast());
                }
                if now.count > 0 {
                    C::add_block(
                        &now.fours[..now.count.div_ceil(4)],
                        weights.as_ptr().add(row / 2),
                        weights.as_ptr().add(b * stride + row * 2),
                        runs,
                        8 * i32::from(q8.sums[b]),
                        q8.scales[b],
                        out.as_mut_ptr().add(row - rows.start),
                    );
                }
            }
        }
    }
}

/// The columns of a block that meet values other than zero, by fours.
#[derive(Clone, Copy)]
struct ActiveColumns<C: Columns> {
    /// The last four may repeat a column with zeros.
    fours: [FourColumns<C::Values>; 8],
    /// Columns.
    count: usize,
}

impl<C: Columns> ActiveColumns<C> {
    /// No columns.
    ///
    /// # Safety
    /// The processor has the features of `C`.
    #[inline(always)]
    unsafe fn none() -> ActiveColumns<C> {
        // SAFETY: the caller has the variant's features.
        let none = FourColumns { starts: [0; 4], values: unsafe { C::spread([0; 4]) } };
        ActiveColumns { fours: [none; 8], count: 0 }
    }

    /// Looks at the 32 values that a block of columns meets. The block starts at `block` with
    /// `height` scales; columns of `height / 2` bytes follow.
    ///
    /// # Safety
    /// The processor has AVX2 and the features of `C`.
    #[inline(always)]
    unsafe fn find(&mut self, x: &[i8], block: usize, height: usize) {
        let quants = block + height * 2;
        let x: &[i8; BLOCK] = x.first_chunk().expect("a block has 32 values");
        let mut values = [[0i8; 4]; 8];
        self.count = 0;
        // SAFETY: the caller has the variant's features, and 32 values are loaded from as many.
        unsafe {
            let loaded = _mm256_loadu_si256(x.as_ptr().cast());
            let zeros = _mm256_cmpeq_epi8(loaded, _mm256_setzero_si256());
            let mut left = !_mm256_movemask_epi8(zeros) as u32;
            while left != 0 {
                let column = left.trailing_zeros() as usize;
                let (four, i) = (self.count / 4, self.count % 4);
                self.fours[four].starts[i] = quants + column * (height / 2);
                values[four][i] = x[column];
                self.count += 1;
                left &= left - 1;
            }
            let fours = self.count.div_ceil(4);
            for i in self.count..fours * 4 {
                self.fours[i / 4].starts[i % 4] = quants;
            }
            for (four, values) in self.fours[..fours].iter_mut().zip(values) {
                four.values = C::spread(values);
            }
        }
    }

    /// Asks for the quants from `row` on, where it is the first of four runs, whose quants fill a cache
    /// line.
    #[inline(always)]
    fn prefetch(&self, weights: &[u8], row: usize) {
        if !row.is_multiple_of(4 * BLOCK) {
            return;
        }
        for start in self.fours[..self.count.div_ceil(4)].iter().flat_map(|f| &f.starts) {
            let quants = weights.as_ptr().wrapping_add(start + row / 2);
            // SAFETY: a hint reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(quants.cast()) };
        }
    }
}

/// A run at a time, with products added up by pairs in 16 bits.
#[derive(Clone, Copy)]
pub(super) struct ByPairs;

impl Columns for ByPairs {
    const RUNS: usize = 1;
    /// Pairs of the first two, then pairs of the last two.
    type Values = __m256i;

    #[inline(always)]
    unsafe fn spread([a, b, c, d]: [i8; 4]) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe {
            let first = _mm_set1_epi16(i16::from_le_bytes([a as u8, b as u8]));
            let second = _mm_set1_epi16(i16::from_le_bytes([c as u8, d as u8]));
            _mm256_set_m128i(second, first)
        }
    }

    /// The lower half of a vector has sums over two of each four columns, the upper half those over
    /// the other two. At most 8 additions of `2 · 15 · 128` do not overflow.
    #[inline(always)]
    unsafe fn add_block(
        columns: &[FourColumns<__m256i>],
        quants: *const u8,
        scales: *const u8,
        _runs: usize,
        offset: i32,
        scale: f32,
        out: *mut f32,
    ) {
        // SAFETY: the caller has AVX2 and F16C; the columns, scales and places are there.
        unsafe {
            let mut sums = [_mm256_setzero_si256(); 4];
            for four in columns {
                let [a, b, c, d] = four.starts.map(|at| _mm_loadu_si128(quants.add(at).cast()));
                let (even, odd) = (_mm256_set_m128i(c, a), _mm256_set_m128i(d, b));
                let (low, high) = nibbles(_mm256_unpacklo_epi8(even, odd));
                sums[0] = _mm256_add_epi16(sums[0], _mm256_maddubs_epi16(low, four.values));
                sums[2] = _mm256_add_epi16(sums[2], _mm256_maddubs_epi16(high, four.values));
                let (low, high) = nibbles(_mm256_unpackhi_epi8(even, odd));
                sums[1] = _mm256_add_epi16(sums[1], _mm256_maddubs_epi16(low, four.values));
                sums[3] = _mm256_add_epi16(sums[3], _mm256_maddubs_epi16(high, four.values));
            }
            let (offset, scale) = (_mm256_set1_epi32(offset), _mm256_set1_ps(scale));
            for (i, sums) in sums.into_iter().enumerate() {
                let first = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sums));
                let second = _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(sums));
                let sum = _mm256_sub_epi32(_mm256_add_epi32(first, second), offset);
                let scales = _mm256_cvtph_ps(_mm_loadu_si128(scales.add(i * 16).cast()));
                let scales = _mm256_mul_ps(scales, scale);
                let product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scales);
                let out = out.add(i * 8);
                _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), product));
            }
        }
    }
}

/// Four runs at a time, with AVX-512's instruction for 8-bit dot products.
#[derive(Clone, Copy)]
pub(super) struct ByFours;

impl Columns for ByFours {
    const RUNS: usize = 4;
    /// All four, for each row.
    type Values = __m512i;

    #[inline(always)]
    unsafe fn spread(values: [i8; 4]) -> __m512i {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm512_set1_epi32(i32::from_le_bytes(values.map(|v| v as u8))) }
    }

    /// Each 128 bits of a vector have sums of four rows of one run.
    #[inline(always)]
    unsafe fn add_block(
        columns: &[FourColumns<__m512i>],
        quants: *const u8,
        scales: *const u8,
        runs: usize,
        offset: i32,
        scale: f32,
        out: *mut f32,
    ) {
        // SAFETY: the caller has AVX-512 F, BW and VNNI; bytes of columns are loaded for as many
        // runs as there are, as are scales and places.
        unsafe {
            let there = u64::MAX >> (64 - 16 * runs);
            let mask = _mm512_set1_epi8(15);
            let mut low = [_mm512_set1_epi32(-offset); 4];
            let mut high = low;
            for four in columns {
                let [a, b, c, d] =
                    four.starts.map(|at| _mm512_maskz_loadu_epi8(there, quants.add(at).cast()));
                let (first, second) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
                let (third, fourth) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
                let bytes = [
                    _mm512_unpacklo_epi16(first, second),
                    _mm512_unpackhi_epi16(first, second),
                    _mm512_unpacklo_epi16(third, fourth),
                    _mm512_unpackhi_epi16(third, fourth),
                ];
                for (i, bytes) in bytes.into_iter().enumerate() {
                    let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
                    let lower = _mm512_and_si512(bytes, mask);
                    low[i] = _mm512_dpbusd_epi32(low[i], lower, four.values);
                    high[i] = _mm512_dpbusd_epi32(high[i], upper, four.values);
                }
            }
            let (low, high, scale) =
                (transpose_quarters(low), transpose_quarters(high), _mm512_set1_ps(scale));
            for (run, halves) in low.into_iter().zip(high).enumerate().take(runs) {
                for (i, sums) in [halves.0, halves.1].into_iter().enumerate() {
                    let at = run * BLOCK + i * 16;
                    let scales = _mm512_cvtph_ps(_mm256_loadu_si256(scales.add(at * 2).cast()));
                    let scales = _mm512_mul_ps(scales, scale);
                    let product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales);
                    let out = out.add(at);
                    _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(out), product));
                }
            }
        }
    }
}
