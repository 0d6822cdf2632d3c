//! How much of the output matrix a token needs.

use crate::token::Logits;
use crate::weights::{Profiler, Weights};
use core::fmt;
use wick_kernels::{Layout, sketch_bytes};

/// Which rows of the output matrix an engine can multiply; a token asks by its
/// [`Logits`](crate::Logits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// All of them.
    #[default]
    Exact,
    /// Those that the predictor in the file counts; see [`Profiler`]. The logits of the others are
    /// −∞.
    Profiler,
    /// Those that can be among the largest logits, as a sketch of the matrix tells. The logits of
    /// others are −∞. Where no sketch has been drawn, all rows are.
    Coarse,
}

/// The most logits that [`Output::Coarse`] looks for; for more, all rows are multiplied.
pub const MOST_TOP: usize = 64;

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

    /// What a token asks for whose `top` largest logits decide what is drawn; 0 if all do.
    pub fn logits(self, top: usize) -> Logits {
        match self {
            Output::Profiler => Logits::Predicted,
            Output::Coarse if top > 0 => Logits::Top(top),
            Output::Exact | Output::Coarse => Logits::All,
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
