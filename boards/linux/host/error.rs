//! What can be wrong between a path and an engine.

use crate::host::budget::Shortage;
use crate::{CatalogueError, MapError};
use std::error::Error;
use std::fmt;
use std::io;
use wick_core::{EngineError, HeadRows, OptionsError, StoreError};

/// Why there is no engine for a model, or why it could not go on reading.
#[derive(Debug)]
pub enum HostError {
    /// A file cannot be mapped.
    Map(MapError),
    /// A file is damaged, or is none that wick runs.
    Model {
        /// Name of the file.
        file: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The file is packed for other rows of the LM head than those that are wanted.
    Packed {
        /// Name of the file.
        file: String,
        /// What it is packed for.
        packed: HeadRows,
        /// What is wanted.
        wanted: HeadRows,
    },
    /// Experts cannot be read from the model's files.
    Catalogue(CatalogueError),
    /// An expert could not be read when it was wanted.
    Unread {
        /// Name of the file.
        file: String,
        /// The expert, where it lies, and why.
        error: StoreError,
    },
    /// Options that no engine can have.
    Options(OptionsError),
    /// The model does not go with the options.
    Engine(EngineError),
    /// The budget is too small.
    Shortage(Box<Shortage>),
    /// The system refuses memory for KV cache and scratch.
    Arena(io::Error),
    /// The system refuses memory for arranged weights.
    Weights(io::Error),
    /// The system refuses memory for expert slots, or reads into them.
    Slots(io::Error),
}

impl HostError {
    /// Whether it is memory that is wanting.
    pub fn is_of_memory(&self) -> bool {
        match self {
            HostError::Map(error) => error.is_refusal(),
            HostError::Catalogue(error) => error.is_refusal(),
            HostError::Shortage(_)
            | HostError::Arena(_)
            | HostError::Weights(_)
            | HostError::Slots(_) => true,
            _ => false,
        }
    }

    /// Whether it is a limit on open files that is wanting.
    pub fn is_of_open_files(&self) -> bool {
        match self {
            HostError::Map(error) => error.is_of_open_files(),
            HostError::Catalogue(error) => error.is_of_open_files(),
            _ => false,
        }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostError::Map(error) => error.fmt(f),
            HostError::Model { file, reason } => write!(f, "{file}: {reason}"),
            HostError::Packed { file, packed, wanted } => {
                let (packed, wanted) = (flag(*packed), flag(*wanted));
                write!(
                    f,
                    "{file}: the file is packed for --output {packed}: run it with that, or pack it \
                     again with --output {wanted}"
                )
            }
            HostError::Catalogue(error) => error.fmt(f),
            HostError::Unread { file, error } => write!(f, "{file}: {error}"),
            HostError::Options(error) => error.fmt(f),
            HostError::Engine(error) => error.fmt(f),
            HostError::Shortage(shortage) => shortage.fmt(f),
            HostError::Arena(error) => write!(f, "KV cache and scratch: {error}"),
            HostError::Weights(error) => write!(f, "memory for the weights: {error}"),
            HostError::Slots(error) => write!(f, "expert slots: {error}"),
        }
    }
}

/// The message has the cause in it, so there is no source to print after it.
impl Error for HostError {}

/// What `--output` calls it.
fn flag(head_rows: HeadRows) -> &'static str {
    match head_rows {
        HeadRows::Exact => "exact",
        HeadRows::Profiler => "profiler",
        HeadRows::Coarse => "coarse",
    }
}

impl From<OptionsError> for HostError {
    fn from(error: OptionsError) -> HostError {
        HostError::Options(error)
    }
}

impl From<EngineError> for HostError {
    fn from(error: EngineError) -> HostError {
        HostError::Engine(error)
    }
}

impl From<MapError> for HostError {
    fn from(error: MapError) -> HostError {
        HostError::Map(error)
    }
}

impl From<CatalogueError> for HostError {
    fn from(error: CatalogueError) -> HostError {
        HostError::Catalogue(error)
    }
}

impl From<Shortage> for HostError {
    fn from(shortage: Shortage) -> HostError {
        HostError::Shortage(Box::new(shortage))
    }
}
