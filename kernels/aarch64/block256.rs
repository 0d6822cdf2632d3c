//! Super-blocks ("K-quants") in vectors.

use super::dot::Dot;
use super::lanes::widen;
use crate::Format;
use crate::generic::block256::{Head, Sums, SuperBlock};
use crate::scalar::block256::{Q4_K, Q6_K, packed_scales};
use core::arch::aarch64::*;
use core::marker::PhantomData;

/// How a format's super-block is taken apart: [`SuperBlock`] has the same.
pub(super) trait Unpack {
    const FORMAT: Format;
    const MINIMUM: bool;

    /// What the super-block has besides its quants.
    ///
    /// # Safety
    /// There is a whole super-block.
    unsafe fn head(block: *const u8) -> Head<[int16x8_t; 2], [int16x8_t; 2]>;

    /// Four planes, the first or the second half of the quants, from 0 up.
    ///
    /// # Safety
    /// There is a whole super-block.
    unsafe fn planes(block: *const u8, half: usize) -> [[int8x16_t; 2]; 4];

    /// Adds the product of a plane, whose two groups have these scales, to four sums.
    ///
    /// # Safety
    /// The processor has the features of `D`.
    unsafe fn add<D: Dot>(
        sums: int32x4_t,
        quants: [int8x16_t; 2],
        x: [int8x16_t; 2],
        scales: [i32; 2],
    ) -> int32x4_t;
}

impl Unpack for Q4_K {
    const FORMAT: Format = Format::Q4_K;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn head(block: *const u8) -> Head<[int16x8_t; 2], [int16x8_t; 2]> {
        // SAFETY: the caller has the super-block.
        unsafe {
            let halves = vld1q_dup_u32(block.cast());
            let [halves, _] = widen(vreinterpretq_u16_u32(halves));
            // Each scale and minimum is that of two groups.
            let spread = |bytes| {
                let bytes = vcreate_u8(bytes);
                let low = vmovl_u8(vzip1_u8(bytes, bytes));
                let high = vmovl_u8(vzip2_u8(bytes, bytes));
                [vreinterpretq_s16_u16(low), vreinterpretq_s16_u16(high)]
            };
            let [scales, minimums] = packed_scales(&block.add(4).cast::<[u8; 12]>().read());
            Head {
                scale: vgetq_lane_f32::<0>(halves),
                minimum: vgetq_lane_f32::<1>(halves),
                scales: spread(scales),
                minimums: spread(minimums),
            }
        }
    }

    #[inline(always)]
    unsafe fn planes(block: *const u8, half: usize) -> [[int8x16_t; 2]; 4] {
        // SAFETY: the caller has the super-block.
        unsafe {
            let quants = block.add(16 + half * 64);
            let (first, second) = (load(quants), load(quants.add(32)));
            [signed(low(first)), signed(high(first)), signed(low(second)), signed(high(second))]
        }
    }

    #[inline(always)]
    unsafe fn add<D: Dot>(
        sums: int32x4_t,
        quants: [int8x16_t; 2],
        x: [int8x16_t; 2],
        [scale, _]: [i32; 2],
    ) -> int32x4_t {
        // SAFETY: the caller has the variant's features.
        unsafe { vmlaq_n_s32(sums, D::block(quants, x), scale) }
    }
}

impl Unpack for Q6_K {
    const FORMAT: Format = Format::Q6_K;
    const MINIMUM: bool = false;

    /// Quants are around 32, so that 32 times each scale is a minimum.
    #[inline(always)]
    unsafe fn head(block: *const u8) -> Head<[int16x8_t; 2], [int16x8_t; 2]> {
        // SAFETY: the caller has the super-block.
        unsafe {
            let [scale, _] = widen(vld1q_dup_u16(block.add(208).cast()));
            let scales = vld1q_s8(block.add(192).cast());
            let scales = [vmovl_s8(vget_low_s8(scales)), vmovl_high_s8(scales)];
            Head {
                scale: vgetq_lane_f32::<0>(scale),
                minimum: 0.0,
                scales,
                minimums: [vshlq_n_s16::<5>(scales[0]), vshlq_n_s16::<5>(scales[1])],
            }
        }
    }

    #[inline(always)]
    unsafe fn planes(block: *const u8, half: usize) -> [[int8x16_t; 2]; 4] {
        // SAFETY: the caller has the super-block.
        unsafe {
            let quants = block.add(half * 64);
            let (first, second) = (load(quants), load(quants.add(32)));
            let pairs = load(block.add(128 + half * 32));
            let mut planes = [low(first), low(second), high(first), high(second)];
            for i in 0..2 {
                planes[0][i] = with_pairs(planes[0][i], vshlq_n_u8::<4>(pairs[i]));
                planes[1][i] = with_pairs(planes[1][i], vshlq_n_u8::<2>(pairs[i]));
                planes[2][i] = with_pairs(planes[2][i], pairs[i]);
                planes[3][i] = with_pairs(planes[3][i], vshrq_n_u8::<2>(pairs[i]));
            }
            let [a, b, c, d] = planes;
            [signed(a), signed(b), signed(c), signed(d)]
        }
    }

    #[inline(always)]
    unsafe fn add<D: Dot>(
        sums: int32x4_t,
        [a, b]: [int8x16_t; 2],
        [x, y]: [int8x16_t; 2],
        [first, second]: [i32; 2],
    ) -> int32x4_t {
        // SAFETY: the caller has the variant's features.
        unsafe {
            let sums = vmlaq_n_s32(sums, D::group(a, x), first);
            vmlaq_n_s32(sums, D::group(b, y), second)
        }
    }
}

/// Super-blocks in the format `U`, with bytes multiplied by `D`.
pub(super) struct By<U, D>(PhantomData<(U, D)>);

impl<U: Unpack, D: Dot> SuperBlock for By<U, D> {
    const FORMAT: Format = U::FORMAT;
    const MINIMUM: bool = U::MINIMUM;
    type Plane = [int8x16_t; 2];
    type Scales = [i32; 16];
    type Pair = [i32; 2];
    type Sums = int32x4_t;

    #[inline(always)]
    unsafe fn head(block: *const u8) -> Head<[i32; 16], [int16x8_t; 2]> {
        // SAFETY: the caller has the super-block.
        let Head { scale, minimum, scales, minimums } = unsafe { U::head(block) };
        let mut widened = [0; 16];
        for (i, group) in scales.into_iter().enumerate() {
            // SAFETY: there is room for two groups of eight.
            unsafe {
                let widened = widened.as_mut_ptr().add(i * 8);
                vst1q_s32(widened, vmovl_s16(vget_low_s16(group)));
                vst1q_s32(widened.add(4), vmovl_high_s16(group));
            }
        }
        Head { scale, minimum, scales: widened, minimums }
    }

    #[inline(always)]
    unsafe fn planes(block: *const u8, half: usize) -> [[int8x16_t; 2]; 4] {
        // SAFETY: the caller has the super-block.
        unsafe { U::planes(block, half) }
    }

    #[inline(always)]
    unsafe fn pair(scales: &[i32; 16], plane: usize) -> [i32; 2] {
        [scales[plane * 2], scales[plane * 2 + 1]]
    }

    #[inline(always)]
    unsafe fn add(
        sums: int32x4_t,
        quants: [int8x16_t; 2],
        x: *const i8,
        scales: [i32; 2],
    ) -> int32x4_t {
        // SAFETY: the caller has the activations and the variant's features.
        unsafe { U::add::<D>(sums, quants, [vld1q_s8(x), vld1q_s8(x.add(16))], scales) }
    }
}

impl Sums for int32x4_t {
    type Words = [int16x8_t; 2];

    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn words([a, b]: [int16x8_t; 2], others: *const i16) -> int32x4_t {
        // SAFETY: the caller has the words.
        unsafe {
            let (x, y) = (vld1q_s16(others), vld1q_s16(others.add(8)));
            let sums = vmull_s16(vget_low_s16(a), vget_low_s16(x));
            let sums = vmlal_high_s16(sums, a, x);
            let sums = vmlal_s16(sums, vget_low_s16(b), vget_low_s16(y));
            vmlal_high_s16(sums, b, y)
        }
    }

    #[inline(always)]
    unsafe fn minus(self, other: int32x4_t) -> int32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vsubq_s32(self, other) }
    }

    #[inline(always)]
    unsafe fn total(self) -> i32 {
        // SAFETY: NEON is always there.
        unsafe { vaddvq_s32(self) }
    }
}

/// 32 bytes.
///
/// # Safety
/// There are 32 bytes.
#[inline(always)]
unsafe fn load(bytes: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller has the bytes.
    unsafe { [vld1q_u8(bytes), vld1q_u8(bytes.add(16))] }
}

/// Low nibbles.
#[inline(always)]
fn low([a, b]: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
    // SAFETY: NEON is always there.
    unsafe { [vandq_u8(a, vdupq_n_u8(15)), vandq_u8(b, vdupq_n_u8(15))] }
}

/// High nibbles.
#[inline(always)]
fn high([a, b]: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
    // SAFETY: NEON is always there.
    unsafe { [vshrq_n_u8::<4>(a), vshrq_n_u8::<4>(b)] }
}

/// Nibbles with bits 4 and 5 of `pairs` above them.
#[inline(always)]
fn with_pairs(nibbles: uint8x16_t, pairs: uint8x16_t) -> uint8x16_t {
    // SAFETY: NEON is always there.
    unsafe { vorrq_u8(nibbles, vandq_u8(pairs, vdupq_n_u8(48))) }
}

/// Bytes below 128 as signed ones.
#[inline(always)]
fn signed([a, b]: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: NEON is always there.
    unsafe { [vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b)] }
}
