//! Products with matrices of blocks of 32 as they lie in a file.
//!
//! Within a row, blocks are scaled and added one after another, as the scalar kernels do, so results
//! are the same bits.

use super::dot::Dot;
use super::q4_0::nibbles;
use super::widen;
use crate::activation::count_blocks;
use crate::tokens::Product;
use crate::{Activation, Format};
use core::arch::aarch64::*;
use core::marker::PhantomData;

const BLOCK: usize = 32;
/// Bytes of the scale that a block begins with.
pub(super) const SCALE: usize = 2;

/// Rows side by side: one in each lane.
const ROWS: usize = 4;

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
        let (rows, block_bytes) = (out.len() / T, B::FORMAT.block_bytes());
        assert!(weights.len() >= rows * blocks * block_bytes);
        for first in (0..rows).step_by(ROWS) {
            let mut totals = [[0f32; ROWS]; T];
            // SAFETY: the asserts above keep every access inside its slice: a row of weights has
            // `blocks` blocks of `block_bytes` bytes, an activation row as many of `BLOCK` quants.
            // Lanes without a row repeat the last one. The caller has the variant's features.
            unsafe {
                let starts: [*const u8; ROWS] = core::array::from_fn(|i| {
                    let row = (first + i).min(rows - 1);
                    weights.as_ptr().add(row * blocks * block_bytes)
                });
                let mut sums = [vdupq_n_f32(0.0); T];
                for b in 0..blocks {
                    let offset = b * block_bytes;
                    let scales = widen_four(&starts, offset);
                    let mut weights = [[vdupq_n_s8(0); 2]; ROWS];
                    for (weights, start) in weights.iter_mut().zip(starts) {
                        *weights = B::weights(start.add(offset + SCALE));
                    }
                    for (sum, x) in sums.iter_mut().zip(xs) {
                        let quants = load(x.quants.as_ptr().add(b * BLOCK));
                        let mut products = [vdupq_n_s32(0); ROWS];
                        for (product, weights) in products.iter_mut().zip(weights) {
                            *product = D::signed(weights, quants);
                        }
                        let [i, j, k, l] = products;
                        let product = vpaddq_s32(vpaddq_s32(i, j), vpaddq_s32(k, l));
                        let scale = vmulq_n_f32(scales, *x.scales.get_unchecked(b));
                        *sum = vaddq_f32(*sum, vmulq_f32(vcvtq_f32_s32(product), scale));
                    }
                }
                for (total, sum) in totals.iter_mut().zip(sums) {
                    vst1q_f32(total.as_mut_ptr(), sum);
                }
            }
            for (t, total) in totals.iter().enumerate() {
                let out = &mut out[t * rows..][first..rows.min(first + ROWS)];
                out.copy_from_slice(&total[..out.len()]);
            }
        }
    }
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
