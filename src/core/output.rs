//! How much of the output matrix a token needs.

use crate::forward::{Model, TILE};
use crate::parallel::{Bands, Grid};
use crate::scratch::Scratch;
use crate::weights::{Matrix, Profiler, Weights};
use core::cmp::Ordering;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use heapless::binary_heap::{BinaryHeap, Min};
use wick_kernels::{Activation, Format, Layout, sketch_bytes};

/// Which rows of the output matrix are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// All of them.
    #[default]
    Exact,
    /// Those that the predictor in the file counts; see [`Profiler`]. The logits of the others are
    /// −∞.
    Profiler,
    /// Those that can be among the largest logits, as a sketch of the matrix tells; see
    /// [`Engine::want_top`](crate::Engine::want_top). The logits of others are −∞. As long as all
    /// logits are wanted, and where no sketch has been drawn, all rows are.
    Coarse,
}

/// The most logits that [`Output::Coarse`] looks for; for more, all rows are multiplied.
pub const MOST_TOP: usize = 64;
/// Rows that are multiplied first, for each of the largest that are wanted: their products tell how
/// large a product must be at least.
const FIRST: usize = 4;
/// Standard deviations from what a sketch tells that a product is expected within. The largest 64
/// were right at each of 10,240 positions of a model of the 4B's shape (`tests/bench/coarse.rs`).
const DEVIATIONS: f32 = 5.0;
/// Rows in a tile of a search for those that may be among the largest.
const SEARCHED: usize = 512;
/// Values that are looked over together, since hardly ever one of them is among the largest.
const SCANNED: usize = 64;
/// Variance of what a sketch leaves out of a weight, in scales: it is anywhere within four of them.
const VARIANCE: f32 = 16.0 / 12.0;

impl Output {
    /// Checks that the model has what this needs, arranged for it or not at all.
    pub fn check(self, weights: &Weights<'_>) -> Result<(), OutputError> {
        if self == Output::Profiler && weights.profiler.is_none() {
            return Err(OutputError::NoProfiler);
        }
        let (rows, cols) = (weights.lm_head().rows(), weights.lm_head().cols());
        if self == Output::Coarse && sketch_bytes(rows, cols).is_none() {
            return Err(OutputError::Groups { rows, cols });
        }
        match weights.lm_head().layout() {
            Layout::Rows => Ok(()),
            layout if layout == self.layout() => Ok(()),
            found => Err(OutputError::Arranged { expected: self.layout(), found }),
        }
    }

    /// The layout of the output matrix that suits, where it fits.
    pub fn layout(self) -> Layout {
        match self {
            Output::Exact => Layout::Grouped,
            Output::Profiler => Layout::Split,
            Output::Coarse => Layout::Rows,
        }
    }

    /// Bytes of the sketch of the output matrix that this needs; 0 if it needs none.
    pub(crate) fn sketch_bytes(self, weights: &Weights<'_>) -> usize {
        let (rows, cols) = (weights.lm_head().rows(), weights.lm_head().cols());
        let bytes = || sketch_bytes(rows, cols);
        (self == Output::Coarse).then(bytes).flatten().unwrap_or(0)
    }

    /// The predictor, if it is used.
    pub(crate) fn profiler<'m>(self, weights: &Weights<'m>) -> Option<Profiler<'m>> {
        weights.profiler.filter(|_| self == Output::Profiler)
    }
}

impl Model<'_> {
    /// Logits `i` = Wout · hidden row `i` where `profiler` counts a row of the vocabulary, −∞
    /// elsewhere. Returns how many it counts.
    pub(crate) fn predict(&self, profiler: &Profiler<'_>, i: usize, s: &mut Scratch<'_>) -> usize {
        let Profiler { fc1, fc2 } = profiler;
        let (x, vocab) = (s.hidden.row(i), self.config.vocab);
        self.multiply_row(fc1, &x, &mut s.predictor.slab[..fc1.rows()]);
        self.for_each_row(&mut s.predictor, 1, fc2.format().encoding(), |_, _| ());

        let (features, product) = (s.predictor.row(0), self.product(fc2.format(), fc2.layout()));
        let (output, counted) = (self.weights.lm_head(), AtomicUsize::new(0));
        let logits = &mut s.logits[i * vocab..][..vocab];
        Grid::new(logits, vocab, vocab).for_each_tile(self.parallel, Bands::One, TILE, |tile| {
            let cols = tile.cols();
            let (mut scores, mut values) = ([0.0; TILE], [0.0; TILE]);
            let scores = &mut scores[..cols.len()];
            product(fc2.row_bytes(cols.start, cols.len()), &[features], scores);
            let above = scores.iter().zip(cols.clone()).filter(|(score, _)| **score > 0.0);
            let rows: heapless::Vec<u32, TILE> = above.map(|(_, row)| row as u32).collect();
            let values = &mut values[..rows.len()];
            self.pick(output, &rows, &x, values);
            let logits = tile.row(0);
            logits.fill(f32::NEG_INFINITY);
            for (row, value) in rows.iter().zip(values) {
                logits[*row as usize - cols.start] = *value;
            }
            counted.fetch_add(rows.len(), Relaxed);
        });
        counted.into_inner()
    }

    /// Logits `i` = Wout · hidden row `i`: the `top` largest and some others, −∞ elsewhere. Returns how
    /// many rows are multiplied; `None`, and nothing is done, if there is no sketch of the output
    /// matrix, or `top` is 0 or too many.
    pub(crate) fn shortlist(&self, top: usize, i: usize, s: &mut Scratch<'_>) -> Option<usize> {
        let sketch = self.weights.sketch.filter(|_| (1..=MOST_TOP).contains(&top))?;
        let vocab = self.config.vocab;
        let x = s.hidden.row(i);
        let logits = &mut s.logits[i * vocab..][..vocab];
        logits.fill(f32::NEG_INFINITY);
        let blocks = x.q8_0.quants.chunks_exact(Format::Q4_0.block_len()).zip(x.q8_0.scales);
        for ((quants, scale), spread) in blocks.zip(s.spreads.iter_mut()) {
            let energy: i32 = quants.iter().map(|q| i32::from(*q) * i32::from(*q)).sum();
            *spread = DEVIATIONS * DEVIATIONS * VARIANCE * (scale * scale) * energy as f32;
        }
        let (bound, spreads) = (self.kernels.bound_rows(), &*s.spreads);
        let bounds = Grid::new(s.ceilings, vocab, vocab);
        bounds.for_each_tile(self.parallel, Bands::One, TILE, |tile| {
            bound(sketch, tile.cols(), &x, spreads, tile.row(0));
        });
        let first =
            self.multiply_above(nth_largest(s.ceilings, FIRST * top), &x, s.ceilings, logits);
        Some(first + self.multiply_above(nth_largest(logits, top), &x, s.ceilings, logits))
    }

    /// Multiplies the rows whose bound reaches `least`, if they have not been yet; their number is
    /// returned.
    fn multiply_above(
        &self,
        least: f32,
        x: &Activation<'_>,
        bounds: &[f32],
        logits: &mut [f32],
    ) -> usize {
        let (output, prefetch) = (self.weights.lm_head(), self.kernels.prefetch());
        let (vocab, multiplied) = (self.config.vocab, AtomicUsize::new(0));
        Grid::new(logits, vocab, vocab).for_each_tile(
            self.parallel,
            Bands::One,
            SEARCHED,
            |tile| {
                let (start, logits) = (tile.cols().start, tile.row(0));
                let mut rows = heapless::Vec::<u32, SEARCHED>::new();
                for (i, (bound, logit)) in bounds[start..].iter().zip(&*logits).enumerate() {
                    // What is no number is not left out.
                    if (*bound >= least || bound.is_nan()) && *logit == f32::NEG_INFINITY {
                        prefetch(output.row_bytes(start + i, 1));
                        rows.push((start + i) as u32).expect("a tile has no more rows");
                    }
                }
                let mut values = [0.0; SEARCHED];
                let values = &mut values[..rows.len()];
                self.pick(output, &rows, x, values);
                for (row, value) in rows.iter().zip(values) {
                    logits[*row as usize - start] = *value;
                }
                multiplied.fetch_add(rows.len(), Relaxed);
            },
        );
        multiplied.into_inner()
    }

    /// `out = matrix · x`.
    fn multiply_row(&self, matrix: &Matrix<'_>, x: &Activation<'_>, out: &mut [f32]) {
        let (rows, product) = (matrix.rows(), self.product(matrix.format(), matrix.layout()));
        Grid::new(out, rows, rows).for_each_tile(self.parallel, Bands::One, TILE, |tile| {
            let cols = tile.cols();
            product(matrix.row_bytes(cols.start, cols.len()), &[*x], tile.row(0));
        });
    }
}

/// A number in the order of all numbers.
#[derive(PartialEq)]
struct Ordered(f32);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Ordered) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Ordered) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The `n`-th largest of the values, or the least if they are fewer. `n` is `FIRST · MOST_TOP` at most.
fn nth_largest(values: &[f32], n: usize) -> f32 {
    let mut largest = BinaryHeap::<Ordered, Min, { FIRST * MOST_TOP }>::new();
    let (first, rest) = values.split_at(n.min(values.len()));
    for value in first {
        let _room_for_all = largest.push(Ordered(*value));
    }
    let mut least = largest.peek().map_or(f32::NEG_INFINITY, |least| least.0);
    for some in rest.chunks(SCANNED) {
        if !some.iter().fold(false, |above, value| above | (*value > least)) {
            continue;
        }
        for value in some {
            if *value > least {
                largest.pop();
                let _room_was_made = largest.push(Ordered(*value));
                least = largest.peek().map_or(least, |least| least.0);
            }
        }
    }
    least
}

/// The model has not what an [`Output`] needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputError {
    /// There is no predictor in the file.
    NoProfiler,
    /// The output matrix has no whole groups of 8 rows, or its rows no whole blocks of 32.
    Groups {
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
    },
    /// The output matrix is arranged for another [`Output`].
    Arranged {
        /// The layout that suits.
        expected: Layout,
        /// The layout it has.
        found: Layout,
    },
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputError::NoProfiler => {
                f.write_str("the file has no lm_head_profiler.weight to choose output rows with")
            }
            OutputError::Groups { rows, cols } => write!(
                f,
                "output: multiples of 8 rows and of 32 columns expected, {rows} and {cols} found"
            ),
            OutputError::Arranged { expected, found } => {
                write!(f, "output: arranged as {expected} expected, {found} found")
            }
        }
    }
}

impl core::error::Error for OutputError {}
