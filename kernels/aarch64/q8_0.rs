//! Products with Q8_0 matrices as they lie in a file.
//!
//! Within a row, blocks are scaled and added one after another, as the scalar kernels do, so results
//! are the same bits.

use super::dot::Dot;
use super::widen;
use crate::tokens::Product;
use crate::{Activation, Format};
use core::arch::aarch64::*;
use core::marker::PhantomData;

const BLOCK: usize = Format::Q8_0.block_len();
const BLOCK_BYTES: usize = Format::Q8_0.block_bytes();

/// Rows side by side: one in each lane.
const ROWS: usize = 4;

/// The product with bytes multiplied by `D`.
pub(super) struct Q8_0<D>(PhantomData<D>);

impl<D: Dot> Product for Q8_0<D> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        let xs = xs.map(|x| &x.q8_0);
        let blocks = xs[0].scales.len();
        let rows = out.len() / T;
        for x in xs {
            assert!(x.scales.len() == blocks && x.quants.len() == blocks * BLOCK);
        }
        assert!(weights.len() >= rows * blocks * BLOCK_BYTES);
        for first in (0..rows).step_by(ROWS) {
            let mut totals = [[0f32; ROWS]; T];
            // SAFETY: the asserts above keep every access inside its slice: a row of weights has
            // `blocks` blocks of `BLOCK_BYTES` bytes, an activation row as many of `BLOCK` quants.
            // Lanes without a row repeat the last one. The caller has the variant's features.
            unsafe {
                let starts: [*const u8; ROWS] = core::array::from_fn(|i| {
                    let row = (first + i).min(rows - 1);
                    weights.as_ptr().add(row * blocks * BLOCK_BYTES)
                });
                let mut sums = [vdupq_n_f32(0.0); T];
                for b in 0..blocks {
                    let offset = b * BLOCK_BYTES;
                    let scales = widen_four(&starts, offset);
                    for (sum, x) in sums.iter_mut().zip(xs) {
                        let quants = load(x.quants.as_ptr().add(b * BLOCK));
                        let mut products = [vdupq_n_s32(0); ROWS];
                        for (product, start) in products.iter_mut().zip(starts) {
                            let weights = load(start.add(offset + 2).cast());
                            *product = D::signed(weights, quants);
                        }
                        let [i, j, k, l] = products;
                        let product = vpaddq_s32(vpaddq_s32(i, j), vpaddq_s32(k, l));
                        let scale = vmulq_n_f32(scales, *x.scales.get_unchecked(b));
                        *sum = vaddq_f32(*sum, vmulq_f32(vcvtq_f32_s32(product), scale));
                    }
                }
                for (total, sum) in totals.iter_mut().zip(sums) {
                    vst1q_f32(total.as_mut_ptr(), sum);
                }
            }
            for (t, total) in totals.iter().enumerate() {
                let out = &mut out[t * rows..][first..rows.min(first + ROWS)];
                out.copy_from_slice(&total[..out.len()]);
            }
        }
    }
}

/// The half-precision numbers at an offset from four places.
#[inline(always)]
pub(super) unsafe fn widen_four(starts: &[*const u8; 4], offset: usize) -> float32x4_t {
    // SAFETY: the caller has two bytes at each place.
    unsafe {
        let half = |i: usize| starts[i].add(offset).cast::<u16>();
        let halves = vld1q_dup_u16(half(0));
        let halves = vld1q_lane_u16::<1>(half(1), halves);
        let halves = vld1q_lane_u16::<2>(half(2), halves);
        widen(vld1q_lane_u16::<3>(half(3), halves)).0
    }
}

/// The quants of a block.
#[inline(always)]
unsafe fn load(quants: *const i8) -> [int8x16_t; 2] {
    // SAFETY: the caller has the block.
    unsafe { [vld1q_s8(quants), vld1q_s8(quants.add(16))] }
}
