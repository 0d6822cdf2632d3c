//! How much of the output matrix a token needs.

use crate::forward::{Model, TILE};
use crate::parallel::{Bands, Grid};
use crate::scratch::Scratch;
use crate::weights::{Matrix, Profiler, Weights};
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use wick_kernels::{Activation, Layout};

/// Which rows of the output matrix are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// All of them.
    #[default]
    Exact,
    /// Those that the predictor in the file counts; see [`Profiler`]. The logits of the others are
    /// −∞.
    Profiler,
}

impl Output {
    /// Checks that the model has what this needs, arranged for it or not at all.
    pub fn check(self, weights: &Weights<'_>) -> Result<(), OutputError> {
        if self == Output::Profiler && weights.profiler.is_none() {
            return Err(OutputError::NoProfiler);
        }
        match weights.output.layout() {
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
        }
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
        let (output, counted) = (&self.weights.output, AtomicUsize::new(0));
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
            counted.fetch_add(rows.len(), Ordering::Relaxed);
        });
        counted.into_inner()
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

/// The model has not what an [`Output`] needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputError {
    /// There is no predictor in the file.
    NoProfiler,
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
            OutputError::Arranged { expected, found } => {
                write!(f, "output: arranged as {expected} expected, {found} found")
            }
        }
    }
}

impl core::error::Error for OutputError {}
