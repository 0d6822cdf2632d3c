//! The sketch of the LM head in a file that is packed for [`HeadRows::Coarse`](wick_core::HeadRows::Coarse).

use crate::dense::{pieces, write_pieces};
use crate::new_tensor::NewTensor;
use crate::{Entry, Error, Writer};
use crc32fast::Hasher;
use std::borrow::Cow;
use std::ops::ControlFlow;
use wick_core::Parallel;
use wick_format::{I8, Keys};
use wick_kernels::{Format, Layout, sketch, sketch_bytes};

/// A sketch that is to be drawn of a matrix.
pub(crate) struct Sketch {
    /// Which of the model's tensors the matrix is.
    pub(crate) number: usize,
    format: Format,
    rows: usize,
    cols: usize,
}

impl Sketch {
    /// The sketch of a matrix, of which one can be drawn.
    pub(crate) fn new(number: usize, format: Format, rows: usize, cols: usize) -> Sketch {
        Sketch { number, format, rows, cols }
    }

    /// The section that it is in the tensor table.
    pub(crate) fn entry(&self) -> Entry {
        let bytes = self.bytes(self.rows);
        let name = format!("{}{}", Keys::PREFIX, Keys::SKETCH);
        Entry { name, dims: vec![bytes], number: I8, bytes: bytes as u64 }
    }

    /// Draws and writes it, and returns its CRC-32.
    pub(crate) fn write<'m>(
        &self,
        matrix: &NewTensor<'m>,
        parallel: &dyn Parallel,
        writer: &mut Writer,
        done: &mut impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<u32, Error> {
        let whole = 0..matrix.entry().bytes as usize;
        let row = whole.len() / self.rows;
        let draw = |rows: Cow<'_, [u8]>| {
            let mut drawn = vec![0; self.bytes(rows.len() / row)];
            sketch(self.format, self.cols, &rows, &mut drawn);
            drawn
        };
        // A sketch has the groups of rows that this layout has.
        let pieces = pieces(Some(self.format), Layout::Grouped, self.cols, whole);
        let mut sum = Hasher::new();
        write_pieces(matrix, &pieces, parallel, writer, draw, &mut sum, done)?;
        Ok(sum.finalize())
    }

    /// Bytes of the sketch of so many rows.
    fn bytes(&self, rows: usize) -> usize {
        sketch_bytes(rows, self.cols).expect("whole groups of rows and blocks of columns")
    }
}
