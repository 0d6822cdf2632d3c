//! Blocks of 32 as they lie in a file, four rows or blocks side by side.

use super::dot::Dot;
use super::lanes::widen;
use super::q4_0::nibbles;
use crate::generic::rows::{SCALE, SideBySide};
use crate::layout::BLOCK;
use crate::{Format, Q8};
use core::arch::aarch64::*;
use core::marker::PhantomData;

/// Rows, or blocks of a row, side by side: one in each lane.
pub(super) const LANES: usize = 4;

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

/// Rows of blocks `B` side by side, bytes multiplied by `D`.
pub(super) struct Four<B, D>(PhantomData<(B, D)>);

impl<B: Block32, D: Dot> SideBySide<LANES> for Four<B, D> {
    const FORMAT: Format = B::FORMAT;
    type Totals = float32x4_t;

    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vdupq_n_f32(0.0) }
    }

    #[inline(always)]
    unsafe fn add_rows<const T: usize>(
        totals: &mut [float32x4_t; T],
        starts: [*const u8; LANES],
        xs: [&Q8<'_>; T],
        b: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let offset = b * B::FORMAT.block_bytes();
            let scales = widen_four(&starts, offset);
            let mut weights = [[vdupq_n_s8(0); 2]; LANES];
            for (weights, start) in weights.iter_mut().zip(starts) {
                *weights = B::weights(start.add(offset + SCALE));
            }
            for (total, x) in totals.iter_mut().zip(xs) {
                let quants = load(x.quants.as_ptr().add(b * BLOCK));
                let mut products = [vdupq_n_s32(0); LANES];
                for (product, weights) in products.iter_mut().zip(weights) {
                    *product = D::signed(weights, quants);
                }
                let scale = vmulq_n_f32(scales, *x.scales.get_unchecked(b));
                let product = vcvtq_f32_s32(add_lanes(products));
                *total = vaddq_f32(*total, vmulq_f32(product, scale));
            }
        }
    }

    #[inline(always)]
    unsafe fn blocks(start: *const u8, x: &Q8<'_>, first: usize, count: usize) -> [f32; LANES] {
        let mut values = [0f32; LANES];
        // SAFETY: the caller's promise.
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
        values
    }

    #[inline(always)]
    unsafe fn store(totals: float32x4_t, out: *mut f32) {
        // SAFETY: the caller has room for the totals.
        unsafe { vst1q_f32(out, totals) }
    }
}

/// The sum of the lanes of each vector.
#[inline(always)]
fn add_lanes([a, b, c, d]: [int32x4_t; 4]) -> int32x4_t {
    // SAFETY: NEON is always there.
    unsafe { vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)) }
}

/// The half-precision numbers at an offset from four places.
///
/// # Safety
/// There are two bytes at each place.
#[inline(always)]
pub(super) unsafe fn widen_four(starts: &[*const u8; 4], offset: usize) -> float32x4_t {
    // SAFETY: the caller has two bytes at each place.
    unsafe {
        let half = |i: usize| starts[i].add(offset).cast::<u16>();
        let halves = vld1q_dup_u16(half(0));
        let halves = vld1q_lane_u16::<1>(half(1), halves);
        let halves = vld1q_lane_u16::<2>(half(2), halves);
        let [four, _] = widen(vld1q_lane_u16::<3>(half(3), halves));
        four
    }
}

/// 32 bytes.
///
/// # Safety
/// There are 32 bytes.
#[inline(always)]
unsafe fn load(quants: *const i8) -> [int8x16_t; 2] {
    // SAFETY: the caller has the block.
    unsafe { [vld1q_s8(quants), vld1q_s8(quants.add(16))] }
}
