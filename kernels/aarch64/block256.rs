//! Products with matrices of super-blocks ("K-quants") as they lie in a file.
//!
//! The sums over a super-block are integers, whose order does not matter; super-blocks are scaled
//! and added one after another, as the scalar kernels do, so results are the same bits.

use super::dot::Dot;
use super::widen;
use crate::activation::count_blocks;
use crate::scalar::block256::{Q4_K, Q6_K, packed_scales};
use crate::tokens::Product;
use crate::{Activation, Format};
use core::arch::aarch64::*;
use core::marker::PhantomData;

/// Weights in a super-block, and in the groups that an activation row has sums for.
const BLOCK: usize = 256;
const GROUP: usize = 16;

/// What a super-block has besides its quants.
pub(super) struct Head {
    scale: f32,
    /// What `minimums` are scaled with, unless they are part of the quants' own sum.
    minimum: f32,
    /// The scale of each group.
    scales: [int16x8_t; 2],
    /// What the sum of each group of activations is multiplied with and taken away.
    minimums: [int16x8_t; 2],
}

/// How a format's super-block is taken apart. Quants come in planes of 32.
///
/// The functions may be called only with a whole super-block.
pub(super) trait Unpack {
    const FORMAT: Format;
    /// Whether the minimums have a scale of their own.
    const MINIMUM: bool;
    unsafe fn head(block: *const u8) -> Head;
    /// Four planes, the first or the second half of the quants, from 0 up.
    unsafe fn planes(block: *const u8, half: usize) -> [[int8x16_t; 2]; 4];
    /// Adds the product of a plane, whose two groups have these scales, to four sums.
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
    unsafe fn head(block: *const u8) -> Head {
        // SAFETY: the caller has the super-block.
        unsafe {
            let halves = vld1q_dup_u32(block.cast());
            let (halves, _) = widen(vreinterpretq_u16_u32(halves));
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
    unsafe fn head(block: *const u8) -> Head {
        // SAFETY: the caller has the super-block.
        unsafe {
            let (scale, _) = widen(vld1q_dup_u16(block.add(208).cast()));
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

/// The product in the format `U`, with bytes multiplied by `D`.
pub(super) struct Block256<U, D>(PhantomData<(U, D)>);

impl<U: Unpack, D: Dot> Product for Block256<U, D> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        let xs = xs.map(|x| &x.q8_k);
        let blocks = count_blocks(xs, BLOCK, GROUP);
        let rows = out.len() / T;
        let row_bytes = blocks * U::FORMAT.block_bytes();
        assert!(weights.len() >= rows * row_bytes);
        for row in 0..rows {
            let mut totals = [0f32; T];
            for b in 0..blocks {
                // SAFETY: the asserts above keep every access inside its slice: a row of weights
                // has `blocks` super-blocks, an activation row as many of `BLOCK` quants and of a
                // sum for each `GROUP` of them. The caller has the variant's features.
                unsafe {
                    let block = weights.as_ptr().add(row * row_bytes + b * U::FORMAT.block_bytes());
                    let head = U::head(block);
                    let mut scales = [0; 16];
                    for (i, group) in head.scales.into_iter().enumerate() {
                        let scales = scales.as_mut_ptr().add(i * 8);
                        vst1q_s32(scales, vmovl_s16(vget_low_s16(group)));
                        vst1q_s32(scales.add(4), vmovl_high_s16(group));
                    }
                    let mut sums = [vdupq_n_s32(0); T];
                    for half in 0..2 {
                        for (i, quants) in U::planes(block, half).into_iter().enumerate() {
                            let plane = half * 4 + i;
                            let scales = [scales[plane * 2], scales[plane * 2 + 1]];
                            for (sum, x) in sums.iter_mut().zip(xs) {
                                let x = x.quants.as_ptr().add(b * BLOCK + plane * 32);
                                let x = [vld1q_s8(x), vld1q_s8(x.add(16))];
                                *sum = U::add::<D>(*sum, quants, x, scales);
                            }
                        }
                    }
                    for ((total, sum), x) in totals.iter_mut().zip(sums).zip(xs) {
                        let groups = x.sums.as_ptr().add(b * BLOCK / GROUP);
                        let groups = [vld1q_s16(groups), vld1q_s16(groups.add(8))];
                        let minimums = multiply_words(head.minimums, groups);
                        let scale = *x.scales.get_unchecked(b);
                        if U::MINIMUM {
                            *total += scale * head.scale * vaddvq_s32(sum) as f32;
                            *total -= scale * head.minimum * vaddvq_s32(minimums) as f32;
                        } else {
                            let sum = vsubq_s32(sum, minimums);
                            *total += scale * head.scale * vaddvq_s32(sum) as f32;
                        }
                    }
                }
            }
            for (t, total) in totals.into_iter().enumerate() {
                out[t * rows + row] = total;
            }
        }
    }
}

/// Four sums that together are the product of 16 words with 16 words.
#[inline(always)]
fn multiply_words([a, b]: [int16x8_t; 2], [x, y]: [int16x8_t; 2]) -> int32x4_t {
    // SAFETY: NEON is always there.
    unsafe {
        let sums = vmull_s16(vget_low_s16(a), vget_low_s16(x));
        let sums = vmlal_high_s16(sums, a, x);
        let sums = vmlal_s16(sums, vget_low_s16(b), vget_low_s16(y));
        vmlal_high_s16(sums, b, y)
    }
}

/// 32 bytes.
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
