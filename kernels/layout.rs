//! Arrangements of Q4_0 matrices that suit vector units.
//!
//! GGUF stores a matrix row by row, each row in blocks of a scale and 32 quants. The other
//! arrangements hold the same bytes and nibbles in another order, so they take the same room, lose
//! nothing and can be undone.

use crate::Format;
use core::fmt;

/// Rows in a group of [`Layout::Grouped`].
pub const GROUP: usize = 8;
/// Weights in a block of Q4_0.
pub(crate) const BLOCK: usize = 32;
/// Bytes of a block of Q4_0: its scale and its quants.
pub(crate) const BLOCK_BYTES: usize = SCALE + QUANTS;
/// Bytes of its scale.
pub(crate) const SCALE: usize = 2;
const QUANTS: usize = 16;
/// Bytes of one block of each row of a group.
pub(crate) const GROUP_BLOCK: usize = GROUP * BLOCK_BYTES;

/// How the weights of a matrix are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Row by row, as in GGUF. For every format; the others are for Q4_0.
    Rows,
    /// Groups of 8 rows. For each block in turn: 8 scales, then the quants, 4 bytes of each row
    /// side by side. Made for products with all rows, a row in each lane.
    Grouped,
    /// Row by row, in each row first the scales, then the quants. Made for products with some
    /// rows.
    Split,
    /// Column by column. For each 32 columns in turn: their scales, one for each row, then for
    /// each column its quants, 16 bytes for 32 rows (the low nibbles are the first 16). Made for
    /// products with vectors that are mostly zero: the columns that meet a zero are not read.
    Columns,
}

impl Layout {
    /// All of them.
    const ALL: [Layout; 4] = [Layout::Rows, Layout::Grouped, Layout::Split, Layout::Columns];

    /// Whether a matrix can be arranged so.
    pub const fn fits(self, format: Format, rows: usize, cols: usize) -> bool {
        let q4_0 = matches!(format, Format::Q4_0) && cols.is_multiple_of(BLOCK);
        match self {
            Layout::Rows => true,
            Layout::Grouped => q4_0 && rows.is_multiple_of(GROUP),
            Layout::Split => q4_0,
            Layout::Columns => q4_0 && rows.is_multiple_of(BLOCK),
        }
    }

    /// The name in figures and in packed files.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::Rows => "rows",
            Layout::Grouped => "grouped",
            Layout::Split => "split",
            Layout::Columns => "columns",
        }
    }

    /// The layout of this name.
    pub fn from_name(name: &str) -> Option<Layout> {
        Layout::ALL.into_iter().find(|layout| layout.name() == name)
    }

    /// Rows that must be arranged together.
    pub const fn unit_rows(self, rows: usize) -> usize {
        match self {
            Layout::Rows | Layout::Split => 1,
            Layout::Grouped => GROUP,
            Layout::Columns => rows,
        }
    }

    /// Arranges a Q4_0 matrix of `cols` columns that is stored row by row.
    ///
    /// # Panics
    /// If the layout does not fit the matrix, or the slices differ in length.
    pub fn arrange(self, cols: usize, source: &[u8], target: &mut [u8]) {
        self.check(cols, source, target);
        match self {
            Layout::Rows => target.copy_from_slice(source),
            Layout::Grouped => group(cols, source, target),
            Layout::Split => split(cols, source, target),
            Layout::Columns => to_columns(cols, source, target),
        }
    }

    /// Undoes [`Layout::arrange`].
    ///
    /// # Panics
    /// If the layout does not fit the matrix, or the slices differ in length.
    pub fn restore(self, cols: usize, source: &[u8], target: &mut [u8]) {
        self.check(cols, source, target);
        let row_bytes = cols / BLOCK * BLOCK_BYTES;
        for (row, target) in target.chunks_exact_mut(row_bytes).enumerate() {
            for (block, target) in target.chunks_exact_mut(BLOCK_BYTES).enumerate() {
                target.copy_from_slice(&self.block(cols, source, row, block));
            }
        }
    }

    fn check(self, cols: usize, source: &[u8], target: &[u8]) {
        let row_bytes = cols / BLOCK * BLOCK_BYTES;
        let rows = source.len() / row_bytes;
        let whole = source.len() == target.len() && source.len() == rows * row_bytes;
        assert!(
            whole && self.fits(Format::Q4_0, rows, cols),
            "{} bytes as {self} of {cols} columns into {}",
            source.len(),
            target.len()
        );
    }

    /// A block of a row of a Q4_0 matrix of `cols` columns, as GGUF stores it.
    pub fn block(self, cols: usize, bytes: &[u8], row: usize, block: usize) -> [u8; BLOCK_BYTES] {
        let blocks = cols / BLOCK;
        let row_bytes = blocks * BLOCK_BYTES;
        let mut out = [0; BLOCK_BYTES];
        let (scale, quants) = out.split_at_mut(SCALE);
        match self {
            Layout::Rows => {
                let stored = &bytes[row * row_bytes + block * BLOCK_BYTES..];
                scale.copy_from_slice(&stored[..SCALE]);
                quants.copy_from_slice(&stored[SCALE..][..QUANTS]);
            }
            Layout::Grouped => {
                let group = &bytes[row / GROUP * GROUP * row_bytes..][block * GROUP_BLOCK..];
                let (scales, rest) = group.split_at(GROUP * SCALE);
                scale.copy_from_slice(&scales[row % GROUP * SCALE..][..SCALE]);
                for (i, quants) in quants.chunks_exact_mut(4).enumerate() {
                    quants.copy_from_slice(&rest[(i * GROUP + row % GROUP) * 4..][..4]);
                }
            }
            Layout::Split => {
                let (scales, rest) = bytes[row * row_bytes..].split_at(blocks * SCALE);
                scale.copy_from_slice(&scales[block * SCALE..][..SCALE]);
                quants.copy_from_slice(&rest[block * QUANTS..][..QUANTS]);
            }
            Layout::Columns => {
                let rows = bytes.len() / row_bytes;
                let (scales, columns) = bytes[block * rows * BLOCK_BYTES..][..rows * BLOCK_BYTES]
                    .split_at(rows * SCALE);
                scale.copy_from_slice(&scales[row * SCALE..][..SCALE]);
                let shift = row % BLOCK / 16 * 4;
                let byte = row / BLOCK * QUANTS + row % 16;
                let nibble = |column: usize| columns[column * rows / 2 + byte] >> shift & 15;
                for (i, quants) in quants.iter_mut().enumerate() {
                    *quants = nibble(i) | nibble(i + 16) << 4;
                }
            }
        }
        out
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn group(cols: usize, source: &[u8], target: &mut [u8]) {
    let row_bytes = cols / BLOCK * BLOCK_BYTES;
    let groups = source.chunks_exact(GROUP * row_bytes);
    for (rows, group) in groups.zip(target.chunks_exact_mut(GROUP * row_bytes)) {
        for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
            let blocks = row.as_chunks::<BLOCK_BYTES>().0.iter();
            for (block, out) in blocks.zip(group.as_chunks_mut::<GROUP_BLOCK>().0) {
                out[r * SCALE..][..SCALE].copy_from_slice(&block[..SCALE]);
                for i in 0..4 {
                    let to = GROUP * SCALE + (i * GROUP + r) * 4;
                    out[to..to + 4].copy_from_slice(&block[SCALE + i * 4..][..4]);
                }
            }
        }
    }
}

fn split(cols: usize, source: &[u8], target: &mut [u8]) {
    let blocks = cols / BLOCK;
    let row_bytes = blocks * BLOCK_BYTES;
    for (row, out) in source.chunks_exact(row_bytes).zip(target.chunks_exact_mut(row_bytes)) {
        let (scales, quants) = out.split_at_mut(blocks * SCALE);
        let targets = scales.as_chunks_mut::<SCALE>().0.iter_mut().zip(quants.as_chunks_mut().0);
        for (block, (scale, quants)) in row.as_chunks::<BLOCK_BYTES>().0.iter().zip(targets) {
            scale.copy_from_slice(&block[..SCALE]);
            *quants = *block[SCALE..].as_array::<QUANTS>().expect("a block has 16 bytes of quants");
        }
    }
}

/// Rows whose quants fill a cache line of each column.
const LINE: usize = 128;

fn to_columns(cols: usize, source: &[u8], target: &mut [u8]) {
    let row_bytes = cols / BLOCK * BLOCK_BYTES;
    let rows = source.len() / row_bytes;
    for (line, source) in source.chunks(LINE * row_bytes).enumerate() {
        for (b, target) in target.chunks_exact_mut(rows * BLOCK_BYTES).enumerate() {
            let (scales, columns) = target.split_at_mut(rows * SCALE);
            for (run, source) in source.chunks_exact(BLOCK * row_bytes).enumerate() {
                let run = line * (LINE / BLOCK) + run;
                let scales = scales.as_chunks_mut::<SCALE>().0[run * BLOCK..].iter_mut();
                let mut quants = [[0; QUANTS]; BLOCK];
                let places = quants.iter_mut().zip(scales);
                for (row, (quants, scale)) in source.chunks_exact(row_bytes).zip(places) {
                    let block = &row.as_chunks::<BLOCK_BYTES>().0[b];
                    scale.copy_from_slice(&block[..SCALE]);
                    quants.copy_from_slice(&block[SCALE..]);
                }
                for (column, quants) in transpose_quants(&quants).iter().enumerate() {
                    columns[column * rows / 2 + run * QUANTS..][..QUANTS].copy_from_slice(quants);
                }
            }
        }
    }
}

/// From the quants of a block of 32 rows those of 32 columns, as [`Layout::Columns`] has them.
fn transpose_quants(rows: &[[u8; QUANTS]; BLOCK]) -> [[u8; QUANTS]; BLOCK] {
    const LOW: u64 = 0x0F0F_0F0F_0F0F_0F0F;
    let mut columns = [[0; QUANTS]; BLOCK];
    for half in 0..2 {
        // Eight bytes of each row; row `8 i + r` is lane `i` of word `r`.
        let mut words = [[0; 4]; 8];
        for (r, row) in rows.iter().enumerate() {
            words[r % 8][r / 8] = u64::from_le_bytes(row.as_chunks().0[half]);
        }
        transpose(&mut words);
        for (i, [a, b, c, d]) in words.iter().enumerate() {
            let low = [a & LOW | (c & LOW) << 4, b & LOW | (d & LOW) << 4];
            let high = [a >> 4 & LOW | c & !LOW, b >> 4 & LOW | d & !LOW];
            for (column, words) in [(half * 8 + i, low), (half * 8 + i + 16, high)] {
                columns[column].copy_from_slice(words.map(u64::to_le_bytes).as_flattened());
            }
        }
    }
    columns
}

/// In each lane, byte `r` of word `i` becomes byte `i` of word `r`.
fn transpose(words: &mut [[u64; 4]; 8]) {
    exchange::<4>(words, 0x0000_0000_FFFF_FFFF);
    exchange::<2>(words, 0x0000_FFFF_0000_FFFF);
    exchange::<1>(words, 0x00FF_00FF_00FF_00FF);
}

/// Exchanges upper bytes of words with the lower ones, under `mask`, of words that stand `N` further.
fn exchange<const N: usize>(words: &mut [[u64; 4]; 8], mask: u64) {
    for i in 0..4 {
        let i = i / N * 2 * N + i % N;
        let (mut upper, mut lower) = (words[i], words[i + N]);
        for (upper, lower) in upper.iter_mut().zip(&mut lower) {
            let change = (*upper >> (8 * N) ^ *lower) & mask;
            *upper ^= change << (8 * N);
            *lower ^= change;
        }
        (words[i], words[i + N]) = (upper, lower);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    proptest! {
        /// Every layout gives the same blocks and can be undone.
        #[test]
        fn nothing_is_lost(row_groups in 1usize..10, blocks in 1usize..5, seed in any::<u32>()) {
            let (rows, cols) = (row_groups * 32, blocks * BLOCK);
            let mut state = seed;
            let mut byte = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            let source: Vec<u8> = (0..rows * blocks * BLOCK_BYTES).map(|_| byte()).collect();
            for layout in Layout::ALL {
                let mut arranged = vec![0; source.len()];
                layout.arrange(cols, &source, &mut arranged);
                for (i, block) in source.as_chunks::<BLOCK_BYTES>().0.iter().enumerate() {
                    prop_assert_eq!(&layout.block(cols, &arranged, i / blocks, i % blocks), block);
                }
                let mut restored = vec![0; source.len()];
                layout.restore(cols, &arranged, &mut restored);
                prop_assert!(restored == source, "{}", layout);
                prop_assert_eq!(Layout::from_name(layout.name()), Some(layout));
            }
        }
    }

    #[test]
    fn only_whole_units_fit() {
        assert!(Layout::Rows.fits(Format::Q6_K, 7, 256));
        assert!(!Layout::Split.fits(Format::Q8_0, 8, 64));
        assert!(
            Layout::Grouped.fits(Format::Q4_0, 16, 64)
                && !Layout::Grouped.fits(Format::Q4_0, 12, 64)
        );
        assert!(
            Layout::Columns.fits(Format::Q4_0, 96, 32)
                && !Layout::Columns.fits(Format::Q4_0, 40, 32)
        );
    }

    #[test]
    #[should_panic(expected = "as grouped of 32 columns")]
    fn a_layout_that_does_not_fit_is_refused() {
        Layout::Grouped.arrange(32, &[0; 18 * 7], &mut [0; 18 * 7]);
    }
}
