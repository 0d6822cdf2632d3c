//! Products with Q4_0 matrices in the layouts that are made for vector units.
//!
//! Quants are taken as 0 … 15; 8 times the sum of the activations is taken away. Within a row,
//! blocks are scaled and added one after another, as the scalar kernels do, so results are the same
//! bits.

use super::dot::Dot;
use super::widen;
use crate::activation::count_blocks;
use crate::layout::{BLOCK, BLOCK_BYTES, GROUP, GROUP_BLOCK};
use crate::scalar::arranged::add_blocks;
use crate::tokens::Product;
use crate::{Activation, Layout, Q8};
use core::arch::aarch64::*;
use core::marker::PhantomData;
use core::ops::Range;

/// The product with a [`Layout::Grouped`] matrix: a row in each lane.
pub(super) struct Grouped<D>(PhantomData<D>);

impl<D: Dot> Product for Grouped<D> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        // SAFETY: the caller has the variant's features.
        unsafe { grouped::<D, T>(weights, xs.map(|x| &x.q8_0), out) }
    }
}

#[inline(always)]
unsafe fn grouped<D: Dot, const T: usize>(weights: &[u8], xs: [&Q8<'_>; T], out: &mut [f32]) {
    let blocks = count_blocks(xs, BLOCK, BLOCK);
    let rows = out.len() / T;
    let groups = rows / GROUP;
    assert!(weights.len() >= groups * blocks * GROUP_BLOCK && rows.is_multiple_of(GROUP));
    // Where a single token leaves registers for two groups, they share what is loaded of it.
    let pairs = if T == 1 && D::PAIRS { groups / 2 * 2 } else { 0 };
    for group in (0..pairs).step_by(2) {
        // SAFETY: as for single groups below.
        unsafe { some_groups::<D, T, 2>(weights, group, xs, rows, out) };
    }
    for group in pairs..groups {
        // SAFETY: the asserts above keep every access inside its slice: a group has `blocks` blocks
        // of `GROUP_BLOCK` bytes, an activation row as many of `BLOCK` quants, and each row of
        // `out` has 8 values for each group. The caller has the variant's features.
        unsafe { some_groups::<D, T, 1>(weights, group, xs, rows, out) };
    }
}

/// The products with `G` groups of rows.
///
/// # Safety
/// The groups lie in `weights`, the activation rows are equally long, and `out` has `T` rows of
/// `rows` values; the processor has the variant's features.
#[inline(always)]
unsafe fn some_groups<D: Dot, const T: usize, const G: usize>(
    weights: &[u8],
    group: usize,
    xs: [&Q8<'_>; T],
    rows: usize,
    out: &mut [f32],
) {
    let blocks = xs[0].scales.len();
    // SAFETY: the caller's promise.
    unsafe {
        let mut block = weights.as_ptr().add(group * blocks * GROUP_BLOCK);
        let mut totals = [[[vdupq_n_f32(0.0); 2]; T]; G];
        for b in 0..blocks {
            let mut x = [[vdupq_n_s8(0); 2]; T];
            let mut starts = [D::start(0); T];
            for t in 0..T {
                x[t] = load_block(xs[t], b);
                starts[t] = D::start(-8 * i32::from(*xs[t].sums.get_unchecked(b)));
            }
            for (g, totals) in totals.iter_mut().enumerate() {
                let block = block.add(g * blocks * GROUP_BLOCK);
                let mut sums = starts;
                add_quarter::<D, T, 0>(&mut sums, block, &x);
                add_quarter::<D, T, 1>(&mut sums, block, &x);
                add_quarter::<D, T, 2>(&mut sums, block, &x);
                add_quarter::<D, T, 3>(&mut sums, block, &x);
                let (low, high) = widen(vld1q_u16(block.cast()));
                for t in 0..T {
                    let scale = *xs[t].scales.get_unchecked(b);
                    let sums = D::finish(sums[t]);
                    for (half, scales) in [low, high].into_iter().enumerate() {
                        let product =
                            vmulq_f32(vcvtq_f32_s32(sums[half]), vmulq_n_f32(scales, scale));
                        totals[t][half] = vaddq_f32(totals[t][half], product);
                    }
                }
            }
            block = block.add(GROUP_BLOCK);
        }
        for (g, totals) in totals.into_iter().enumerate() {
            for (t, [low, high]) in totals.into_iter().enumerate() {
                let out = out.as_mut_ptr().add(t * rows + (group + g) * GROUP);
                vst1q_f32(out, low);
                vst1q_f32(out.add(4), high);
            }
        }
    }
}

/// Adds the products of bytes `4 I .. 4 I + 4` of a block of eight rows.
#[inline(always)]
unsafe fn add_quarter<D: Dot, const T: usize, const I: i32>(
    sums: &mut [D::Sums; T],
    block: *const u8,
    x: &[[int8x16_t; 2]; T],
) {
    // SAFETY: the caller has the variant's features and `GROUP_BLOCK` bytes at `block`.
    unsafe {
        let quants = block.add(16 + I as usize * 32);
        let [low, low_high] = nibbles(vld1q_u8(quants));
        let [high, high_high] = nibbles(vld1q_u8(quants.add(16)));
        for (sums, [first, second]) in sums.iter_mut().zip(*x) {
            D::add::<I>(sums, low, high, first);
            D::add::<I>(sums, low_high, high_high, second);
        }
    }
}

/// The quants of a block of activations.
#[inline(always)]
unsafe fn load_block(x: &Q8<'_>, block: usize) -> [int8x16_t; 2] {
    // SAFETY: the caller has the block.
    unsafe {
        let quants = x.quants.as_ptr().add(block * BLOCK);
        [vld1q_s8(quants), vld1q_s8(quants.add(16))]
    }
}

/// Low and high nibbles of 16 bytes.
#[inline(always)]
fn nibbles(bytes: uint8x16_t) -> [int8x16_t; 2] {
    // SAFETY: NEON is always there.
    unsafe {
        let low = vandq_u8(bytes, vdupq_n_u8(15));
        [vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes))]
    }
}

/// Rows and blocks that stand side by side in the lanes of [`split`].
const LANES: usize = 4;

/// The product with chosen rows of a [`Layout::Split`] matrix, 4 rows at a time: products of 4
/// blocks are computed side by side, turned around so that each lane has a row, and added in order.
#[inline(always)]
pub(super) unsafe fn split<D: Dot>(
    weights: &[u8],
    rows: &[u32],
    x: &Activation<'_>,
    out: &mut [f32],
) {
    let q8 = &x.q8_0;
    let blocks = count_blocks([q8], BLOCK, BLOCK);
    let row_bytes = blocks * BLOCK_BYTES;
    for (rows, out) in rows.chunks(LANES).zip(out.chunks_mut(LANES)) {
        let most = rows.iter().fold(0, |most, row| most.max(*row as usize));
        assert!((most + 1) * row_bytes <= weights.len(), "row {most} of {} bytes", weights.len());
        // Lanes without a row repeat the first one.
        let row = |i: usize| *rows.get(i).unwrap_or(&rows[0]) as usize;
        let starts: [usize; LANES] = core::array::from_fn(|i| row(i) * row_bytes);
        let whole = blocks / LANES * LANES;
        let mut lanes = [0f32; LANES];
        // SAFETY: rows lie inside `weights`, and `b .. b + 4` inside the blocks of a row and of the
        // activations. The caller has the variant's features.
        unsafe {
            let mut total = vdupq_n_f32(0.0);
            for b in (0..whole).step_by(LANES) {
                let quants: [_; LANES] = core::array::from_fn(|i| load_block(q8, b + i));
                let offsets = vshlq_n_s32::<3>(vmovl_s16(vld1_s16(q8.sums.as_ptr().add(b))));
                let x_scales = vld1q_f32(q8.scales.as_ptr().add(b));
                let mut products = [vdupq_n_f32(0.0); LANES];
                for (product, start) in products.iter_mut().zip(starts) {
                    let row = weights.as_ptr().add(start);
                    // No closure: the features would have to reach it by being inlined.
                    let mut sums = [vdupq_n_s32(0); LANES];
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let bytes = vld1q_u8(row.add(blocks * 2 + (b + i) * 16));
                        *sum = D::block(nibbles(bytes), quants[i]);
                    }
                    let sums =
                        vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3]));
                    let sums = vcvtq_f32_s32(vsubq_s32(sums, offsets));
                    let scales = vld1_u16(row.add(b * 2).cast());
                    let (scales, _) = widen(vcombine_u16(scales, scales));
                    *product = vmulq_f32(sums, vmulq_f32(scales, x_scales));
                }
                for block in transpose(products) {
                    total = vaddq_f32(total, block);
                }
            }
            vst1q_f32(lanes.as_mut_ptr(), total);
        }
        for (i, (y, total)) in out.iter_mut().zip(lanes).enumerate().take(rows.len()) {
            *y = add_blocks(total, Layout::Split, weights, row(i), x, whole..blocks);
        }
    }
}

/// Lane `i` of row `j` becomes lane `j` of row `i`.
#[inline(always)]
fn transpose([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: NEON is always there.
    unsafe {
        let (a, b) = (vtrn1q_f32(a, b), vtrn2q_f32(a, b));
        let (c, d) = (vtrn1q_f32(c, d), vtrn2q_f32(c, d));
        let first = |x, y| {
            let (x, y) = (vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y));
            vreinterpretq_f32_f64(vtrn1q_f64(x, y))
        };
        let second = |x, y| {
            let (x, y) = (vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y));
            vreinterpretq_f32_f64(vtrn2q_f64(x, y))
        };
        [first(a, c), first(b, d), second(a, c), second(b, d)]
    }
}

/// A column of a [`Layout::Columns`] matrix that meets a value other than zero.
#[derive(Clone, Copy, Default)]
struct Column {
    /// Where its quants start.
    start: usize,
    /// The value.
    x: i8,
}

/// Columns whose products with at most `15 · 128` can be added in 16 bits.
const SHORT: usize = 16;

/// The product with some rows of a [`Layout::Columns`] matrix.
pub(super) fn columns(weights: &[u8], x: &Activation<'_>, rows: Range<usize>, out: &mut [f32]) {
    let q8 = &x.q8_0;
    let blocks = count_blocks([q8], BLOCK, BLOCK);
    let height = weights.len() / (blocks * BLOCK_BYTES);
    assert!(weights.len() == height * blocks * BLOCK_BYTES);
    assert!(rows.start <= rows.end && rows.end <= height && out.len() == rows.len());
    assert!(rows.start.is_multiple_of(BLOCK) && rows.end.is_multiple_of(BLOCK));
    out.fill(0.0);
    for b in 0..blocks {
        let scales = b * height * BLOCK_BYTES;
        let quants = scales + height * 2;
        let mut room = [Column::default(); BLOCK];
        let mut count = 0;
        for (column, x) in q8.quants[b * BLOCK..][..BLOCK].iter().enumerate() {
            if *x != 0 {
                room[count] = Column { start: quants + column * (height / 2), x: *x };
                count += 1;
            }
        }
        if count == 0 {
            continue;
        }
        let offset = -8 * i32::from(q8.sums[b]);
        for run in rows.start / BLOCK..rows.end / BLOCK {
            // SAFETY: block `b` has `height` scales and then 32 columns of `height / 2` bytes, all
            // inside `weights`; runs of 32 rows lie inside `rows`, which `out` has room for.
            unsafe {
                let sums = sum_run(weights, &room[..count], run, offset);
                let out = out.as_mut_ptr().add(run * BLOCK - rows.start);
                let halves = weights.as_ptr().add(scales + run * BLOCK * 2).cast::<u16>();
                for (i, [first, second]) in sums.into_iter().enumerate() {
                    let (low, high) = widen(vld1q_u16(halves.add(i * 8)));
                    for (j, (sum, scales)) in [(first, low), (second, high)].into_iter().enumerate()
                    {
                        let scales = vmulq_n_f32(scales, q8.scales[b]);
                        let out = out.add(i * 8 + j * 4);
                        let product = vmulq_f32(vcvtq_f32_s32(sum), scales);
                        vst1q_f32(out, vaddq_f32(vld1q_f32(out), product));
                    }
                }
            }
        }
    }
}

/// The sums of a run of 32 rows over the active columns of a block, by eights.
#[inline(always)]
unsafe fn sum_run(
    weights: &[u8],
    active: &[Column],
    run: usize,
    offset: i32,
) -> [[int32x4_t; 2]; 4] {
    // SAFETY: each active column has 16 bytes for each run.
    unsafe {
        let mut sums = [[vdupq_n_s32(offset); 2]; 4];
        for active in active.chunks(SHORT) {
            let mut short = [vdupq_n_s16(0); 4];
            for column in active {
                let [low, high] = nibbles(vld1q_u8(weights.as_ptr().add(column.start + run * 16)));
                let x = vdupq_n_s8(column.x);
                short[0] = vmlal_s8(short[0], vget_low_s8(low), vget_low_s8(x));
                short[1] = vmlal_high_s8(short[1], low, x);
                short[2] = vmlal_s8(short[2], vget_low_s8(high), vget_low_s8(x));
                short[3] = vmlal_high_s8(short[3], high, x);
            }
            for ([first, second], short) in sums.iter_mut().zip(short) {
                *first = vaddw_s16(*first, vget_low_s16(short));
                *second = vaddw_high_s16(*second, short);
            }
        }
        sums
    }
}
