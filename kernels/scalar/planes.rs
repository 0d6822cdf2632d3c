//! Products with [`Layout::Planes`] matrices, exact and from the upper planes alone.

use super::arranged::add_blocks;
use super::block32::half_at;
use crate::layout::BLOCK;
use crate::{Activation, Layout};
use core::ops::Range;

/// The product with some rows.
pub(super) fn multiply(
    weights: &[u8],
    rows: Range<usize>,
    _next: usize,
    x: &Activation<'_>,
    out: &mut [f32],
) {
    let blocks = x.values.len() / BLOCK;
    for (y, row) in out.iter_mut().zip(rows) {
        *y = add_blocks(0.0, Layout::Planes, weights, row, x, 0..blocks);
    }
}

/// What the products with some rows hardly exceed. The lower two bits of a quant are taken as their
/// mean, 3/2, so that twice a quant less 8 is 8 times its upper bits less 13.
pub(super) fn bound(
    weights: &[u8],
    rows: Range<usize>,
    x: &Activation<'_>,
    spreads: &[f32],
    out: &mut [f32],
) {
    for (y, row) in out.iter_mut().zip(rows) {
        let (mut total, mut variance) = (0.0, 0.0);
        for (i, spread) in spreads.iter().enumerate() {
            let block = Layout::Planes.block(x.values.len(), weights, row, i);
            let mut sum = 0;
            for (j, quant) in x.q8_0.quants[i * BLOCK..][..BLOCK].iter().enumerate() {
                let upper = block[2 + j % 16] >> (j / 16 * 4 + 2) & 3;
                sum += i32::from(upper) * i32::from(*quant);
            }
            let scale = half_at(&block, 0);
            let twice = 8 * sum - 13 * i32::from(x.q8_0.sums[i]);
            total += twice as f32 * (scale * (0.5 * x.q8_0.scales[i]));
            variance += scale * scale * spread;
        }
        *y = total + libm::sqrtf(variance);
    }
}
