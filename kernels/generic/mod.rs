//! Algorithms that are the same on every architecture, over small traits of vectors.
//!
//! A variant compiles them with its own features and its own vectors; [`variant`] makes its table.

pub(crate) mod block256;
pub(crate) mod grouped;
pub(crate) mod plain;
pub(crate) mod rows;
pub(crate) mod sketch;
pub(crate) mod tokens;
pub(crate) mod variant;
