//! Products with Q4_0 matrices in the layouts that are made for vector units.
//!
//! Quants are taken as 0 … 15; 8 times the sum of the activations is taken away. Within a row,
//! blocks are scaled and added one after another, as the scalar kernels do, so results are the same
//! bits.

use super::dot::Dot;
use super::lanes::widen;
use crate::activation::count_blocks;
use crate::generic::grouped::Groups;
use crate::layout::{BLOCK, BLOCK_BYTES, GROUP, GROUP_BLOCK};
use crate::scalar::arranged::add_blocks;
use crate::{Activation, Layout, Q8};
use core::arch::aarch64::*;
use core::arch::asm;
use core::marker::PhantomData;
use core::ops::Range;

/// Groups of rows of a [`Layout::Grouped`] matrix, bytes multiplied by `D`.
pub(super) struct ByLanes<D>(PhantomData<D>);

impl<D: Dot> Groups for ByLanes<D> {
    const PAIRED: usize = 1;

    #[inline(always)]
    unsafe fn multiply<const T: usize, const G: usize>(
        weights: &[u8],
        group: usize,
        xs: [&Q8<'_>; T],
        rows: usize,
        out: &mut [f32],
    ) {
        let xs = xs.map(|x| *x);
        let blocks = xs[0].scales.len();
        let stride = blocks * GROUP_BLOCK;
        // What several tokens need of more than one block at once does not fit into registers.
        let fours = if T == 1 { blocks / 4 * 4 } else { 0 };
        // SAFETY: the caller's promise.
        unsafe {
            let weights = weights.as_ptr().add(group * stride);
            let block = |b: usize| weights.add(b * GROUP_BLOCK);
            let mut totals = [[[vdupq_n_f32(0.0); 2]; T]; G];
            for b in (0..fours).step_by(4) {
                let factors = xs.map(|x| Factors::<D>::four(&x, b));
                add_block::<D, T, G, 0>(&mut totals, block(b), stride, xs, b, factors);
                add_block::<D, T, G, 1>(&mut totals, block(b + 1), stride, xs, b + 1, factors);
                add_block::<D, T, G, 2>(&mut totals, block(b + 2), stride, xs, b + 2, factors);
                add_block::<D, T, G, 3>(&mut totals, block(b + 3), stride, xs, b + 3, factors);
            }
            for b in fours..blocks {
                let factors = xs.map(|x| Factors::one(&x, b));
                add_block::<D, T, G, 0>(&mut totals, block(b), stride, xs, b, factors);
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
}

/// What the sums of some blocks start with, and what they are scaled by: a block in each lane.
struct Factors<D: Dot> {
    starts: D::Starts,
    scales: float32x4_t,
}

impl<D: Dot> Clone for Factors<D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Dot> Copy for Factors<D> {}

impl<D: Dot> Factors<D> {
    /// Those of four blocks.
    ///
    /// # Safety
    /// `x` has four blocks from `block` on, and the processor has the features of `D`.
    #[inline(always)]
    unsafe fn four(x: &Q8<'_>, block: usize) -> Self {
        // SAFETY: the caller has four blocks.
        unsafe {
            let starts = D::starts(vld1_s16(x.sums.as_ptr().add(block)));
            Factors { starts, scales: vld1q_f32(x.scales.as_ptr().add(block)) }
        }
    }

    /// Those of one block, in lane 0.
    ///
    /// # Safety
    /// `x` has the block, and the processor has the features of `D`.
    #[inline(always)]
    unsafe fn one(x: &Q8<'_>, block: usize) -> Self {
        // SAFETY: the caller has the block.
        unsafe {
            let sums = vset_lane_s16::<0>(*x.sums.get_unchecked(block), vdup_n_s16(0));
            let scale = *x.scales.get_unchecked(block);
            let scales = vsetq_lane_f32::<0>(scale, vdupq_n_f32(0.0));
            Factors { starts: D::starts(sums), scales }
        }
    }
}

/// Adds the products of block `b`, which stands at `block` in the first group and `stride` bytes on
/// in the next, and whose factors are in lane `I`.
///
/// # Safety
/// There is the block in each group and in each of `xs`, and the processor has the features of `D`.
#[inline(always)]
unsafe fn add_block<D: Dot, const T: usize, const G: usize, const I: i32>(
    totals: &mut [[[float32x4_t; 2]; T]; G],
    block: *const u8,
    stride: usize,
    xs: [Q8<'_>; T],
    b: usize,
    factors: [Factors<D>; T],
) {
    // SAFETY: the caller has the variant's features, and the block in each group and row.
    unsafe {
        let mut x = [[vdupq_n_s8(0); 2]; T];
        for t in 0..T {
            x[t] = load_block(&xs[t], b);
        }
        // No loop: the compiler would move parts of the products out of it.
        add_group::<D, T, I>(&mut totals[0], block, &x, factors);
        if G == 2 {
            add_group::<D, T, I>(&mut totals[G - 1], block.add(stride), &x, factors);
        }
    }
}

/// Adds the products of a block of one group.
///
/// # Safety
/// There are `GROUP_BLOCK` bytes at `block`, and the processor has the features of `D`.
#[inline(always)]
unsafe fn add_group<D: Dot, const T: usize, const I: i32>(
    totals: &mut [[float32x4_t; 2]; T],
    block: *const u8,
    x: &[[int8x16_t; 2]; T],
    factors: [Factors<D>; T],
) {
    // SAFETY: the caller has the variant's features and the block.
    unsafe {
        // No closure: the features would have to reach it by being inlined.
        let mut sums = [D::start::<I>(factors[0].starts); T];
        for t in 1..T {
            sums[t] = D::start::<I>(factors[t].starts);
        }
        add_quarter::<D, T, 0>(&mut sums, block, x);
        add_quarter::<D, T, 1>(&mut sums, block, x);
        add_quarter::<D, T, 2>(&mut sums, block, x);
        add_quarter::<D, T, 3>(&mut sums, block, x);
        let [low, high] = widen(vld1q_u16(block.cast()));
        for t in 0..T {
            let sums = D::finish(sums[t]);
            for (half, scales) in [low, high].into_iter().enumerate() {
                let scales = vmulq_laneq_f32::<I>(scales, factors[t].scales);
                let product = vmulq_f32(vcvtq_f32_s32(sums[half]), scales);
                totals[t][half] = vaddq_f32(totals[t][half], product);
            }
        }
        if T == 1 {
            totals.iter_mut().for_each(finish);
        }
    }
}

/// Has totals computed before what follows is loaded: the compiler would otherwise bring loads
/// forward until it runs out of registers.
#[inline(always)]
fn finish([low, high]: &mut [float32x4_t; 2]) {
    // SAFETY: no instruction does nothing.
    unsafe {
        asm!(
            "// {0:v} {1:v}",
            inout(vreg) * low,
            inout(vreg) * high,
            options(nostack, preserves_flags)
        )
    };
}

/// Adds the products of bytes `4 I .. 4 I + 4` of a block of eight rows.
///
/// # Safety
/// There are `GROUP_BLOCK` bytes at `block`, and the processor has the features of `D`.
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
///
/// # Safety
/// `x` has the block.
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
pub(super) fn nibbles(bytes: uint8x16_t) -> [int8x16_t; 2] {
    // SAFETY: NEON is always there.
    unsafe {
        let low = vandq_u8(bytes, vdupq_n_u8(15));
        [vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes))]
    }
}

/// Rows and blocks that stand side by side in the lanes of [`split`].
const LANES: usize = 4;

/// The product with chosen rows of a [`Layout::Split`] matrix, 4 rows at a time: products of 4
/// blocks are computed side by side, transposed so that each lane has a row, and added in order.
///
/// # Safety
/// The processor has the features of `D`.
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
                    let [scales, _] = widen(vcombine_u16(scales, scales));
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

/// The columns of a block that meet values other than zero.
struct ActiveColumns {
    count: usize,
    /// Where their quants start.
    starts: [usize; BLOCK],
    /// The values.
    xs: [i8; BLOCK],
}

impl ActiveColumns {
    /// The active columns of a block whose quants start at `quants`, `stride` bytes each.
    #[inline(always)]
    fn find(xs: &[i8; BLOCK], quants: usize, stride: usize) -> ActiveColumns {
        let mut active = ActiveColumns { count: 0, starts: [0; BLOCK], xs: [0; BLOCK] };
        for (column, x) in xs.iter().enumerate() {
            // The next one takes the place of one that meets a zero.
            active.starts[active.count % BLOCK] = quants + column * stride;
            active.xs[active.count % BLOCK] = *x;
            active.count += usize::from(*x != 0);
        }
        active
    }
}

/// Runs of 32 rows that are computed together: a cache line of each column.
const RUNS: usize = 4;

/// The product with some rows of a [`Layout::Columns`] matrix.
pub(super) fn columns(weights: &[u8], x: &Activation<'_>, rows: Range<usize>, out: &mut [f32]) {
    let q8 = &x.q8_0;
    let blocks = count_blocks([q8], BLOCK, BLOCK);
    let height = weights.len() / (blocks * BLOCK_BYTES);
    assert!(weights.len() == height * blocks * BLOCK_BYTES);
    assert!(rows.start <= rows.end && rows.end <= height && out.len() == rows.len());
    assert!(rows.start.is_multiple_of(BLOCK) && rows.end.is_multiple_of(BLOCK));
    out.fill(0.0);
    for (b, xs) in q8.quants.as_chunks::<BLOCK>().0.iter().enumerate() {
        let scales = b * height * BLOCK_BYTES;
        let active = ActiveColumns::find(xs, scales + height * 2, height / 2);
        if active.count == 0 {
            continue;
        }
        let scales = &weights[scales..][rows.start * 2..rows.end * 2];
        let factors = (q8.sums[b], q8.scales[b]);
        let runs = rows.len() / BLOCK;
        let fours = runs / RUNS * RUNS;
        // SAFETY: block `b` has `height` scales and then 32 columns of `height / 2` bytes, all
        // inside `weights`; runs of 32 rows lie inside `rows`, as long as `out` and `scales`.
        unsafe {
            let weights = weights.as_ptr().add(rows.start / 2);
            for run in (0..fours).step_by(RUNS) {
                add_runs::<RUNS>(weights, &active, run, scales, factors, out);
            }
            for run in fours..runs {
                add_runs::<1>(weights, &active, run, scales, factors, out);
            }
        }
    }
}

/// Adds the products of `R` runs of 32 rows with the active columns of a block.
///
/// Sums are added in 16 bits: those of all quants, less the 8 that they stand above zero, are at
/// most `32 · 8 · 127`, so it does not matter what overflows on the way.
///
/// # Safety
/// Each active column has 16 bytes for each run from `weights` on, and `scales` and `out` have 32
/// places for each.
#[inline(always)]
unsafe fn add_runs<const R: usize>(
    weights: *const u8,
    active: &ActiveColumns,
    run: usize,
    scales: &[u8],
    (sum, x_scale): (i16, f32),
    out: &mut [f32],
) {
    // SAFETY: each active column has 16 bytes for each run, and the slices have what belongs to them.
    unsafe {
        let mut sums = [[vdupq_n_s16(sum.wrapping_mul(-8)); 4]; R];
        for (start, x) in active.starts.iter().zip(&active.xs).take(active.count) {
            let x = in_every_lane(*x);
            for (r, sums) in sums.iter_mut().enumerate() {
                let [low, high] = nibbles(vld1q_u8(weights.add(start + (run + r) * 16)));
                sums[0] = vmlal_s8(sums[0], vget_low_s8(low), vget_low_s8(x));
                sums[1] = vmlal_high_s8(sums[1], low, x);
                sums[2] = vmlal_s8(sums[2], vget_low_s8(high), vget_low_s8(x));
                sums[3] = vmlal_high_s8(sums[3], high, x);
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let run = (run + r) * BLOCK;
            let halves = scales.as_ptr().cast::<u16>().add(run);
            let out = out.as_mut_ptr().add(run);
            for (i, sums) in sums.into_iter().enumerate() {
                let [low, high] = widen(vld1q_u16(halves.add(i * 8)));
                let (first, second) = (vmovl_s16(vget_low_s16(sums)), vmovl_high_s16(sums));
                for (j, (sum, scales)) in [(first, low), (second, high)].into_iter().enumerate() {
                    let product = vmulq_f32(vcvtq_f32_s32(sum), vmulq_n_f32(scales, x_scale));
                    let out = out.add(i * 8 + j * 4);
                    vst1q_f32(out, vaddq_f32(vld1q_f32(out), product));
                }
            }
        }
    }
}

/// `x` in every lane. What the compiler knows to be the same in all lanes it takes from the lower
/// half, and moves the upper half of the other factor there.
#[inline(always)]
fn in_every_lane(x: i8) -> int8x16_t {
    // SAFETY: no instruction does nothing.
    unsafe {
        let mut x = vdupq_n_s8(x);
        asm!("// {0:v}", inout(vreg) x, options(pure, nomem, nostack, preserves_flags));
        x
    }
}
