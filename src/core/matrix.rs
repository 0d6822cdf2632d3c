//! Matrices of weights, borrowed from wherever they lie.

use core::fmt;
use wick_kernels::{Format, Layout, scalar};

/// A matrix, or a vector (one row).
#[derive(Clone, Copy)]
pub struct Matrix<'m> {
    format: Format,
    layout: Layout,
    rows: usize,
    cols: usize,
    bytes: &'m [u8],
}

impl<'m> Matrix<'m> {
    /// A matrix of `rows × cols` in `bytes`, row by row; `None` if the bytes are not exactly that
    /// many or a row is no whole number of blocks.
    pub fn new(format: Format, rows: usize, cols: usize, bytes: &'m [u8]) -> Option<Matrix<'m>> {
        Matrix::arranged(format, Layout::Rows, rows, cols, bytes)
    }

    /// A matrix of `rows × cols` in `bytes`, arranged in any way; `None` if the bytes are not
    /// exactly that many or the layout does not fit.
    pub fn arranged(
        format: Format,
        layout: Layout,
        rows: usize,
        cols: usize,
        bytes: &'m [u8],
    ) -> Option<Matrix<'m>> {
        let size = format.row_bytes(cols)?.checked_mul(rows)?;
        let fits = size == bytes.len() && layout.fits(format, rows, cols);
        fits.then_some(Matrix { format, layout, rows, cols, bytes })
    }

    /// How the weights are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How they are arranged.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All the bytes.
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// The bytes of `count` rows from `first` on, where the layout keeps them together: whole groups
    /// of [`Layout::Grouped`], any rows of [`Layout::Rows`] and [`Layout::Split`].
    pub fn row_bytes(&self, first: usize, count: usize) -> &'m [u8] {
        let row = self.bytes.len() / self.rows;
        &self.bytes[first * row..][..count * row]
    }

    /// One row as `f32`.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        if self.layout == Layout::Rows {
            return scalar::dequantize(self.format, self.row_bytes(row, 1), out);
        }
        for (i, out) in out.chunks_exact_mut(self.format.block_len()).enumerate() {
            let block = self.layout.block(self.cols, self.bytes, row, i);
            scalar::dequantize(self.format, &block, out);
        }
    }
}

impl fmt::Debug for Matrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{} ({})", self.format, self.rows, self.cols, self.layout)
    }
}

/// The same matrix of every expert of a layer.
#[derive(Clone, Copy, Debug)]
pub struct ExpertMatrices<'m> {
    format: Format,
    layout: Layout,
    count: usize,
    rows: usize,
    cols: usize,
    /// Bytes of one matrix.
    size: usize,
    /// Bytes from the start of one matrix to the next.
    stride: usize,
    bytes: &'m [u8],
}

impl<'m> ExpertMatrices<'m> {
    /// `count` matrices of `rows × cols`, one after another and row by row; `None` under the
    /// conditions of [`Matrix::new`].
    pub fn new(
        format: Format,
        count: usize,
        rows: usize,
        cols: usize,
        bytes: &'m [u8],
    ) -> Option<ExpertMatrices<'m>> {
        let size = format.row_bytes(cols)?.checked_mul(rows)?;
        let layout = Layout::Rows;
        let fits = size.checked_mul(count)? == bytes.len() && count > 0;
        let stride = size;
        fits.then_some(ExpertMatrices { format, layout, count, rows, cols, size, stride, bytes })
    }

    /// The same matrices, arranged in another way in other bytes, `stride` from one to the next;
    /// `None` if the layout does not fit or the bytes are too few.
    pub fn rearranged<'a>(
        &self,
        layout: Layout,
        stride: usize,
        bytes: &'a [u8],
    ) -> Option<ExpertMatrices<'a>> {
        let ExpertMatrices { format, count, rows, cols, .. } = *self;
        ExpertMatrices::elsewhere(format, layout, count, rows, cols)?.placed(stride, bytes)
    }

    /// `count` matrices of `rows × cols`, arranged in any way, that are not in memory; `None` if the
    /// layout does not fit. They tell shapes, formats and sizes to an engine that reads experts
    /// through a store.
    pub fn elsewhere(
        format: Format,
        layout: Layout,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Option<ExpertMatrices<'m>> {
        let size = format.row_bytes(cols)?.checked_mul(rows)?;
        let fits =
            layout.fits(format, rows, cols) && count > 0 && size.checked_mul(count).is_some();
        let (stride, bytes) = (size, &[][..]);
        fits.then_some(ExpertMatrices { format, layout, count, rows, cols, size, stride, bytes })
    }

    /// The same matrices in `bytes`, `stride` from one to the next; `None` if the bytes are too few
    /// or the matrices overlap.
    pub fn placed<'a>(&self, stride: usize, bytes: &'a [u8]) -> Option<ExpertMatrices<'a>> {
        let needed = stride.checked_mul(self.count - 1)?.checked_add(self.size)?;
        let fits = stride >= self.size && bytes.len() >= needed;
        fits.then_some(ExpertMatrices { stride, bytes, ..*self })
    }

    /// The matrix of an expert that lies elsewhere, arranged in any way; `None` if the bytes are not
    /// exactly those of one or the layout does not fit.
    pub fn lend<'a>(&self, layout: Layout, bytes: &'a [u8]) -> Option<Matrix<'a>> {
        Matrix::arranged(self.format, layout, self.rows, self.cols, bytes)
    }

    /// The layout, if matrices that stand row by row can be arranged so.
    pub(crate) fn fitting(&self, layout: Layout) -> Option<Layout> {
        let fits = layout.fits(self.format, self.rows, self.cols);
        (fits && self.layout == Layout::Rows).then_some(layout)
    }

    /// How the weights are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How they are arranged.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of experts.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Rows of a matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of a matrix.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of all matrices.
    pub fn size(&self) -> usize {
        self.size * self.count
    }

    /// Bytes of one matrix.
    pub fn matrix_bytes(&self) -> usize {
        self.size
    }

    /// The matrix of one expert.
    ///
    /// # Panics
    /// If there is no such expert, or the matrices are not in memory.
    pub fn expert(&self, expert: usize) -> Matrix<'m> {
        let ExpertMatrices { format, layout, rows, cols, .. } = *self;
        let bytes = &self.bytes[expert * self.stride..][..self.size];
        Matrix { format, layout, rows, cols, bytes }
    }
}

/// The experts' way down, in either orientation that files have.
#[derive(Clone, Copy, Debug)]
pub enum Down<'m> {
    /// `hidden` rows of `expert_width`: a row gives one output (llama.cpp). Arranged by
    /// [`Layout::Columns`], what silent neurons would add is not read.
    Outputs(ExpertMatrices<'m>),
    /// `expert_width` rows of `hidden`: a row is what one neuron adds to all outputs (PowerInfer).
    Neurons(ExpertMatrices<'m>),
}

impl<'m> Down<'m> {
    /// The matrices, whatever their orientation.
    pub fn matrices(&self) -> &ExpertMatrices<'m> {
        match self {
            Down::Outputs(m) | Down::Neurons(m) => m,
        }
    }

    pub(crate) fn matrices_mut(&mut self) -> &mut ExpertMatrices<'m> {
        match self {
            Down::Outputs(m) | Down::Neurons(m) => m,
        }
    }
}
