//! Activations in 8 bits.

use crate::activation::{Block, block_scale};
use core::arch::aarch64::*;
use core::arch::asm;

/// [`crate::activation::quantize_block`], with the same bits.
#[inline(always)]
pub(super) fn quantize_block(x: &[f32; 32]) -> Block {
    // SAFETY: 32 values are loaded from as many, and so are quants stored.
    unsafe {
        let mut values = [vdupq_n_f32(0.0); 8];
        let mut largest = values[0];
        for (i, v) in values.iter_mut().enumerate() {
            *v = vld1q_f32(x.as_ptr().add(i * 4));
            // Of a NaN, the maximum is the other operand.
            largest = vmaxnmq_f32(largest, vabsq_f32(*v));
        }
        let (scale, inverse) = block_scale(vmaxnmvq_f32(largest));
        let mut quants = [0; 32];
        let mut sums = vdupq_n_s16(0);
        for i in 0..4 {
            let low = round_half_away(vmulq_n_f32(values[2 * i], inverse));
            let high = round_half_away(vmulq_n_f32(values[2 * i + 1], inverse));
            let words = vcombine_s16(vmovn_s32(low), vmovn_s32(high));
            sums = vaddq_s16(sums, words);
            vst1_s8(quants.as_mut_ptr().add(i * 8), vmovn_s16(words));
        }
        Block { quants, scale: round_to_half(scale), sum: vaddvq_s16(sums) }
    }
}

/// Rounds values of at most 200 in magnitude; others become 0.
#[inline(always)]
fn round_half_away(v: float32x4_t) -> int32x4_t {
    // SAFETY: NEON is part of every processor that these targets run on.
    unsafe {
        let is_small = vcleq_f32(vabsq_f32(v), vdupq_n_f32(200.0));
        vandq_s32(vcvtaq_s32_f32(v), vreinterpretq_s32_u32(is_small))
    }
}

/// The nearest half-precision value.
#[inline(always)]
fn round_to_half(single: f32) -> f32 {
    let half: f32;
    // SAFETY: the instructions only touch the register that is named.
    unsafe {
        asm!(
            "fcvt {v:h}, {v:s}",
            "fcvt {v:s}, {v:h}",
            v = inout(vreg) single => half,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    half
}
