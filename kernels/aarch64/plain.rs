//! Plain floating-point weights in vectors.

use super::lanes::{Halves, widen};
use crate::generic::plain::Widen;
use crate::scalar::plain::{BF16, F16, F32};
use core::arch::aarch64::*;

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
        widen(unsafe { vreinterpretq_u16_u8(vld1q_u8(weights)) })
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
