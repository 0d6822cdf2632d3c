//! A tensor of a file to be written, and what it is made of.

use crate::ordered::{break_off, write_in_order};
use crate::round::round_row;
use crate::{Entry, Error, Tensor, Writer};
use std::borrow::Cow;
use std::ops::{ControlFlow, Range};
use wick_core::Parallel;
use wick_kernels::{Format, scalar};

/// Bytes of a tensor that are copied at a time.
const PIECE: usize = 1 << 20;
/// Weights that a thread rounds at a time, about.
const CHUNK: usize = 1 << 19;

/// A tensor to be written: one matrix, or several one after the other, each of which lies somewhere in the input.
#[derive(Debug)]
pub(crate) struct NewTensor<'m> {
    entry: Entry,
    matrices: Vec<Source<'m>>,
    /// What becomes of weights; they are copied without.
    rounding: Option<Rounding>,
}

/// A matrix of the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'m> {
    pub(crate) format: Format,
    pub(crate) bytes: &'m [u8],
}

/// How rows of weights are rounded.
#[derive(Debug)]
struct Rounding {
    to: Format,
    cols: usize,
    /// What the error of each weight of a row counts, for each matrix, or for all alike.
    importance: Option<Vec<f32>>,
}

/// Rows of one of a tensor's matrices.
#[derive(Clone, Debug)]
struct Rows {
    matrix: usize,
    rows: Range<usize>,
}

impl<'m> NewTensor<'m> {
    /// A tensor of another file as it is; `None` if its size is not known.
    pub(crate) fn kept(tensor: &wick_format::Tensor<'m>) -> Option<NewTensor<'m>> {
        let bytes = tensor.bytes()?;
        let entry = Entry {
            name: tensor.name().into(),
            dims: tensor.dims().as_slice().into(),
            number: tensor.number(),
            bytes: bytes.len() as u64,
        };
        // How it is stored makes no difference where it is copied.
        let format = tensor.format().unwrap_or(Format::F32);
        Some(NewTensor { entry, matrices: vec![Source { format, bytes }], rounding: None })
    }

    /// A tensor with the weights of `matrices`, which are as many as its dimensions say, in its own format. All are
    /// checked to be finite. `importance` has a row for each matrix, or one for all.
    ///
    /// # Errors
    /// A row is no whole number of blocks.
    pub(crate) fn rounded(
        tensor: &Tensor,
        matrices: Vec<Source<'m>>,
        importance: Option<Vec<f32>>,
    ) -> Result<NewTensor<'m>, Error> {
        let rounding = Rounding { to: tensor.format, cols: tensor.cols(), importance };
        Ok(NewTensor { entry: tensor.entry()?, matrices, rounding: Some(rounding) })
    }

    /// The same, read and rounded in rows of so many weights, which divide those of its first dimension and of all of its
    /// matrices.
    pub(crate) fn with_cols(mut self, cols: usize) -> NewTensor<'m> {
        self.rounding = self.rounding.map(|rounding| Rounding { cols, ..rounding });
        self
    }

    /// What the table says of it.
    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its format, if it is one that wick computes with.
    pub(crate) fn format(&self) -> Option<Format> {
        Format::from_ggml(self.entry.number)
    }

    /// Bytes of weights that it is made of.
    pub(crate) fn source_bytes(&self) -> u64 {
        self.matrices.iter().map(|matrix| matrix.bytes.len() as u64).sum()
    }

    /// A format in blocks whose weights are rounded to blocks again, if there is one.
    pub(crate) fn rounded_twice(&self) -> Option<Format> {
        self.rounding.as_ref().filter(|rounding| rounding.to.block_len() > 1)?;
        self.matrices.iter().map(|matrix| matrix.format).find(|from| from.block_len() > 1)
    }

    /// Some of its bytes, whole rows where they are rounded.
    ///
    /// # Errors
    /// A weight is no number, or too large for the format.
    pub(crate) fn bytes(&self, range: Range<usize>) -> Result<Cow<'m, [u8]>, Error> {
        let Some(rounding) = &self.rounding else {
            return Ok(Cow::Borrowed(&self.matrices[0].bytes[range]));
        };
        let mut out = Vec::with_capacity(range.len());
        for rows in self.rows_of(rounding, range) {
            self.round(rounding, &rows, &mut out)?;
        }
        Ok(Cow::Owned(out))
    }

    /// The bytes of the input that these bytes of the tensor are made of, whole rows where they are rounded.
    pub(crate) fn sources(&self, range: Range<usize>) -> Vec<&'m [u8]> {
        match &self.rounding {
            None => vec![&self.matrices[0].bytes[range]],
            Some(rounding) => {
                let rows = self.rows_of(rounding, range).into_iter();
                rows.map(|rows| self.source(rounding, &rows)).collect()
            }
        }
    }

    /// Writes it: several threads round a few rows at a time.
    pub(crate) fn write(
        &self,
        writer: &mut Writer,
        parallel: &dyn Parallel,
        done: &mut impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let Some(rounding) = &self.rounding else {
            for piece in self.matrices.iter().flat_map(|matrix| matrix.bytes.chunks(PIECE)) {
                writer.write(piece)?;
                break_off(done(piece))?;
            }
            return Ok(());
        };
        let round = |rows: &Rows| {
            let mut out = Vec::new();
            self.round(rounding, rows, &mut out).map(|()| (out, ()))
        };
        let chunks = self.chunks(rounding);
        write_in_order(&chunks, parallel, writer, round, |rows, _, ()| {
            done(self.source(rounding, rows))
        })
    }

    /// All rows, in chunks that a thread rounds.
    fn chunks(&self, rounding: &Rounding) -> Vec<Rows> {
        let step = (CHUNK / rounding.cols).max(1);
        let all = 0..usize::try_from(self.entry.bytes).unwrap_or(usize::MAX);
        let of_matrix = |Rows { matrix, rows }: Rows| {
            let starts = rows.clone().step_by(step);
            starts.map(move |start| Rows { matrix, rows: start..(start + step).min(rows.end) })
        };
        self.rows_of(rounding, all).into_iter().flat_map(of_matrix).collect()
    }

    /// The rows that these bytes of the tensor are.
    fn rows_of(&self, rounding: &Rounding, range: Range<usize>) -> Vec<Rows> {
        let size = rounding.to.row_bytes(rounding.cols).expect("checked when it was planned");
        let (start, end) = (range.start / size, range.end / size);
        let mut before = 0;
        let part = |(matrix, source): (usize, &Source<'m>)| {
            let (first, count) = (before, source.rows(rounding.cols));
            before += count;
            let rows = start.saturating_sub(first).min(count)..end.saturating_sub(first).min(count);
            Rows { matrix, rows }
        };
        let all = self.matrices.iter().enumerate().map(part);
        all.filter(|part| !part.rows.is_empty()).collect()
    }

    /// What rows are made of.
    fn source(&self, rounding: &Rounding, Rows { matrix, rows }: &Rows) -> &'m [u8] {
        let source = &self.matrices[*matrix];
        let size = source.row_bytes(rounding.cols);
        &source.bytes[rows.start * size..rows.end * size]
    }

    /// Appends the bytes of rows.
    fn round(&self, rounding: &Rounding, chunk: &Rows, out: &mut Vec<u8>) -> Result<(), Error> {
        let &Rounding { to, cols, .. } = rounding;
        let (matrix, importance) = (&self.matrices[chunk.matrix], rounding.of_matrix(chunk.matrix));
        let before: usize = self.matrices[..chunk.matrix].iter().map(|m| m.rows(cols)).sum();
        let mut weights = vec![0.0; cols];
        let rows = self.source(rounding, chunk).chunks_exact(matrix.row_bytes(cols));
        for (row, bytes) in chunk.rows.clone().zip(rows) {
            scalar::dequantize(matrix.format, bytes, &mut weights);
            let place = (self.entry.name.as_str(), before + row);
            round_row(place, to, &weights, importance, out)?;
        }
        Ok(())
    }
}

impl Rounding {
    /// What the error of each weight of a row of a matrix counts.
    fn of_matrix(&self, matrix: usize) -> Option<&[f32]> {
        let all = self.importance.as_ref()?;
        let start = if all.len() == self.cols { 0 } else { matrix * self.cols };
        Some(&all[start..start + self.cols])
    }
}

impl Source<'_> {
    /// Bytes of a row of so many weights.
    fn row_bytes(&self, cols: usize) -> usize {
        self.format.row_bytes(cols).expect("whole blocks, as they were read")
    }

    /// Rows of so many weights.
    fn rows(&self, cols: usize) -> usize {
        self.bytes.len() / self.row_bytes(cols)
    }
}
