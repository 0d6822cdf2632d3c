//! Estimates of products from the [`sketch`](crate::sketch()) of a matrix.

use super::block32::half_at;
use crate::Activation;
use crate::layout::{BLOCK, GROUP, SCALE};
use crate::sketch::{SKETCH_BLOCK, group, upper_bits};
use core::ops::Range;

/// Likely upper bounds of the products with some rows. Twice `4 · bits − 6.5` is `8 · bits − 13`.
pub(super) fn bound(
    sketch: &[u8],
    rows: Range<usize>,
    x: &Activation<'_>,
    spreads: &[f32],
    out: &mut [f32],
) {
    for (y, row) in out.iter_mut().zip(rows) {
        let (mut total, mut variance) = (0.0, 0.0);
        let blocks = group(spreads.len(), sketch, row).chunks_exact(SKETCH_BLOCK);
        for (i, (spread, block)) in spreads.iter().zip(blocks).enumerate() {
            let mut sum = 0;
            for (j, quant) in x.q8_0.quants[i * BLOCK..][..BLOCK].iter().enumerate() {
                sum += i32::from(upper_bits(block, row, j)) * i32::from(*quant);
            }
            let scale = half_at(block, row % GROUP * SCALE);
            let twice = 8 * sum - 13 * i32::from(x.q8_0.sums[i]);
            total += twice as f32 * (scale * (0.5 * x.q8_0.scales[i]));
            variance += scale * scale * spread;
        }
        *y = total + libm::sqrtf(variance);
    }
}
