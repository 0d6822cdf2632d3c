//! Q4_0 matrices in other arrangements than GGUF's, block by block as if they were rows.

use super::block32::{Q4_0, add_block};
use crate::layout::BLOCK;
use crate::{Activation, Layout};
use core::ops::Range;

/// `total` and the products of the given blocks of one row, in any layout.
pub(crate) fn add_blocks(
    mut total: f32,
    layout: Layout,
    weights: &[u8],
    row: usize,
    x: &Activation<'_>,
    blocks: Range<usize>,
) -> f32 {
    for i in blocks {
        let block = layout.block(x.values.len(), weights, row, i);
        total = add_block::<Q4_0>(total, &block, &x.q8_0, i);
    }
    total
}

fn dot(layout: Layout, weights: &[u8], row: usize, x: &Activation<'_>) -> f32 {
    add_blocks(0.0, layout, weights, row, x, 0..x.values.len() / BLOCK)
}

/// The product with a [`Layout::Grouped`] matrix.
pub(super) fn matmul_grouped(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
    let rows = out.len() / xs.len().max(1);
    for (i, y) in out.iter_mut().enumerate() {
        *y = dot(Layout::Grouped, weights, i % rows, &xs[i / rows]);
    }
}

/// The product with chosen rows of a [`Layout::Split`] matrix.
pub(super) fn pick_rows(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]) {
    for (y, row) in out.iter_mut().zip(rows) {
        *y = dot(Layout::Split, weights, *row as usize, x);
    }
}

/// The product with some rows of a [`Layout::Columns`] matrix.
pub(super) fn sum_columns(weights: &[u8], x: &Activation<'_>, rows: Range<usize>, out: &mut [f32]) {
    let blocks = x.q8_0.quants.as_chunks::<BLOCK>().0;
    for (y, row) in out.iter_mut().zip(rows) {
        let active = (0..blocks.len()).filter(|i| blocks[*i] != [0; BLOCK]);
        *y = active
            .fold(0.0, |total, i| add_blocks(total, Layout::Columns, weights, row, x, i..i + 1));
    }
}
