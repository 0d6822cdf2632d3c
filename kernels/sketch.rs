//! Sketches of matrices: the upper two bits of their weights, from which products are estimated.
//!
//! A sketch stands in groups of 8 rows. For each block of 32 columns in turn it has the scale of each row,
//! then twice 4 bytes of each row side by side: bits `2 s` of byte `c` of the `i`-th 4 bytes belong to
//! column `16 i + 4 s + c`. A weight is about `scale · (4 · bits − 6.5)`, the mean of the four quants of
//! Q4_0 with these upper bits.

use crate::Format;
use crate::layout::{BLOCK, GROUP, SCALE};
use crate::scalar::expand::dequantize;
use half::f16;

/// Bytes of the scales of a block of a group.
pub(crate) const SCALES: usize = GROUP * SCALE;
/// Bytes of a block of a group.
pub(crate) const SKETCH_BLOCK: usize = SCALES + GROUP * BLOCK / 4;

/// Bytes of the sketch of a matrix; `None` if rows or columns are no whole number of groups and blocks.
pub fn sketch_bytes(rows: usize, cols: usize) -> Option<usize> {
    let whole = rows.is_multiple_of(GROUP) && cols.is_multiple_of(BLOCK);
    whole.then_some(rows / GROUP * (cols / BLOCK) * SKETCH_BLOCK)
}

/// The `blocks` blocks of the group that a row of a sketch is in.
#[inline(always)]
pub(crate) fn group(blocks: usize, sketch: &[u8], row: usize) -> &[u8] {
    let bytes = blocks * SKETCH_BLOCK;
    &sketch[row / GROUP * bytes..][..bytes]
}

/// The two bits of a row and a column of a block.
pub(crate) fn upper_bits(block: &[u8], row: usize, column: usize) -> u8 {
    block[SCALES + byte(row, column)] >> shift(column) & 3
}

/// The byte after the scales in which the bits of a row and a column lie.
fn byte(row: usize, column: usize) -> usize {
    (column / 16 * GROUP + row % GROUP) * 4 + column % 4
}

/// Their place in the byte.
fn shift(column: usize) -> usize {
    column % 16 / 4 * 2
}

/// Draws the sketch of whole groups of rows of a matrix of any format: the upper bits that its weights
/// would have in Q4_0.
///
/// # Panics
/// If the slices are not those of as many whole groups.
pub fn sketch(format: Format, cols: usize, source: &[u8], target: &mut [u8]) {
    let row_bytes = format.row_bytes(cols).expect("a row is a whole number of blocks");
    let rows = source.len() / row_bytes;
    assert!(source.len() == rows * row_bytes && sketch_bytes(rows, cols) == Some(target.len()));
    let mut room = [0f32; 256];
    let values = &mut room[..format.block_len().max(BLOCK)];
    let piece = format.row_bytes(values.len()).expect("a whole number of blocks");
    let groups = target.chunks_exact_mut(cols / BLOCK * SKETCH_BLOCK);
    for (rows, group) in source.chunks_exact(GROUP * row_bytes).zip(groups) {
        group.fill(0);
        for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
            let mut blocks = group.chunks_exact_mut(SKETCH_BLOCK);
            for bytes in row.chunks_exact(piece) {
                dequantize(format, bytes, values);
                for values in values.as_chunks::<BLOCK>().0 {
                    add_row(r, values, blocks.next().expect("as many blocks as columns have"));
                }
            }
        }
    }
}

/// Adds row `r` to a block of its group.
fn add_row(r: usize, values: &[f32; BLOCK], block: &mut [u8]) {
    // What is no number is larger than any: the row is then never left out.
    let larger = |a: f32, b: &f32| if a.is_nan() || b.abs() <= a.abs() { a } else { *b };
    let scale = f16::from_f32(values.iter().fold(0.0, larger) / -8.0);
    let inverse = if scale == f16::ZERO { 0.0 } else { 1.0 / scale.to_f32() };
    block[r * SCALE..][..SCALE].copy_from_slice(&scale.to_le_bytes());
    for (column, value) in values.iter().enumerate() {
        let bits = ((value * inverse + 8.5) as u8).min(15) >> 2;
        block[SCALES + byte(r, column)] |= bits << shift(column);
    }
}
