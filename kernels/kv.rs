//! Keys and values as they lie in a KV cache, and how they get there.
//!
//! The cells of a KV head are rows of `head` values, one for each position of a ring. As f16 they lie
//! row after row. As Q8_0, which gives every 32 values a scale as `f16` and quants of 8 bits, the
//! scales lie apart from the quants, and both lie in the order in which attention reads them:
//!
//! - Keys by groups of 8 rows: four quants of each of the 8, then the next four, to the end of the
//!   row; scales likewise, one of each of the 8. So 8 scores grow side by side in the lanes of a
//!   vector and their sums need no folding.
//! - Values by tiles of [`KEY_TILE`] rows: the first 32 columns of every row, then the next 32;
//!   scales likewise. So the rows of a column strip lie together, and so do the scales that their
//!   weights are multiplied with.

use crate::KEY_TILE;
use crate::activation::{Block, quantize_block};
use core::ops::Range;
use half::f16;

/// Values that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Keys that lie interleaved.
pub(crate) const KEYS: usize = 8;
/// Quants of a key that lie together.
const PIECE: usize = 4;

/// Keys and values of one KV head and the positions to attend to.
///
/// Position `p` lies in row `p % rows`, so that the cells are a ring when `rows` is less than the
/// context. `rows` is a multiple of [`KEY_TILE`].
#[derive(Clone, Copy, Debug)]
pub struct KvView<'a> {
    /// The keys and values.
    pub cells: KvCells<'a>,
    /// Size of a head.
    pub head: usize,
    /// First position to attend to.
    pub from: usize,
    /// One past the last position; more than `from`, by `rows` at most.
    pub to: usize,
}

/// Keys and values of one KV head.
#[derive(Clone, Copy, Debug)]
pub enum KvCells<'a> {
    /// As f16, `rows × head` each.
    F16 {
        /// Keys.
        keys: &'a [f16],
        /// Values.
        values: &'a [f16],
    },
    /// As Q8_0; the size of a head is a multiple of 32.
    Q8_0 {
        /// Keys, stored by [`store_key_q8_0`].
        keys: Q8Cells<'a>,
        /// Values, stored by [`store_value_q8_0`].
        values: Q8Cells<'a>,
    },
}

/// Keys or values of one KV head as Q8_0.
#[derive(Clone, Copy, Debug)]
pub struct Q8Cells<'a> {
    /// Quants, `rows × head`.
    pub quants: &'a [i8],
    /// Scales, `rows × head / 32`.
    pub scales: &'a [f16],
}

/// [`Q8Cells`] while they are written.
#[derive(Debug)]
pub struct Q8CellsMut<'a> {
    /// Quants, `rows × head`.
    pub quants: &'a mut [i8],
    /// Scales, `rows × head / 32`.
    pub scales: &'a mut [f16],
}

/// Some positions of a tile.
#[derive(Clone, Debug)]
pub(crate) struct TilePart {
    /// The row of the ring in which the tile begins.
    pub(crate) row: usize,
    /// The positions that are attended to, counted from the first of the tile.
    pub(crate) places: Range<usize>,
}

impl KvView<'_> {
    /// Rows of the ring.
    pub fn rows(&self) -> usize {
        match self.cells {
            KvCells::F16 { keys, .. } => keys.len() / self.head,
            KvCells::Q8_0 { keys, .. } => keys.quants.len() / self.head,
        }
    }

    /// The tiles that hold the positions to attend to, in order.
    #[inline(always)]
    pub(crate) fn tiles(&self) -> impl Iterator<Item = TilePart> {
        let (rows, from, to) = (self.rows(), self.from, self.to);
        (from / KEY_TILE..to.div_ceil(KEY_TILE)).map(move |tile| {
            let first = tile * KEY_TILE;
            let places = from.saturating_sub(first)..(to - first).min(KEY_TILE);
            TilePart { row: first % rows, places }
        })
    }
}

/// Where the quant in a column of a key lies.
#[inline(always)]
fn key_quant(row: usize, head: usize, col: usize) -> usize {
    row / KEYS * KEYS * head + col / PIECE * PIECE * KEYS + row % KEYS * PIECE + col % PIECE
}

/// Where the scale of a block of a key lies.
#[inline(always)]
fn key_scale(row: usize, head: usize, block: usize) -> usize {
    row / KEYS * KEYS * (head / BLOCK) + block * KEYS + row % KEYS
}

/// Where the first quant of a block of a value lies.
#[inline(always)]
fn value_quants(row: usize, head: usize, block: usize) -> usize {
    row / KEY_TILE * KEY_TILE * head + (block * KEY_TILE + row % KEY_TILE) * BLOCK
}

/// Where the scale of a block of a value lies.
#[inline(always)]
fn value_scale(row: usize, head: usize, block: usize) -> usize {
    row / KEY_TILE * KEY_TILE * (head / BLOCK) + block * KEY_TILE + row % KEY_TILE
}

impl Q8Cells<'_> {
    /// The value in a column of a row of keys.
    pub fn key(&self, head: usize, row: usize, col: usize) -> f32 {
        let scale = self.scales[key_scale(row, head, col / BLOCK)].to_f32();
        scale * f32::from(self.quants[key_quant(row, head, col)])
    }

    /// The value in a column of a row of values.
    pub fn value(&self, head: usize, row: usize, col: usize) -> f32 {
        let scale = self.scales[value_scale(row, head, col / BLOCK)].to_f32();
        scale * f32::from(self.quants[value_quants(row, head, col / BLOCK) + col % BLOCK])
    }

    /// Quants and scales of the 8 keys from a row on, block after block.
    #[inline(always)]
    pub(crate) fn keys(
        &self,
        head: usize,
        row: usize,
    ) -> impl Iterator<Item = (&[i8; KEYS * BLOCK], &[f16; KEYS])> {
        let quants = &self.quants[row * head..][..KEYS * head];
        let scales = &self.scales[row * head / BLOCK..][..KEYS * head / BLOCK];
        quants.as_chunks().0.iter().zip(scales.as_chunks().0)
    }

    /// Quants and scales of the tile of values from a row on, block after block.
    #[inline(always)]
    pub(crate) fn values(
        &self,
        head: usize,
        row: usize,
    ) -> impl Iterator<Item = (&[[i8; BLOCK]], &[f16; KEY_TILE])> {
        let quants = &self.quants[row * head..][..KEY_TILE * head];
        let scales = &self.scales[row * head / BLOCK..][..KEY_TILE * head / BLOCK];
        quants.as_chunks().0.chunks_exact(KEY_TILE).zip(scales.as_chunks().0)
    }
}

/// Stores the key of a row as Q8_0.
pub fn store_key_q8_0(cells: Q8CellsMut<'_>, row: usize, key: &[f32]) {
    let head = key.len();
    for (b, block) in key.as_chunks().0.iter().enumerate() {
        let Block { quants, scale, .. } = quantize_block(block);
        cells.scales[key_scale(row, head, b)] = f16::from_f32(scale);
        for (piece, quants) in quants.as_chunks::<PIECE>().0.iter().enumerate() {
            let place = key_quant(row, head, b * BLOCK + piece * PIECE);
            cells.quants[place..][..PIECE].copy_from_slice(quants);
        }
    }
}

/// Stores the value of a row as Q8_0.
pub fn store_value_q8_0(cells: Q8CellsMut<'_>, row: usize, value: &[f32]) {
    let head = value.len();
    for (b, block) in value.as_chunks().0.iter().enumerate() {
        let Block { quants, scale, .. } = quantize_block(block);
        cells.scales[value_scale(row, head, b)] = f16::from_f32(scale);
        cells.quants[value_quants(row, head, b)..][..BLOCK].copy_from_slice(&quants);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Every row lies in a place of its own and comes back within half a step.
    #[test]
    fn rows_come_back() {
        let (rows, head) = (2 * KEY_TILE, 96);
        let value = |row: usize, col: usize| {
            (((row * head + col) * 7919 % 2003) as f32 - 1001.0) * (row + 1) as f32
        };
        let (mut quants, mut scales) = (vec![99; rows * head], vec![f16::NAN; rows * head / BLOCK]);
        for is_key in [true, false] {
            for row in 0..rows {
                let values: Vec<f32> = (0..head).map(|col| value(row, col)).collect();
                let cells = Q8CellsMut { quants: &mut quants, scales: &mut scales };
                let store = if is_key { store_key_q8_0 } else { store_value_q8_0 };
                store(cells, row, &values);
            }
            let cells = Q8Cells { quants: &quants, scales: &scales };
            let read = if is_key { Q8Cells::key } else { Q8Cells::value };
            for (row, col) in (0..rows).flat_map(|row| (0..head).map(move |col| (row, col))) {
                // Half a step, and the rounding of the scale to f16.
                let step = 1001.0 * (row + 1) as f32 / 127.0;
                let difference = (read(&cells, head, row, col) - value(row, col)).abs();
                assert!(difference <= step * (0.5 + 127.0 / 2048.0), "row {row}, column {col}");
            }
        }
    }
}
