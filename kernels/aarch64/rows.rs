//! Products with matrices of blocks of 32 as they lie in a file.
//!
//! Four rows are multiplied side by side, or four blocks of a row that is left over. Within a row,
//! blocks are scaled and added one after another, as the scalar kernels do, so results are the same
//! bits.

use super::dot::Dot;
use super::q4_0::nibbles;
use super::widen;
use crate::activation::count_blocks;
use crate::tokens::Product;
use crate::{Activation, Format, Q8};
use core::arch::aarch64::*;
use core::marker::PhantomData;

const BLOCK: usize = 32;
/// Bytes of the scale that a block begins with.
pub(super) const SCALE: usize = 2;

/// Rows, or blocks of a row, side by side: one in each lane.
const LANES: usize = 4;

/// A format whose blocks are a scale and 32 quants.
pub(super) trait Block32 {
    const FORMAT: Format;
    /// The quants, which follow the scale, as signed numbers.
    ///
    /// # Safety
    /// A whole block is there.
    unsafe fn weights(quants: *const u8) -> [int8x16_t; 2];
}

/// 4 bits around 8.
pub(super) struct Q4_0;
/// 8 bits.
pub(super) struct Q8_0;

impl Block32 for Q4_0 {
    const FORMAT: Format = Format::Q4_0;

    #[inline(always)]
    unsafe fn weights(quants: *const u8) -> [int8x16_t; 2] {
        // SAFETY: the caller has 16 bytes of quants.
        unsafe {
            let [low, high] = nibbles(vld1q_u8(quants));
            [vsubq_s8(low, vdupq_n_s8(8)), vsubq_s8(high, vdupq_n_s8(8))]
        }
    }
}

impl Block32 for Q8_0 {
    const FORMAT: Format = Format::Q8_0;

    #[inline(always)]
    unsafe fn weights(quants: *const u8) -> [int8x16_t; 2] {
        // SAFETY: the caller has 32 bytes of quants.
        unsafe { load(quants.cast()) }
    }
}

/// The product with rows of blocks `B`, bytes multiplied by `D`.
pub(super) struct Rows<B, D>(PhantomData<(B, D)>);

impl<B: Block32, D: Dot> Product for Rows<B, D> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        let xs = xs.map(|x| &x.q8_0);
        let blocks = count_blocks(xs, BLOCK, BLOCK);
        let (rows, row_bytes) = (out.len() / T, blocks * B::FORMAT.block_bytes());
        assert!(weights.len() >= rows * row_bytes && out.len() == T * rows);
        let whole = rows - rows % LANES;
        // SAFETY: the asserts above keep every access inside its slice: a row of weights has
        // `blocks` blocks, an activation row as many of `BLOCK` quants, and each row of `out` has
        // `rows` values. The caller has the variant's features.
        unsafe {
            for first in (0..whole).step_by(LANES) {
                let row = |i| weights.as_ptr().add((first + i) * row_bytes);
                let sums = rows_side_by_side::<B, D, T>(core::array::from_fn(row), blocks, xs);
                for (t, sum) in sums.into_iter().enumerate() {
                    vst1q_f32(out.as_mut_ptr().add(t * rows + first), sum);
                }
            }
            for row in whole..rows {
                for (t, x) in xs.iter().enumerate() {
                    let start = weights.as_ptr().add(row * row_bytes);
                    out[t * rows + row] = blocks_side_by_side::<B, D>(start, blocks, x);
                }
            }
        }
    }
}

/// The products of four rows of weights, which start at some places.
#[inline(always)]
unsafe fn rows_side_by_side<B: Block32, D: Dot, const T: usize>(
    starts: [*const u8; LANES],
    blocks: usize,
    xs: [&Q8<'_>; T],
) -> [float32x4_t; T] {
    // SAFETY: the caller has the rows, as many blocks in each of `xs`, and the variant's features.
    unsafe {
        let mut sums = [vdupq_n_f32(0.0); T];
        for b in 0..blocks {
            let offset = b * B::FORMAT.block_bytes();
            let scales = widen_four(&starts, offset);
            let mut weights = [[vdupq_n_s8(0); 2]; LANES];
            for (weights, start) in weights.iter_mut().zip(starts) {
                *weights = B::weights(start.add(offset + SCALE));
            }
            for (sum, x) in sums.iter_mut().zip(xs) {
                let quants = load(x.quants.as_ptr().add(b * BLOCK));
                let mut products = [vdupq_n_s32(0); LANES];
                for (product, weights) in products.iter_mut().zip(weights) {
                    *product = D::signed(weights, quants);
                }
                let scale = vmulq_n_f32(scales, *x.scales.get_unchecked(b));
                let product = vcvtq_f32_s32(add_lanes(products));
                *sum = vaddq_f32(*sum, vmulq_f32(product, scale));
            }
        }
        sums
    }
}

/// The product of the row of weights that starts at a place.
#[inline(always)]
unsafe fn blocks_side_by_side<B: Block32, D: Dot>(
    start: *const u8,
    blocks: usize,
    x: &Q8<'_>,
) -> f32 {
    let mut total = 0.0;
    for first in (0..blocks).step_by(LANES) {
        let mut values = [0f32; LANES];
        let count = LANES.min(blocks - first);
        // SAFETY: the caller has the row, as many blocks in `x`, and the variant's features. Lanes
        // without a block repeat the last one.
        unsafe {
            let mut starts = [start; LANES];
            let mut products = [vdupq_n_s32(0); LANES];
            let mut scales = [0f32; LANES];
            for i in 0..LANES {
                let b = first + i.min(count - 1);
                starts[i] = start.add(b * B::FORMAT.block_bytes());
                let quants = load(x.quants.as_ptr().add(b * BLOCK));
                products[i] = D::signed(B::weights(starts[i].add(SCALE)), quants);
                scales[i] = *x.scales.get_unchecked(b);
            }
            let scale = vmulq_f32(widen_four(&starts, 0), vld1q_f32(scales.as_ptr()));
            let product = vcvtq_f32_s32(add_lanes(products));
            vst1q_f32(values.as_mut_ptr(), vmulq_f32(product, scale));
        }
        values[..count].iter().for_each(|value| total += value);
    }
    total
}

/// The sum of the lanes of each vector.
#[inline(always)]
fn add_lanes([a, b, c, d]: [int32x4_t; 4]) -> int32x4_t {
    // SAFETY: NEON is always there.
    unsafe { vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)) }
}

/// The half-precision numbers at an offset from four places.
#[inline(always)]
pub(super) unsafe fn widen_four(starts: &[*const u8; 4], offset: usize) -> float32x4_t {
    // SAFETY: the caller has two bytes at each place.
    unsafe {
        let half = |i: usize| starts[i].add(offset).cast::<u16>();
        let halves = vld1q_dup_u16(half(0));
        let halves = vld1q_lane_u16::<1>(half(1), halves);
        let halves = vld1q_lane_u16::<2>(half(2), halves);
        widen(vld1q_lane_u16::<3>(half(3), halves)).0
    }
}

/// 32 bytes.
#[inline(always)]
unsafe fn load(quants: *const i8) -> [int8x16_t; 2] {
    // SAFETY: the caller has the block.
    unsafe { [vld1q_s8(quants), vld1q_s8(quants.add(16))] }
}
