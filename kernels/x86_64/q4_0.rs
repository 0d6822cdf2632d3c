//! Products with Q4_0 matrices in the layouts that are made for vector units.
//!
//! Quants are taken as 0 … 15 and multiplied as unsigned bytes; 8 times the sum of the activations
//! is taken away afterwards. Within a row, blocks are scaled and added one after another, as the
//! scalar kernels do, so results are the same bits.

use super::dot::Dot;
use crate::activation::count_blocks;
use crate::layout::{BLOCK, BLOCK_BYTES, GROUP, GROUP_BLOCK};
use crate::scalar::arranged::add_blocks;
use crate::tokens::Product;
use crate::{Activation, Layout, Q8};
use core::arch::x86_64::*;
use core::marker::PhantomData;
use core::ops::Range;

/// How many bytes ahead of their use weights are asked for, for the second-level cache: requests for the
/// first-level one would take the few places that those for rows of other matrices need.
const AHEAD: usize = 4096;

/// The product with a [`Layout::Grouped`] matrix: a row in each lane.
pub(super) struct Grouped<D>(PhantomData<D>);

impl<D: Dot> Product for Grouped<D> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        // SAFETY: the caller has the variant's features.
        unsafe { grouped::<D, T>(weights, xs.map(|x| &x.q8_0), out) }
    }
}

#[inline(always)]
unsafe fn grouped<D: Dot, const T: usize>(weights: &[u8], xs: [&Q8<'_>; T], out: &mut [f32]) {
    let blocks = count_blocks(xs, BLOCK, BLOCK);
    let rows = out.len() / T;
    assert!(weights.len() >= rows / GROUP * blocks * GROUP_BLOCK && rows.is_multiple_of(GROUP));
    for group in 0..rows / GROUP {
        // SAFETY: the asserts above keep every access inside its slice: a group has `blocks` blocks
        // of `GROUP_BLOCK` bytes, an activation row as many of `BLOCK` quants, and each row of
        // `out` has 8 values for each group. The caller has the variant's features.
        unsafe {
            let mut block = weights.as_ptr().add(group * blocks * GROUP_BLOCK);
            let mut totals = [_mm256_setzero_ps(); T];
            for b in 0..blocks {
                // With several tokens, time is spent on products, and weights come by themselves. A
                // block has a little more than two cache lines.
                if T == 1 {
                    for line in 0..3 {
                        let ahead = block.wrapping_add(AHEAD + line * 64);
                        _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                    }
                }
                let scales = _mm256_cvtph_ps(_mm_loadu_si128(block.cast()));
                let mut sums = [_mm256_setzero_si256(); T];
                for i in 0..4 {
                    let quants = _mm256_loadu_si256(block.add(16 + i * 32).cast());
                    let (low, high) = nibbles(quants);
                    for t in 0..T {
                        let x = xs[t].quants.as_ptr().add(b * BLOCK + i * 4).cast::<i32>();
                        let first = _mm256_set1_epi32(x.read_unaligned());
                        let second = _mm256_set1_epi32(x.add(4).read_unaligned());
                        sums[t] = D::add(D::add(sums[t], low, first), high, second);
                    }
                }
                for t in 0..T {
                    let offset = _mm256_set1_epi32(8 * i32::from(*xs[t].sums.get_unchecked(b)));
                    let sum = _mm256_sub_epi32(D::finish(sums[t]), offset);
                    let scale = _mm256_set1_ps(*xs[t].scales.get_unchecked(b));
                    let scale = _mm256_mul_ps(scales, scale);
                    let product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
                    totals[t] = _mm256_add_ps(totals[t], product);
                }
                block = block.add(GROUP_BLOCK);
            }
            for (t, total) in totals.into_iter().enumerate() {
                _mm256_storeu_ps(out.as_mut_ptr().add(t * rows + group * GROUP), total);
            }
        }
    }
}

/// Low and high nibbles of 32 bytes.
#[inline(always)]
unsafe fn nibbles(bytes: __m256i) -> (__m256i, __m256i) {
    // SAFETY: the caller has AVX2.
    unsafe {
        let mask = _mm256_set1_epi8(15);
        (_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask))
    }
}

/// Blocks whose products stand side by side in the lanes of [`split`].
const LANES: usize = 8;

/// The product with chosen rows of a [`Layout::Split`] matrix, 8 rows at a time: products of 8
/// blocks are computed side by side, turned around so that each lane has a row, and added in order.
#[inline(always)]
pub(super) unsafe fn split<D: Dot>(
    weights: &[u8],
    rows: &[u32],
    x: &Activation<'_>,
    out: &mut [f32],
) {
    let q8 = &x.q8_0;
    let blocks = count_blocks([q8], BLOCK, BLOCK);
    let row_bytes = blocks * BLOCK_BYTES;
    for (rows, out) in rows.chunks(8).zip(out.chunks_mut(8)) {
        let most = rows.iter().fold(0, |most, row| most.max(*row as usize));
        assert!((most + 1) * row_bytes <= weights.len(), "row {most} of {} bytes", weights.len());
        // Lanes without a row repeat the first one.
        let row = |i: usize| *rows.get(i).unwrap_or(&rows[0]) as usize;
        let starts: [usize; 8] = core::array::from_fn(|i| row(i) * row_bytes);
        let whole = blocks / LANES * LANES;
        let mut lanes = [0f32; 8];
        // SAFETY: rows lie inside `weights`, and `b .. b + 8` inside the blocks of a row and of the
        // activations. The caller has the variant's features.
        unsafe {
            let mut total = _mm256_setzero_ps();
            for b in (0..whole).step_by(LANES) {
                let x = EightBlocks::load(q8, b);
                let mut products = [_mm256_setzero_ps(); 8];
                for (product, start) in products.iter_mut().zip(starts) {
                    let row = weights.as_ptr().add(start);
                    let scales = _mm256_cvtph_ps(_mm_loadu_si128(row.add(b * 2).cast()));
                    let sums = x.multiply::<D>(row.add(blocks * 2 + b * 16));
                    let scale = _mm256_mul_ps(scales, x.scales);
                    *product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale);
                }
                for block in transpose(products) {
                    total = _mm256_add_ps(total, block);
                }
            }
            _mm256_storeu_ps(lanes.as_mut_ptr(), total);
        }
        for (i, (y, total)) in out.iter_mut().zip(lanes).enumerate().take(rows.len()) {
            *y = add_blocks(total, Layout::Split, weights, row(i), x, whole..blocks);
        }
    }
}

/// Eight blocks of an activation row, prepared for [`split`].
struct EightBlocks {
    /// The first halves of two blocks, then their second halves; four times.
    quants: [[__m256i; 2]; 4],
    /// 8 times the sums of the quants.
    offsets: __m256i,
    scales: __m256,
}

impl EightBlocks {
    /// The blocks from `b` on, of which there must be 8.
    #[inline(always)]
    unsafe fn load(x: &Q8<'_>, b: usize) -> EightBlocks {
        // SAFETY: the caller has AVX2, and 8 blocks from `b` on.
        unsafe {
            let mut quants = [[_mm256_setzero_si256(); 2]; 4];
            for (i, pair) in quants.iter_mut().enumerate() {
                let at = x.quants.as_ptr().add((b + i * 2) * BLOCK);
                let first = _mm256_loadu_si256(at.cast());
                let second = _mm256_loadu_si256(at.add(BLOCK).cast());
                pair[0] = _mm256_permute2x128_si256::<0x20>(first, second);
                pair[1] = _mm256_permute2x128_si256::<0x31>(first, second);
            }
            let sums = _mm256_cvtepi16_epi32(_mm_loadu_si128(x.sums.as_ptr().add(b).cast()));
            EightBlocks {
                quants,
                offsets: _mm256_slli_epi32::<3>(sums),
                scales: _mm256_loadu_ps(x.scales.as_ptr().add(b)),
            }
        }
    }

    /// The sums of products with 8 blocks of weights, whose quants lie at `row`.
    #[inline(always)]
    unsafe fn multiply<D: Dot>(&self, row: *const u8) -> __m256i {
        // SAFETY: the caller has the variant's features and 128 bytes at `row`.
        unsafe {
            // Each half of a pair has four sums of one block.
            let mut pairs = [_mm256_setzero_si256(); 4];
            for (i, (pair, [first, second])) in pairs.iter_mut().zip(self.quants).enumerate() {
                let (low, high) = nibbles(_mm256_loadu_si256(row.add(i * 32).cast()));
                *pair = D::finish(D::add(D::add(*pair, low, first), high, second));
            }
            let left = _mm256_hadd_epi32(pairs[0], pairs[1]);
            let right = _mm256_hadd_epi32(pairs[2], pairs[3]);
            let sums = _mm256_hadd_epi32(left, right);
            // Now the blocks 0 2 4 6 | 1 3 5 7.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            _mm256_sub_epi32(_mm256_permutevar8x32_epi32(sums, order), self.offsets)
        }
    }
}

/// Lane `i` of row `j` becomes lane `j` of row `i`.
#[inline(always)]
unsafe fn transpose(r: [__m256; 8]) -> [__m256; 8] {
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

/// Four columns of a [`Layout::Columns`] matrix that meet values other than zero.
#[derive(Clone, Copy)]
struct FourColumns {
    /// Where their quants start.
    starts: [usize; 4],
    /// The values that they meet: pairs of the first two, then pairs of the last two.
    x: __m256i,
}

/// The product with some rows of a [`Layout::Columns`] matrix, four active columns at a time.
#[inline(always)]
pub(super) unsafe fn columns(
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
    // `weights`; runs of 32 rows lie inside `rows`, which `out` has room for. The caller has AVX2
    // and F16C.
    unsafe {
        // What is two blocks ahead is asked for while a block is computed.
        let mut active = [ActiveColumns::none(); 3];
        for (b, active) in active.iter_mut().enumerate().take(blocks.min(2)) {
            active.find(&q8.quants[b * BLOCK..], b * stride, height);
        }
        for b in 0..blocks {
            let ahead = b + 2;
            if ahead < blocks {
                let quants = &q8.quants[ahead * BLOCK..];
                active[ahead % 3].find(quants, ahead * stride, height);
            }
            let (now, later) = (&active[b % 3], &active[ahead % 3]);
            let offset = _mm256_set1_epi32(8 * i32::from(q8.sums[b]));
            let scale = _mm256_set1_ps(q8.scales[b]);
            for run in rows.start / BLOCK..rows.end / BLOCK {
                if ahead < blocks {
                    later.prefetch(weights, ahead * stride, run);
                }
                if now.count == 0 {
                    continue;
                }
                let sums = now.sum_run(weights, run);
                let out = out.as_mut_ptr().add(run * BLOCK - rows.start);
                for (i, sums) in sums.into_iter().enumerate() {
                    let first = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sums));
                    let second = _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(sums));
                    let sum = _mm256_sub_epi32(_mm256_add_epi32(first, second), offset);
                    let halves = weights.as_ptr().add(b * stride + (run * BLOCK + i * 8) * 2);
                    let halves = _mm256_cvtph_ps(_mm_loadu_si128(halves.cast()));
                    let product =
                        _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(halves, scale));
                    let out = out.add(i * 8);
                    _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), product));
                }
            }
        }
    }
}

/// The columns of a block that meet values other than zero, by fours.
#[derive(Clone, Copy)]
struct ActiveColumns {
    /// The last four may repeat a column with zeros.
    fours: [FourColumns; 8],
    /// Columns.
    count: usize,
}

impl ActiveColumns {
    /// No columns.
    #[inline(always)]
    unsafe fn none() -> ActiveColumns {
        // SAFETY: the caller has AVX2.
        let none = FourColumns { starts: [0; 4], x: unsafe { _mm256_setzero_si256() } };
        ActiveColumns { fours: [none; 8], count: 0 }
    }

    /// Looks at the 32 values that a block of columns meets. The block starts at `block` with
    /// `height` scales; columns of `height / 2` bytes follow.
    #[inline(always)]
    unsafe fn find(&mut self, x: &[i8], block: usize, height: usize) {
        let quants = block + height * 2;
        let x: &[i8; BLOCK] = x.first_chunk().expect("a block has 32 values");
        let mut values = [[0i8; 4]; 8];
        self.count = 0;
        // SAFETY: the caller has AVX2, and 32 values are loaded from as many.
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
            for (four, [a, b, c, d]) in self.fours[..fours].iter_mut().zip(values) {
                let first = _mm_set1_epi16(i16::from_le_bytes([a as u8, b as u8]));
                let second = _mm_set1_epi16(i16::from_le_bytes([c as u8, d as u8]));
                four.x = _mm256_set_m128i(second, first);
            }
        }
    }

    /// Asks for the scales of a run, and for the quants of this and the next three where it is the
    /// first of four, which together fill a cache line.
    #[inline(always)]
    unsafe fn prefetch(&self, weights: &[u8], scales: usize, run: usize) {
        let weights = weights.as_ptr();
        // SAFETY: a hint reads nothing.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(weights.wrapping_add(scales + run * BLOCK * 2).cast());
            if run.is_multiple_of(4) {
                for start in self.fours[..self.count.div_ceil(4)].iter().flat_map(|f| &f.starts) {
                    _mm_prefetch::<_MM_HINT_T1>(weights.wrapping_add(start + run * 16).cast());
                }
            }
        }
    }

    /// The sums of a run of 32 rows over these columns, in 16 bits: 8 rows in each vector, the lower
    /// half over two of each four columns, the upper half over the other two. At most 8 additions
    /// of `2 · 15 · 128` do not overflow.
    #[inline(always)]
    unsafe fn sum_run(&self, weights: &[u8], run: usize) -> [__m256i; 4] {
        // SAFETY: the caller has AVX2, and each active column has 16 bytes for each run.
        unsafe {
            let mut sums = [_mm256_setzero_si256(); 4];
            for four in &self.fours[..self.count.div_ceil(4)] {
                let [a, b, c, d] = four.starts;
                let run = weights.as_ptr().add(run * 16);
                let a = _mm_loadu_si128(run.add(a).cast());
                let b = _mm_loadu_si128(run.add(b).cast());
                let c = _mm_loadu_si128(run.add(c).cast());
                let d = _mm_loadu_si128(run.add(d).cast());
                let (even, odd) = (_mm256_set_m128i(c, a), _mm256_set_m128i(d, b));
                let (low, high) = nibbles(_mm256_unpacklo_epi8(even, odd));
                sums[0] = _mm256_add_epi16(sums[0], _mm256_maddubs_epi16(low, four.x));
                sums[2] = _mm256_add_epi16(sums[2], _mm256_maddubs_epi16(high, four.x));
                let (low, high) = nibbles(_mm256_unpackhi_epi8(even, odd));
                sums[1] = _mm256_add_epi16(sums[1], _mm256_maddubs_epi16(low, four.x));
                sums[3] = _mm256_add_epi16(sums[3], _mm256_maddubs_epi16(high, four.x));
            }
            sums
        }
    }
}
