//! Likely upper bounds of products from the [`sketch`](crate::sketch()) of a matrix, a row in each lane.

use super::plain::Widen;
use crate::Activation;
use crate::activation::count_blocks;
use crate::lanes::Lanes;
use crate::layout::{BLOCK, GROUP};
use crate::scalar::plain::F16;
use crate::sketch::{SCALES, SKETCH_BLOCK, group};
use core::ops::Range;

/// How many groups ahead of their use bytes are asked for.
const AHEAD: usize = 4;

/// Products with the bits of a sketch, by a variant's instructions.
pub(crate) trait SketchDot {
    /// Eight singles.
    type Lanes: Lanes;

    /// 8 times the sums of the products of a block of a group with activations, less `offset`.
    ///
    /// # Safety
    /// There are the bits of a block of a group and as many activations at `x` as they have columns,
    /// and the processor has the variant's features.
    unsafe fn multiply(bits: *const u8, x: *const i8, offset: i32) -> Self::Lanes;
}

/// Likely upper bounds of the products with some rows: [`crate::BoundRows`].
///
/// # Safety
/// The processor has the features of `D`.
#[inline(always)]
pub(crate) unsafe fn bound<D: SketchDot>(
    sketch: &[u8],
    rows: Range<usize>,
    x: &Activation<'_>,
    spreads: &[f32],
    out: &mut [f32],
) where
    F16: Widen<D::Lanes>,
{
    let x = &x.q8_0;
    let blocks = count_blocks([x], BLOCK, BLOCK);
    assert!(rows.start.is_multiple_of(GROUP) && out.len() == rows.len());
    assert!(spreads.len() == blocks);
    for (row, out) in rows.step_by(GROUP).zip(out.as_chunks_mut::<GROUP>().0) {
        let group = group(blocks, sketch, row);
        // SAFETY: a group has `blocks` blocks of `SKETCH_BLOCK` bytes, as many as the
        // activations and the spreads. The caller has the features.
        unsafe {
            let (mut total, mut variance) = (D::Lanes::zero(), D::Lanes::zero());
            for b in 0..blocks {
                let block = group.as_ptr().add(b * SKETCH_BLOCK);
                // A block has a little more than a cache line.
                for line in 0..2 {
                    let ahead = AHEAD * blocks * SKETCH_BLOCK + line * 64;
                    D::Lanes::prefetch(block.wrapping_add(ahead));
                }
                // Twice `4 · bits − 6.5` is `8 · bits − 13`.
                let offset = 13 * i32::from(*x.sums.get_unchecked(b));
                let quants = x.quants.as_ptr().add(b * BLOCK);
                let twice = D::multiply(block.add(SCALES), quants, offset);
                let scales = F16::widen(block);
                let half = D::Lanes::splat(0.5 * *x.scales.get_unchecked(b));
                total = total.add_product(twice, scales.multiply(half));
                let spread = D::Lanes::splat(*spreads.get_unchecked(b));
                variance = variance.add_product(scales.multiply(scales), spread);
            }
            *out = total.add_root(variance).values();
        }
    }
}
