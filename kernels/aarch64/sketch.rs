//! Estimates of products from the [`sketch`](crate::sketch()) of a matrix, a row in each lane.

use super::dot::Dot;
use super::widen;
use crate::Activation;
use crate::activation::count_blocks;
use crate::layout::{BLOCK, GROUP};
use crate::sketch::{SCALES, SKETCH_BLOCK, group};
use core::arch::aarch64::*;
use core::ops::Range;

/// What the products with some rows hardly exceed.
#[inline(always)]
pub(super) unsafe fn bound<D: Dot>(
    sketch: &[u8],
    rows: Range<usize>,
    x: &Activation<'_>,
    spreads: &[f32],
    out: &mut [f32],
) {
    let x = &x.q8_0;
    let blocks = count_blocks([x], BLOCK, BLOCK);
    assert!(rows.start.is_multiple_of(GROUP) && out.len() == rows.len());
    assert!(spreads.len() == blocks);
    for (row, out) in rows.step_by(GROUP).zip(out.as_chunks_mut::<GROUP>().0) {
        let group = group(blocks, sketch, row);
        // SAFETY: a group has `blocks` blocks of `SKETCH_BLOCK` bytes, as many as the
        // activations and the spreads. The caller has the variant's features.
        unsafe {
            let mut totals = [vdupq_n_f32(0.0); 2];
            let mut variances = totals;
            for (b, spread) in spreads.iter().enumerate() {
                let block = group.as_ptr().add(b * SKETCH_BLOCK);
                let mut sums = D::start::<0>(D::starts(vdup_n_s16(0)));
                for i in 0..2 {
                    let quants =
                        |half: usize| crumbs(vld1q_u8(block.add(SCALES + i * 32 + half * 16)));
                    let x = vld1q_s8(x.quants.as_ptr().add(b * BLOCK + i * 16));
                    add::<D>(&mut sums, quants(0), quants(1), x);
                }
                let offset = vdupq_n_s32(13 * i32::from(*x.sums.get_unchecked(b)));
                let scale = 0.5 * *x.scales.get_unchecked(b);
                let (low, high) = widen(vld1q_u16(block.cast()));
                let sums = D::finish(sums);
                for (half, scales) in [low, high].into_iter().enumerate() {
                    let twice = vsubq_s32(vshlq_n_s32::<3>(sums[half]), offset);
                    let product = vmulq_f32(vcvtq_f32_s32(twice), vmulq_n_f32(scales, scale));
                    totals[half] = vaddq_f32(totals[half], product);
                    let square = vmulq_n_f32(vmulq_f32(scales, scales), *spread);
                    variances[half] = vaddq_f32(variances[half], square);
                }
            }
            for half in 0..2 {
                let bound = vaddq_f32(totals[half], vsqrtq_f32(variances[half]));
                vst1q_f32(out.as_mut_ptr().add(half * 4), bound);
            }
        }
    }
}

/// Adds the products of 16 columns of eight rows, 4 columns at a time.
#[inline(always)]
unsafe fn add<D: Dot>(sums: &mut D::Sums, low: [int8x16_t; 4], high: [int8x16_t; 4], x: int8x16_t) {
    // SAFETY: the caller has the variant's features.
    unsafe {
        D::add::<0>(sums, low[0], high[0], x);
        D::add::<1>(sums, low[1], high[1], x);
        D::add::<2>(sums, low[2], high[2], x);
        D::add::<3>(sums, low[3], high[3], x);
    }
}

/// The four crumbs of 16 bytes.
#[inline(always)]
fn crumbs(bytes: uint8x16_t) -> [int8x16_t; 4] {
    // SAFETY: NEON is always there.
    unsafe {
        let mask = vdupq_n_u8(3);
        [
            vreinterpretq_s8_u8(vandq_u8(bytes, mask)),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<2>(bytes), mask)),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<4>(bytes), mask)),
            vreinterpretq_s8_u8(vshrq_n_u8::<6>(bytes)),
        ]
    }
}
