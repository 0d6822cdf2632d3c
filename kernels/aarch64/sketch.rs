//! Products with the bits of a [`sketch`](crate::sketch()), a row in each lane.

use super::dot::Dot;
use super::lanes::Halves;
use crate::generic::sketch::SketchDot;
use core::arch::aarch64::*;
use core::marker::PhantomData;

/// Products by `D`.
pub(super) struct Crumbs<D>(PhantomData<D>);

impl<D: Dot> SketchDot for Crumbs<D> {
    type Lanes = Halves;

    #[inline(always)]
    unsafe fn multiply(bits: *const u8, x: *const i8, offset: i32) -> Halves {
        // SAFETY: the caller has the bits, the activations and the variant's features.
        unsafe {
            let mut sums = D::start::<0>(D::starts(vdup_n_s16(0)));
            for i in 0..2 {
                let low = crumbs(vld1q_u8(bits.add(i * 32)));
                let high = crumbs(vld1q_u8(bits.add(i * 32 + 16)));
                add::<D>(&mut sums, low, high, vld1q_s8(x.add(i * 16)));
            }
            let offset = vdupq_n_s32(offset);
            let [low, high] = D::finish(sums);
            [
                vcvtq_f32_s32(vsubq_s32(vshlq_n_s32::<3>(low), offset)),
                vcvtq_f32_s32(vsubq_s32(vshlq_n_s32::<3>(high), offset)),
            ]
        }
    }
}

/// Adds the products of 16 columns of eight rows, 4 columns at a time.
///
/// # Safety
/// The processor has the features of `D`.
#[inline(always)]
unsafe fn add<D: Dot>(sums: &mut D::Sums, low: [int8x16_t; 4], high: [int8x16_t; 4], x: int8x16_t) {
    // SAFETY: the caller has the features.
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
