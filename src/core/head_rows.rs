//! How much of the LM head a token needs.

use crate::token::Logits;
use crate::weights::{Profiler, Weights};
use core::fmt;
use wick_kernels::{Layout, sketch_bytes};

/// Which rows of the LM head an engine can multiply; a token asks by its
/// [`Logits`](crate::Logits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadRows {
    /// All of them.
    #[default]
    Exact,
    /// Those that the predictor in the file counts; see [`Profiler`]. The logits of the others are
    /// −∞.
    Profiler,
    /// Those that can be among the largest logits, as a sketch of the matrix tells. The logits of
    /// others are −∞. Where there is no sketch, all rows are.
    Coarse,
}

/// The most logits that [`HeadRows::Coarse`] looks for; for more, all rows are multiplied.
pub const MOST_TOP: usize = 64;

impl HeadRows {
    /// Checks that the model has what this needs, arranged for it or not at all.
    pub fn check(self, weights: &Weights<'_>) -> Result<(), HeadRowsError> {
        let (rows, cols) = (weights.lm_head().rows(), weights.lm_head().cols());
        self.check_shape(weights.profiler.is_some(), rows, cols)?;
        match weights.lm_head().layout() {
            Layout::Rows => Ok(()),
            layout if layout == self.layout() => Ok(()),
            found => Err(HeadRowsError::Arranged { expected: self.layout(), found }),
        }
    }

    /// The same of a model with a predictor or without, whose LM head has these rows and columns and is not arranged.
    pub fn check_shape(
        self,
        has_profiler: bool,
        rows: usize,
        cols: usize,
    ) -> Result<(), HeadRowsError> {
        if self == HeadRows::Profiler && !has_profiler {
            return Err(HeadRowsError::NoProfiler);
        }
        if self == HeadRows::Coarse && sketch_bytes(rows, cols).is_none() {
            return Err(HeadRowsError::Groups { rows, cols });
        }
        Ok(())
    }

    /// The layout of the LM head that suits, where it fits.
    pub fn layout(self) -> Layout {
        match self {
            HeadRows::Exact => Layout::Grouped,
            HeadRows::Profiler => Layout::Split,
            HeadRows::Coarse => Layout::Rows,
        }
    }

    /// What a token asks for whose `top` largest logits decide what is drawn; 0 if all do.
    pub fn logits(self, top: usize) -> Logits {
        match self {
            HeadRows::Profiler => Logits::Predicted,
            HeadRows::Coarse if top > 0 => Logits::Top(top),
            HeadRows::Exact | HeadRows::Coarse => Logits::All,
        }
    }

    /// Bytes of the sketch of the LM head that this needs; 0 if it needs none.
    pub(crate) fn sketch_bytes(self, weights: &Weights<'_>) -> usize {
        let (rows, cols) = (weights.lm_head().rows(), weights.lm_head().cols());
        let bytes = || sketch_bytes(rows, cols);
        (self == HeadRows::Coarse).then(bytes).flatten().unwrap_or(0)
    }

    /// The sketch of the LM head, if it is used and there is one.
    pub fn sketch<'m>(self, weights: &Weights<'m>) -> Option<&'m [u8]> {
        weights.sketch.filter(|_| self == HeadRows::Coarse)
    }

    /// The predictor, if it is used.
    pub(crate) fn profiler<'m>(self, weights: &Weights<'m>) -> Option<Profiler<'m>> {
        weights.profiler.filter(|_| self == HeadRows::Profiler)
    }
}

/// The model has not what [`HeadRows`] need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRowsError {
    /// There is no predictor in the file.
    NoProfiler,
    /// The LM head has no whole groups of 8 rows, or its rows no whole blocks of 32.
    Groups {
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
    },
    /// The LM head is arranged for other [`HeadRows`].
    Arranged {
        /// The layout that suits.
        expected: Layout,
        /// The layout it has.
        found: Layout,
    },
}

impl fmt::Display for HeadRowsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeadRowsError::NoProfiler => f.write_str(
                "the file has no lm_head_profiler.weight to choose rows of the LM head with",
            ),
            HeadRowsError::Groups { rows, cols } => write!(
                f,
                "LM head: multiples of 8 rows and of 32 columns expected, {rows} and {cols} found"
            ),
            HeadRowsError::Arranged { expected, found } => {
                write!(f, "LM head: arranged as {expected} expected, {found} found")
            }
        }
    }
}

impl core::error::Error for HeadRowsError {}
