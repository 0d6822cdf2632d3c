//! Products of matrices and rows of activations, shared out among threads.
//!
//! Every value is computed by one thread in one order, whatever the batch and the number of threads,
//! so it is the same bits however it got here.

use crate::parallel::{Bands, Grid, Parallel, Serial, Tile};
use crate::scratch::Rows;
use crate::weights::Matrix;
use core::ops::Range;
use wick_kernels::{Activation, Encoding, Format, Kernels, Layout, MatMul};

/// Rows of a matrix in one tile: 27 KiB of Q4_0 at 1,536 columns, so that a tile stays in the
/// first-level cache while all tokens of a batch pass over it.
pub(crate) const TILE: usize = 32;
/// The same for weights that are not quantized, which take seven times the room: a router has few rows,
/// and several threads shall have some.
const PLAIN_TILE: usize = 8;
/// Tokens that a kernel is handed at a time.
pub(crate) const TOKENS: usize = 4;
/// Values below which a serial loop is faster than waking threads.
const SERIAL: usize = 1 << 14;

/// The kernels and the threads that run them.
#[derive(Clone, Copy)]
pub(crate) struct Products<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) parallel: &'a dyn Parallel,
}

impl<'a> Products<'a> {
    /// Hands `store` the products of the matrices, side by side, with `row(t)` for `t < n`, some
    /// rows of a matrix at a time, and the place in `out[t]` where they belong.
    pub(crate) fn multiply<'x>(
        &self,
        matrices: &[&Matrix<'_>],
        row: impl Fn(usize) -> Activation<'x> + Sync,
        n: usize,
        out: &mut [f32],
        store: impl Fn(&mut [f32], &[f32]) + Sync,
    ) {
        let mut cuts = heapless::Vec::<usize, 4>::from_array([0]);
        for matrix in matrices {
            let end = cuts[cuts.len() - 1] + matrix.rows();
            cuts.push(end).expect("at most three matrices are multiplied together");
        }
        let width = cuts[matrices.len()];
        let is_plain = matrices.iter().all(|m| m.format().encoding() == Encoding::F32);
        let rows = if is_plain { PLAIN_TILE } else { TILE };
        let grid = Grid::new(&mut out[..n * width], width, width);
        grid.for_each_tile_within(self.parallel, Bands::One, &cuts, rows, |tile| {
            let (matrix, first) = (matrices[tile.part()], cuts[tile.part()]);
            let cols = tile.cols();
            let product = self.product(matrix.format(), matrix.layout());
            let weights = matrix.row_bytes(cols.start - first, cols.len());
            multiply_tile(product, weights, tile, &row, &store);
        });
    }

    /// `out = matrix · x`, whatever the layout.
    pub(crate) fn multiply_row(&self, matrix: &Matrix<'_>, x: &Activation<'_>, out: &mut [f32]) {
        let rows = matrix.rows();
        Grid::new(out, rows, rows).for_each_tile(self.parallel, Bands::One, TILE, |tile| {
            let cols = tile.cols();
            if matrix.layout() == Layout::Split {
                let rows: heapless::Vec<u32, TILE> = cols.map(|row| row as u32).collect();
                self.pick(matrix, &rows, x, tile.row(0));
            } else {
                let product = self.product(matrix.format(), matrix.layout());
                product(matrix.row_bytes(cols.start, cols.len()), &[*x], tile.row(0));
            }
        });
    }

    /// out[i] = row `rows[i]` of `matrix` · x, where the layout keeps rows together.
    pub(crate) fn pick(
        &self,
        matrix: &Matrix<'_>,
        rows: &[u32],
        x: &Activation<'_>,
        out: &mut [f32],
    ) {
        if matrix.layout() == Layout::Split {
            return self.kernels.pick_rows()(matrix.bytes(), rows, x, out);
        }
        let product = self.product(matrix.format(), matrix.layout());
        for (value, row) in out.iter_mut().zip(rows) {
            product(matrix.row_bytes(*row as usize, 1), &[*x], core::slice::from_mut(value));
        }
    }

    /// The product with all rows of a matrix.
    ///
    /// # Panics
    /// If the layout has none; [`Weights::check_layouts`](crate::Weights::check_layouts) refuses such
    /// a matrix.
    pub(crate) fn product(&self, format: Format, layout: Layout) -> MatMul {
        self.kernels.matmul(format, layout).expect("the layout is one for products with all rows")
    }

    /// Lets `fill` write the values of each of the first `n` rows, then computes their 8-bit forms
    /// if what they will be multiplied with is quantized.
    pub(crate) fn for_each_row(
        &self,
        rows: &mut Rows<'_>,
        n: usize,
        encoding: Encoding,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (layout, encode) = (rows.layout, self.kernels.encode());
        let stride = layout.stride();
        let parallel = self.threads_for(n * stride);
        Grid::new(rows.first(n), stride, stride).for_each_tile(
            parallel,
            Bands::Each,
            stride,
            |tile| {
                let i = tile.band();
                fill(i, tile.row(i));
                if encoding != Encoding::F32 {
                    encode(&layout, tile.row(i));
                }
            },
        );
    }

    /// Computes the 8-bit forms of the rows of some bands.
    pub(crate) fn encode_rows(
        &self,
        rows: &mut Rows<'_>,
        n: usize,
        bands: Bands<'_>,
        encoding: Encoding,
    ) {
        if encoding == Encoding::F32 {
            return;
        }
        let (layout, encode) = (rows.layout, self.kernels.encode());
        let stride = layout.stride();
        let parallel = self.threads_for(n * stride);
        Grid::new(rows.first(n), stride, stride).for_each_tile(parallel, bands, stride, |tile| {
            tile.rows().for_each(|i| encode(&layout, tile.row(i)));
        });
    }

    /// All threads, or the caller's alone if there are few values to go through.
    pub(crate) fn threads_for(&self, values: usize) -> &'a dyn Parallel {
        if values < SERIAL { &Serial } else { self.parallel }
    }
}

/// Hands `store` the products of `weights` with `row(i)`, for each row `i` of the tile, and the
/// tile's part of that row.
pub(crate) fn multiply_tile<'x>(
    product: MatMul,
    weights: &[u8],
    tile: &mut Tile<'_>,
    row: impl Fn(usize) -> Activation<'x>,
    store: impl Fn(&mut [f32], &[f32]),
) {
    let width = tile.cols().len();
    for_some_tokens(tile.rows(), row, |rows, xs| {
        let mut room = [0.0; TOKENS * TILE];
        let products = &mut room[..xs.len() * width];
        product(weights, xs, products);
        for (row, y) in rows.zip(products.chunks_exact(width)) {
            store(tile.row(row), y);
        }
    });
}

/// Hands `work` up to [`TOKENS`] of some rows at a time, and what they hold.
pub(crate) fn for_some_tokens<'x>(
    rows: Range<usize>,
    row: impl Fn(usize) -> Activation<'x>,
    mut work: impl FnMut(Range<usize>, &[Activation<'x>]),
) {
    for start in rows.clone().step_by(TOKENS) {
        let some = start..rows.end.min(start + TOKENS);
        let xs: heapless::Vec<_, TOKENS> = some.clone().map(&row).collect();
        work(some, &xs);
    }
}
