//! Low-bit copies of Q4_0 matrices: the same blocks with quants of two bits.
//!
//! A copy of a block is a Q4_0 block whose quants are 5, 7, 9 and 11, so that its weights are −3, −1, 1
//! and 3 times its own scale; two bits tell which. Copies stand in the order of the matrix that they
//! stand for, however that is arranged: scales as they are, and a byte for each two bytes of quants.
//! They take 10 bytes where the matrix takes 18, and become one again without another kernel.

use crate::Layout;
use crate::layout::{BLOCK, BLOCK_BYTES, GROUP, SCALE};

/// The quants that a copy can have.
pub const LOW_QUANTS: [u8; 4] = [5, 7, 9, 11];

/// Bytes of the low-bit copy of a block.
const LOW_BYTES: usize = 10;

/// Two bytes of quants for each byte of a copy.
static PAIRS: [[u8; 2]; 256] = pairs();

/// Bytes of the low-bit copy of a Q4_0 matrix of `bytes` bytes.
pub const fn low_bit_bytes(bytes: usize) -> usize {
    bytes / BLOCK_BYTES * LOW_BYTES
}

impl Layout {
    /// Writes the low-bit copy of an arranged Q4_0 matrix of `cols` columns, whose quants are all
    /// [`LOW_QUANTS`]; others are rounded to one of them.
    ///
    /// # Panics
    /// If the slices do not fit each other or the layout.
    pub fn compress(self, cols: usize, source: &[u8], target: &mut [u8]) {
        let scales = self.scales(cols, source.len(), target.len());
        let code = |quant: u8| (quant.clamp(5, 11) - 5) / 2;
        let pair = |byte: u8| code(byte & 15) | code(byte >> 4) << 2;
        let runs = target.chunks_exact_mut(scales * LOW_BYTES / SCALE);
        for (target, source) in runs.zip(source.chunks_exact(scales * BLOCK_BYTES / SCALE)) {
            target[..scales].copy_from_slice(&source[..scales]);
            let quants = source[scales..].as_chunks::<2>().0;
            for (target, [low, high]) in target[scales..].iter_mut().zip(quants) {
                *target = pair(*low) | pair(*high) << 4;
            }
        }
    }

    /// Makes an arranged Q4_0 matrix of `cols` columns of its low-bit copy.
    ///
    /// # Panics
    /// If the slices do not fit each other or the layout.
    pub fn expand(self, cols: usize, source: &[u8], target: &mut [u8]) {
        let scales = self.scales(cols, target.len(), source.len());
        let runs = source.chunks_exact(scales * LOW_BYTES / SCALE);
        for (source, target) in runs.zip(target.chunks_exact_mut(scales * BLOCK_BYTES / SCALE)) {
            target[..scales].copy_from_slice(&source[..scales]);
            let quants = target[scales..].as_chunks_mut::<2>().0;
            for (quants, byte) in quants.iter_mut().zip(&source[scales..]) {
                *quants = PAIRS[*byte as usize];
            }
        }
    }

    /// Bytes of scales that stand side by side before their quants, in a matrix of `bytes` bytes.
    fn scales(self, cols: usize, bytes: usize, low: usize) -> usize {
        let row_bytes = cols / BLOCK * BLOCK_BYTES;
        let rows = bytes / row_bytes;
        assert!(
            self.fits(crate::Format::Q4_0, rows, cols)
                && bytes == rows * row_bytes
                && low == low_bit_bytes(bytes),
            "a copy of {low} bytes for {bytes} bytes as {self} of {cols} columns"
        );
        match self {
            Layout::Rows => SCALE,
            Layout::Grouped => GROUP * SCALE,
            Layout::Split => cols / BLOCK * SCALE,
            Layout::Columns => rows * SCALE,
        }
    }
}

const fn pairs() -> [[u8; 2]; 256] {
    let mut all = [[0; 2]; 256];
    let mut byte = 0;
    while byte < all.len() {
        let mut i = 0;
        while i < 2 {
            let low = LOW_QUANTS[(byte >> (4 * i)) & 3];
            all[byte][i] = low | LOW_QUANTS[(byte >> (4 * i + 2)) & 3] << 4;
            i += 1;
        }
        byte += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    const LAYOUTS: [Layout; 4] = [Layout::Rows, Layout::Grouped, Layout::Split, Layout::Columns];

    #[test]
    fn copies_become_matrices_again() {
        let (rows, cols) = (64, 96);
        let block = |i: usize| {
            let quant = |j: usize| LOW_QUANTS[(i * 7 + j * j) % 4];
            let mut block = [(i % 256) as u8; BLOCK_BYTES];
            (0..16).for_each(|j| block[SCALE + j] = quant(j) | quant(j + 16) << 4);
            block
        };
        let matrix: Vec<u8> = (0..rows * cols / BLOCK).flat_map(block).collect();
        for layout in LAYOUTS {
            let mut arranged = vec![0; matrix.len()];
            layout.arrange(cols, &matrix, &mut arranged);
            let mut low = vec![0; low_bit_bytes(matrix.len())];
            layout.compress(cols, &arranged, &mut low);
            let mut back = vec![0xAA; matrix.len()];
            layout.expand(cols, &low, &mut back);
            assert!(back == arranged, "{layout}");
        }
    }

    #[test]
    #[should_panic(expected = "a copy of 9 bytes for 18 bytes as rows of 32 columns")]
    fn copies_that_do_not_fit_are_refused() {
        Layout::Rows.expand(32, &[0; 9], &mut [0; 18]);
    }
}
