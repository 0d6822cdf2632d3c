//! Why an engine cannot be made.

use crate::arena::ArenaError;
use crate::config::ConfigError;
use crate::head_rows::HeadRowsError;
use crate::options::OptionsError;
use crate::weights::{LayoutError, ShapeError};
use core::fmt;

/// An engine cannot be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EngineError {
    /// The shape is impossible.
    Config(ConfigError),
    /// A tensor does not fit the shape.
    Shape(ShapeError),
    /// An option is out of range.
    Options(OptionsError),
    /// The model has not what the wanted rows of the LM head need.
    LmHead(HeadRowsError),
    /// A matrix is arranged for another product.
    Layout(LayoutError),
    /// The arena is too small.
    Arena(ArenaError),
    /// Experts are to be read into slots, and there are none.
    Slots,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Config(e) => e.fmt(f),
            EngineError::Shape(e) => e.fmt(f),
            EngineError::Options(e) => e.fmt(f),
            EngineError::LmHead(e) => e.fmt(f),
            EngineError::Layout(e) => e.fmt(f),
            EngineError::Arena(e) => e.fmt(f),
            EngineError::Slots => f.write_str("expert slots: at least 1 expected, 0 found"),
        }
    }
}

impl core::error::Error for EngineError {}

impl From<ConfigError> for EngineError {
    fn from(e: ConfigError) -> EngineError {
        EngineError::Config(e)
    }
}

impl From<ShapeError> for EngineError {
    fn from(e: ShapeError) -> EngineError {
        EngineError::Shape(e)
    }
}

impl From<OptionsError> for EngineError {
    fn from(e: OptionsError) -> EngineError {
        EngineError::Options(e)
    }
}

impl From<LayoutError> for EngineError {
    fn from(e: LayoutError) -> EngineError {
        EngineError::Layout(e)
    }
}

impl From<HeadRowsError> for EngineError {
    fn from(e: HeadRowsError) -> EngineError {
        EngineError::LmHead(e)
    }
}

impl From<ArenaError> for EngineError {
    fn from(e: ArenaError) -> EngineError {
        EngineError::Arena(e)
    }
}
