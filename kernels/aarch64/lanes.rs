//! Eight singles in two vectors.

use crate::lanes::Lanes;
use core::arch::aarch64::*;
use core::arch::asm;
use half::f16;

/// The first and the last four of eight lanes.
pub(super) type Halves = [float32x4_t; 2];

/// Eight half-precision values as singles.
#[inline(always)]
pub(super) fn widen(halves: uint16x8_t) -> Halves {
    let (low, high): (float32x4_t, float32x4_t);
    // SAFETY: the instructions are part of NEON and only touch the registers that are named.
    unsafe {
        asm!(
            "fcvtl {low:v}.4s, {halves:v}.4h",
            "fcvtl2 {high:v}.4s, {halves:v}.8h",
            low = out(vreg) low,
            high = out(vreg) high,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [low, high]
}

impl Lanes for Halves {
    #[inline(always)]
    unsafe fn zero() -> Halves {
        // SAFETY: NEON is part of every processor that these targets run on.
        unsafe { Halves::splat(0.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Halves {
        // SAFETY: NEON is part of every processor that these targets run on.
        unsafe { [vdupq_n_f32(value); 2] }
    }

    #[inline(always)]
    unsafe fn load(values: &[f32; 8]) -> Halves {
        // SAFETY: the array is as large as both vectors.
        unsafe { [vld1q_f32(values.as_ptr()), vld1q_f32(values.as_ptr().add(4))] }
    }

    #[inline(always)]
    unsafe fn widen(halves: &[f16; 8]) -> Halves {
        // SAFETY: the array is as large as the vector.
        widen(unsafe { vld1q_u16(halves.as_ptr().cast()) })
    }

    #[inline(always)]
    unsafe fn multiply(self, other: Halves) -> Halves {
        // SAFETY: NEON is part of every processor that these targets run on.
        unsafe { [vmulq_f32(self[0], other[0]), vmulq_f32(self[1], other[1])] }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Halves, b: Halves) -> Halves {
        // SAFETY: NEON is part of every processor that these targets run on.
        unsafe {
            let (low, high) = (vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1]));
            [vaddq_f32(self[0], low), vaddq_f32(self[1], high)]
        }
    }

    #[inline(always)]
    unsafe fn add_root(self, other: Halves) -> Halves {
        // SAFETY: NEON is part of every processor that these targets run on.
        unsafe {
            let (low, high) = (vsqrtq_f32(other[0]), vsqrtq_f32(other[1]));
            [vaddq_f32(self[0], low), vaddq_f32(self[1], high)]
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: NEON is part of every processor that these targets run on.
        unsafe {
            let four = vaddq_f32(self[0], self[1]);
            vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
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

    #[inline(always)]
    unsafe fn narrow(self) -> [f16; 8] {
        let mut out = [f16::ZERO; 8];
        let halves: uint16x8_t;
        // SAFETY: the instructions are part of NEON and only touch the registers that are named; the
        // array is as large as the vector.
        unsafe {
            asm!(
                "fcvtn {halves:v}.4h, {low:v}.4s",
                "fcvtn2 {halves:v}.8h, {high:v}.4s",
                halves = out(vreg) halves,
                low = in(vreg) self[0],
                high = in(vreg) self[1],
                options(pure, nomem, nostack, preserves_flags),
            );
            vst1q_u16(out.as_mut_ptr().cast(), halves);
        }
        out
    }
}
