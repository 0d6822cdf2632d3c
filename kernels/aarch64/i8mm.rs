//! Products of several tokens by 8-bit matrix multiplication: eight bytes of two rows of weights
//! with eight bytes of two tokens in one instruction. A single token gains nothing and is multiplied
//! by the dot product.
//!
//! Sums have the order of the scalar kernels, so results are the same bits.

use super::dot::{Dot, Sdot};
use super::lanes::widen;
use super::q4_0::{ByLanes, nibbles};
use super::rows::{Block32, Four, LANES, widen_four};
use crate::activation::count_blocks;
use crate::generic::grouped;
use crate::generic::rows::{Rows, SCALE};
use crate::generic::tokens::Product;
use crate::layout::{BLOCK, GROUP, GROUP_BLOCK};
use crate::{Activation, Q8};
use core::arch::aarch64::*;
use core::arch::asm;
use core::marker::PhantomData;

/// Pairs of tokens at most.
const PAIRS: usize = 2;

/// Adds the products of two rows and two tokens, eight bytes each: row 0 with both tokens, row 1
/// with both.
///
/// # Safety
/// The processor has I8MM.
#[inline(always)]
unsafe fn smmla(mut sums: int32x4_t, rows: int8x16_t, tokens: int8x16_t) -> int32x4_t {
    // SAFETY: the caller has the extension; only the registers that are named are touched.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sums:v}.4s, {rows:v}.16b, {tokens:v}.16b",
            sums = inout(vreg) sums,
            rows = in(vreg) rows,
            tokens = in(vreg) tokens,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// A block of activations of two tokens.
#[derive(Clone, Copy)]
struct Pair {
    /// The quants, eight of each token at a time.
    quants: [int8x16_t; 4],
    /// What makes up for weights that stand 8 above zero, of both, twice.
    starts: int32x4_t,
    /// The scales of both, twice.
    scales: float32x4_t,
}

impl Pair {
    /// Pair `p` of some tokens; the last one is paired with itself where their number is odd.
    ///
    /// # Safety
    /// Each of `xs` has the block, and there is such a pair.
    #[inline(always)]
    unsafe fn load<const T: usize>(xs: &[&Q8<'_>; T], p: usize, block: usize) -> Pair {
        let (a, b) = (xs[2 * p], xs[(2 * p + 1).min(T - 1)]);
        // SAFETY: the caller has the block in every row.
        unsafe {
            let [a_low, a_high] = halves(a.quants.as_ptr().add(block * BLOCK));
            let [b_low, b_high] = halves(b.quants.as_ptr().add(block * BLOCK));
            let [first, second] = interleave(a_low, b_low);
            let [third, fourth] = interleave(a_high, b_high);
            let sum = |x: &Q8<'_>| vld1_dup_s16(x.sums.as_ptr().add(block));
            let scale = |x: &Q8<'_>| vld1q_dup_f32(x.scales.as_ptr().add(block));
            Pair {
                quants: [first, second, third, fourth],
                starts: vmull_n_s16(vzip1_s16(sum(a), sum(b)), -8),
                scales: vzip1q_f32(scale(a), scale(b)),
            }
        }
    }

    /// All pairs of some tokens.
    ///
    /// # Safety
    /// Each of `xs` has the block.
    #[inline(always)]
    unsafe fn load_all<const T: usize>(xs: &[&Q8<'_>; T], block: usize) -> [Pair; PAIRS] {
        // SAFETY: the caller's promise.
        unsafe {
            let first = Pair::load(xs, 0, block);
            if T > 2 { [first, Pair::load(xs, 1, block)] } else { [first; PAIRS] }
        }
    }
}

/// 32 bytes.
///
/// # Safety
/// There are 32 bytes.
#[inline(always)]
unsafe fn halves(bytes: *const i8) -> [int8x16_t; 2] {
    // SAFETY: the caller has the bytes.
    unsafe { [vld1q_s8(bytes), vld1q_s8(bytes.add(16))] }
}

/// The lower eight bytes of both, and the upper eight.
#[inline(always)]
fn interleave(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    // SAFETY: NEON is always there.
    unsafe {
        let (a, b) = (vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b));
        [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))]
    }
}

/// Totals of four rows with two tokens, two rows in each vector.
type Totals = [float32x4_t; 2];

/// Adds a block's `sums` to `totals`, with the scales of its four rows.
#[inline(always)]
fn add_scaled(totals: &mut Totals, sums: [int32x4_t; 2], scales: float32x4_t, pair: &Pair) {
    // SAFETY: NEON is always there.
    unsafe {
        let scales = [vzip1q_f32(scales, scales), vzip2q_f32(scales, scales)];
        for i in 0..2 {
            let product = vmulq_f32(vcvtq_f32_s32(sums[i]), vmulq_f32(scales[i], pair.scales));
            totals[i] = vaddq_f32(totals[i], product);
        }
    }
}

/// The totals of four rows by token.
#[inline(always)]
fn by_token([a, b]: Totals) -> [float32x4_t; 2] {
    // SAFETY: NEON is always there.
    unsafe { [vuzp1q_f32(a, b), vuzp2q_f32(a, b)] }
}

/// The product with a [`crate::Layout::Grouped`] matrix.
pub(super) struct Grouped;

impl Product for Grouped {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        // Fewer than four tokens take no fewer instructions than by the dot product.
        if T < 4 {
            // SAFETY: the caller has the variant's features.
            return unsafe { grouped::Grouped::<ByLanes<Sdot>>::multiply(weights, xs, out) };
        }
        let xs = xs.map(|x| &x.q8_0);
        let blocks = count_blocks(xs, BLOCK, BLOCK);
        let rows = out.len() / T;
        assert!(weights.len() >= rows / GROUP * blocks * GROUP_BLOCK && rows.is_multiple_of(GROUP));
        for group in 0..rows / GROUP {
            // SAFETY: the asserts above keep every access inside its slice: a group has `blocks`
            // blocks of `GROUP_BLOCK` bytes, an activation row as many of `BLOCK` quants, and each
            // row of `out` has 8 values for each group. The caller has the variant's features.
            unsafe {
                let weights = weights.as_ptr().add(group * blocks * GROUP_BLOCK);
                let mut totals = [[[vdupq_n_f32(0.0); 2]; 2]; PAIRS];
                for b in 0..blocks {
                    let pairs = Pair::load_all(&xs, b);
                    add_block::<T>(&mut totals, weights.add(b * GROUP_BLOCK), &pairs);
                }
                for t in 0..T {
                    let out = out.as_mut_ptr().add(t * rows + group * GROUP);
                    let [low, high] = totals[t / 2];
                    vst1q_f32(out, by_token(low)[t % 2]);
                    vst1q_f32(out.add(4), by_token(high)[t % 2]);
                }
            }
        }
    }
}

/// Adds the products of a block of eight rows, four rows after four.
///
/// # Safety
/// There are `GROUP_BLOCK` bytes at `block`, and the processor has I8MM.
#[inline(always)]
unsafe fn add_block<const T: usize>(
    totals: &mut [[Totals; 2]; PAIRS],
    block: *const u8,
    pairs: &[Pair; PAIRS],
) {
    // SAFETY: the caller has the variant's features and `GROUP_BLOCK` bytes at `block`.
    unsafe {
        let [low, high] = widen(vld1q_u16(block.cast()));
        for (half, scales) in [low, high].into_iter().enumerate() {
            let mut sums = pairs.map(|pair| [pair.starts; 2]);
            for i in 0..2 {
                // Two times four bytes of each of four rows become eight of each of two.
                let quants = block.add(16 + i * 64 + half * 16).cast::<u32>();
                let (a, b) = (vld1q_u32(quants), vld1q_u32(quants.add(8)));
                for (row, bytes) in [vzip1q_u32(a, b), vzip2q_u32(a, b)].into_iter().enumerate() {
                    let [low, high] = nibbles(vreinterpretq_u8_u32(bytes));
                    for p in 0..T.div_ceil(2) {
                        sums[p][row] = smmla(sums[p][row], low, pairs[p].quants[i]);
                        sums[p][row] = smmla(sums[p][row], high, pairs[p].quants[i + 2]);
                    }
                }
            }
            for p in 0..T.div_ceil(2) {
                add_scaled(&mut totals[p][half], sums[p], scales, &pairs[p]);
            }
        }
    }
}

/// The product with rows of blocks `B` as they lie in a file, for a single token multiplied by `D`.
pub(super) struct PairedRows<B, D>(PhantomData<(B, D)>);

/// Rows side by side.
const ROWS: usize = 4;

impl<B: Block32, D: Dot> Product for PairedRows<B, D> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        if T == 1 {
            // SAFETY: the caller has the variant's features.
            return unsafe { Rows::<Four<B, D>, LANES>::multiply(weights, xs, out) };
        }
        let xs = xs.map(|x| &x.q8_0);
        let blocks = count_blocks(xs, BLOCK, BLOCK);
        let (rows, block_bytes) = (out.len() / T, B::FORMAT.block_bytes());
        assert!(weights.len() >= rows * blocks * block_bytes);
        for first in (0..rows).step_by(ROWS) {
            let mut products = [[0f32; ROWS]; T];
            // SAFETY: the asserts above keep every access inside its slice: a row of weights has
            // `blocks` blocks of `block_bytes` bytes, an activation row as many of `BLOCK` quants.
            // Lanes without a row repeat the last one. The caller has the variant's features.
            unsafe {
                let starts: [*const u8; ROWS] = core::array::from_fn(|i| {
                    let row = (first + i).min(rows - 1);
                    weights.as_ptr().add(row * blocks * block_bytes)
                });
                let mut totals = [[vdupq_n_f32(0.0); 2]; PAIRS];
                for b in 0..blocks {
                    let pairs = Pair::load_all(&xs, b);
                    add_rows::<B, T>(&mut totals, &starts, b * block_bytes, &pairs);
                }
                for (t, products) in products.iter_mut().enumerate() {
                    vst1q_f32(products.as_mut_ptr(), by_token(totals[t / 2])[t % 2]);
                }
            }
            for (t, products) in products.iter().enumerate() {
                let out = &mut out[t * rows..][first..rows.min(first + ROWS)];
                out.copy_from_slice(&products[..out.len()]);
            }
        }
    }
}

/// Adds the products of the blocks at an offset from the starts of four rows.
///
/// # Safety
/// There is a block at the offset from each start, and the processor has I8MM.
#[inline(always)]
unsafe fn add_rows<B: Block32, const T: usize>(
    totals: &mut [Totals; PAIRS],
    starts: &[*const u8; ROWS],
    offset: usize,
    pairs: &[Pair; PAIRS],
) {
    // SAFETY: the caller has the variant's features, and a block at each place.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 2]; PAIRS];
        for row in 0..2 {
            let [a, a_high] = B::weights(starts[2 * row].add(offset + SCALE));
            let [b, b_high] = B::weights(starts[2 * row + 1].add(offset + SCALE));
            let ([first, second], [third, fourth]) = (interleave(a, b), interleave(a_high, b_high));
            for (i, quants) in [first, second, third, fourth].into_iter().enumerate() {
                for p in 0..T.div_ceil(2) {
                    sums[p][row] = smmla(sums[p][row], quants, pairs[p].quants[i]);
                }
            }
        }
        let scales = widen_four(starts, offset);
        for p in 0..T.div_ceil(2) {
            add_scaled(&mut totals[p], sums[p], scales, &pairs[p]);
        }
    }
}
