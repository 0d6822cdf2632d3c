//! Plain floating-point weights in vectors.

use super::widen;
use crate::plain::{Lanes, Widen};
use crate::scalar::plain::{BF16, F16, F32};
use core::arch::aarch64::*;

/// The first and the last four of eight lanes.
pub(super) type Halves = [float32x4_t; 2];

impl Lanes for Halves {
    #[inline(always)]
    unsafe fn zero() -> Halves {
        // SAFETY: NEON is part of every processor that these targets run on.
        unsafe { [vdupq_n_f32(0.0); 2] }
    }

    #[inline(always)]
    unsafe fn load(values: *const f32) -> Halves {
        // SAFETY: the caller has eight values there.
        unsafe { [vld1q_f32(values), vld1q_f32(values.add(4))] }
    }

    #[inline(always)]
    unsafe fn add_product(self, w: Halves, x: Halves) -> Halves {
        let ([a, b], [w, v], [x, y]) = (self, w, x);
        // SAFETY: NEON is part of every processor that these targets run on.
        unsafe { [vaddq_f32(a, vmulq_f32(w, x)), vaddq_f32(b, vmulq_f32(v, y))] }
    }

    #[inline(always)]
    unsafe fn values(self) -> [f32; 8] {
        let mut values = [0.0; 8];
        // SAFETY: the array is as large as both vectors.
        unsafe {
            vst1q_f32(values.as_mut_ptr(), self[0]);
            vst1q_f32(values.as_mut_ptr().add(4), self[1]);
        }
        values
    }
}

impl Widen<Halves> for F32 {
    #[inline(always)]
    unsafe fn widen(weights: *const u8) -> Halves {
        // SAFETY: the caller has eight weights there.
        unsafe {
            let (low, high) = (vld1q_u8(weights), vld1q_u8(weights.add(16)));
            [vreinterpretq_f32_u8(low), vreinterpretq_f32_u8(high)]
        }
    }
}

impl Widen<Halves> for F16 {
    #[inline(always)]
    unsafe fn widen(weights: *const u8) -> Halves {
        // SAFETY: the caller has eight weights there.
        widen(unsafe { vreinterpretq_u16_u8(vld1q_u8(weights)) }).into()
    }
}

impl Widen<Halves> for BF16 {
    #[inline(always)]
    unsafe fn widen(weights: *const u8) -> Halves {
        // SAFETY: the caller has eight weights there.
        unsafe {
            let words = vreinterpretq_u16_u8(vld1q_u8(weights));
            let low = vshll_n_u16::<16>(vget_low_u16(words));
            [low, vshll_high_n_u16::<16>(words)].map(|v| vreinterpretq_f32_u32(v))
        }
    }
}
