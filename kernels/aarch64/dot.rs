//! Products of signed bytes, summed by fours.

use core::arch::aarch64::*;
use core::arch::asm;

/// How a variant multiplies bytes. Weights are 0 … 15 where nothing else is said.
pub(super) trait Dot {
    /// What the sums of four blocks start with, a block in each lane.
    type Starts: Copy;
    /// Running sums of eight rows.
    type Sums: Copy;
    /// What makes up for weights that stand 8 above zero, from the sums of blocks of activations.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn starts(sums: int16x4_t) -> Self::Starts;
    /// Sums of eight rows for the block in lane `I`.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn start<const I: i32>(starts: Self::Starts) -> Self::Sums;
    /// Adds to the sums of eight rows the products of four bytes of each, in `low` (rows 0 to 3) and
    /// `high` (rows 4 to 7), with bytes `4 I .. 4 I + 4` of `x`. At most 8 times.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn add<const I: i32>(
        sums: &mut Self::Sums,
        low: int8x16_t,
        high: int8x16_t,
        x: int8x16_t,
    );
    /// The sums of rows 0 to 3 and 4 to 7.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn finish(sums: Self::Sums) -> [int32x4_t; 2];
    /// Four sums that together are the product of a block, in halves, with a block of activations.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn block(weights: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t;
    /// The same for any weights, and activations above −128.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn signed(weights: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t;
    /// Four sums that together are the product of 16 weights and 16 activations above −128.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn group(weights: int8x16_t, x: int8x16_t) -> int32x4_t;
    /// The products of eight keys, of which four bytes each lie together in turn, with a block above
    /// −128.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn interleaved(keys: &[i8; 256], x: [int8x16_t; 2]) -> [int32x4_t; 2];
}

/// Vector `i` of some keys.
#[inline(always)]
fn keys_at(keys: &[i8; 256], i: usize) -> int8x16_t {
    let vector: &[i8; 16] = &keys.as_chunks().0[i];
    // SAFETY: the array is as large as the vector.
    unsafe { vld1q_s8(vector.as_ptr()) }
}

/// Bytes `4 I .. 4 I + 4` of `x`, four times.
#[inline(always)]
fn repeat<const I: i32>(x: int8x16_t) -> int8x16_t {
    // SAFETY: NEON is always there.
    unsafe { vreinterpretq_s8_s32(vdupq_laneq_s32::<I>(vreinterpretq_s32_s8(x))) }
}

/// Products in 16 bits. The sum of a block is at most `32 · 8 · 127` once it has made up for the
/// weights' 8, so it does not matter what overflows on the way.
pub(super) struct Smlal;

impl Dot for Smlal {
    type Starts = int16x4_t;
    /// The start, and sums of two rows in each vector, each in four parts.
    type Sums = (int16x8_t, [int16x8_t; 4]);

    #[inline(always)]
    unsafe fn starts(sums: int16x4_t) -> Self::Starts {
        // SAFETY: NEON is always there.
        unsafe { vmul_n_s16(sums, -8) }
    }

    #[inline(always)]
    unsafe fn start<const I: i32>(starts: Self::Starts) -> Self::Sums {
        // SAFETY: NEON is always there.
        unsafe { (vdupq_lane_s16::<I>(starts), [vdupq_n_s16(0); 4]) }
    }

    #[inline(always)]
    unsafe fn add<const I: i32>(
        (_, sums): &mut Self::Sums,
        low: int8x16_t,
        high: int8x16_t,
        x: int8x16_t,
    ) {
        // SAFETY: NEON is always there.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_laneq_s32::<I>(vreinterpretq_s32_s8(x)));
            sums[0] = vmlal_s8(sums[0], vget_low_s8(low), vget_low_s8(x));
            sums[1] = vmlal_high_s8(sums[1], low, x);
            sums[2] = vmlal_s8(sums[2], vget_low_s8(high), vget_low_s8(x));
            sums[3] = vmlal_high_s8(sums[3], high, x);
        }
    }

    #[inline(always)]
    unsafe fn finish((start, sums): Self::Sums) -> [int32x4_t; 2] {
        // SAFETY: NEON is always there.
        unsafe {
            let [a, b, c, d] = sums;
            let sums = vpaddq_s16(vpaddq_s16(a, b), vpaddq_s16(c, d));
            let sums = vaddq_s16(sums, start);
            [vmovl_s16(vget_low_s16(sums)), vmovl_high_s16(sums)]
        }
    }

    #[inline(always)]
    unsafe fn block([a, b]: [int8x16_t; 2], [x, y]: [int8x16_t; 2]) -> int32x4_t {
        // SAFETY: NEON is always there.
        unsafe {
            let mut sums = vmull_s8(vget_low_s8(a), vget_low_s8(x));
            sums = vmlal_high_s8(sums, a, x);
            sums = vmlal_s8(sums, vget_low_s8(b), vget_low_s8(y));
            vpaddlq_s16(vmlal_high_s8(sums, b, y))
        }
    }

    /// Two additions of `128 · 127` do not overflow.
    #[inline(always)]
    unsafe fn signed([a, b]: [int8x16_t; 2], [x, y]: [int8x16_t; 2]) -> int32x4_t {
        // SAFETY: NEON is always there.
        unsafe {
            let sums = vmull_s8(vget_low_s8(b), vget_low_s8(y));
            vpadalq_s16(Self::group(a, x), vmlal_high_s8(sums, b, y))
        }
    }

    #[inline(always)]
    unsafe fn group(a: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: NEON is always there.
        unsafe {
            let sums = vmull_s8(vget_low_s8(a), vget_low_s8(x));
            vpaddlq_s16(vmlal_high_s8(sums, a, x))
        }
    }

    /// Two products of `128 · 127` fit into 16 bits.
    #[inline(always)]
    unsafe fn interleaved(keys: &[i8; 256], [x, y]: [int8x16_t; 2]) -> [int32x4_t; 2] {
        // SAFETY: NEON is always there.
        unsafe {
            let mut sums = [vdupq_n_s32(0); 4];
            let pairs = [
                [repeat::<0>(x), repeat::<1>(x)],
                [repeat::<2>(x), repeat::<3>(x)],
                [repeat::<0>(y), repeat::<1>(y)],
                [repeat::<2>(y), repeat::<3>(y)],
            ];
            for (i, [x, y]) in pairs.into_iter().enumerate() {
                for half in 0..2 {
                    let (a, b) = (keys_at(keys, 4 * i + half), keys_at(keys, 4 * i + half + 2));
                    let low = vmull_s8(vget_low_s8(a), vget_low_s8(x));
                    let low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(y));
                    let high = vmlal_high_s8(vmull_high_s8(a, x), b, y);
                    sums[2 * half] = vpadalq_s16(sums[2 * half], low);
                    sums[2 * half + 1] = vpadalq_s16(sums[2 * half + 1], high);
                }
            }
            [vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3])]
        }
    }
}

/// The dot product extension. Its intrinsics are not stable, so the instruction is written out, and
/// the assembler told that it exists wherever these functions end up.
pub(super) struct Sdot;

impl Dot for Sdot {
    type Starts = int32x4_t;
    type Sums = [int32x4_t; 2];

    #[inline(always)]
    unsafe fn starts(sums: int16x4_t) -> Self::Starts {
        // SAFETY: NEON is always there.
        unsafe { vmull_n_s16(sums, -8) }
    }

    #[inline(always)]
    unsafe fn start<const I: i32>(starts: Self::Starts) -> Self::Sums {
        // SAFETY: NEON is always there.
        [unsafe { vdupq_laneq_s32::<I>(starts) }; 2]
    }

    #[inline(always)]
    unsafe fn add<const I: i32>(
        sums: &mut Self::Sums,
        low: int8x16_t,
        high: int8x16_t,
        x: int8x16_t,
    ) {
        // SAFETY: the caller has the extension; only the registers that are named are touched.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {a:v}.4s, {low:v}.16b, {x:v}.4b[{i}]",
                "sdot {b:v}.4s, {high:v}.16b, {x:v}.4b[{i}]",
                a = inout(vreg) sums[0],
                b = inout(vreg) sums[1],
                low = in(vreg) low,
                high = in(vreg) high,
                x = in(vreg) x,
                i = const I,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    unsafe fn finish(sums: Self::Sums) -> [int32x4_t; 2] {
        sums
    }

    #[inline(always)]
    unsafe fn block([a, b]: [int8x16_t; 2], [x, y]: [int8x16_t; 2]) -> int32x4_t {
        // SAFETY: the caller has the extension; only the registers that are named are touched.
        unsafe {
            let mut sums = vdupq_n_s32(0);
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {a:v}.16b, {x:v}.16b",
                "sdot {sums:v}.4s, {b:v}.16b, {y:v}.16b",
                sums = inout(vreg) sums,
                a = in(vreg) a,
                b = in(vreg) b,
                x = in(vreg) x,
                y = in(vreg) y,
                options(pure, nomem, nostack, preserves_flags),
            );
            sums
        }
    }

    #[inline(always)]
    unsafe fn signed(weights: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t {
        // SAFETY: the caller has the extension.
        unsafe { Self::block(weights, x) }
    }

    #[inline(always)]
    unsafe fn group(a: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller has the extension; only the registers that are named are touched.
        unsafe {
            let mut sums = vdupq_n_s32(0);
            asm!(
                "sdot {sums:v}.4s, {a:v}.16b, {x:v}.16b",
                sums = inout(vreg) sums,
                a = in(vreg) a,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
            sums
        }
    }

    #[inline(always)]
    unsafe fn interleaved(keys: &[i8; 256], [x, y]: [int8x16_t; 2]) -> [int32x4_t; 2] {
        // SAFETY: the caller has the extension.
        unsafe {
            let mut sums = [vdupq_n_s32(0); 2];
            let at = |i| keys_at(keys, i);
            Self::add::<0>(&mut sums, at(0), at(1), x);
            Self::add::<1>(&mut sums, at(2), at(3), x);
            Self::add::<2>(&mut sums, at(4), at(5), x);
            Self::add::<3>(&mut sums, at(6), at(7), x);
            Self::add::<0>(&mut sums, at(8), at(9), y);
            Self::add::<1>(&mut sums, at(10), at(11), y);
            Self::add::<2>(&mut sums, at(12), at(13), y);
            Self::add::<3>(&mut sums, at(14), at(15), y);
            sums
        }
    }
}
