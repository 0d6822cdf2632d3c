//! What can go wrong in making a file.

use crate::vocabulary::LEAST_ENTRIES;
use std::fmt;
use std::io;
use std::path::PathBuf;
use wick_core::ConfigError;
use wick_kernels::Format;

/// Why a file cannot be made.
#[derive(Debug)]
pub enum Error {
    /// The text of a shape is none.
    Shape {
        /// The part that is wrong.
        found: String,
        /// What may be there.
        expected: String,
    },
    /// The shape cannot be computed.
    Config(ConfigError),
    /// The hidden size leaves no room for the block that carries biases.
    Hidden {
        /// The hidden size.
        found: usize,
    },
    /// The vocabulary is too small for the bytes and the special tokens.
    Vocabulary {
        /// Its entries.
        found: usize,
    },
    /// Rows of a tensor are no whole number of blocks.
    Blocks {
        /// The tensor's name.
        tensor: String,
        /// Its format.
        format: Format,
        /// Weights in a row.
        cols: usize,
    },
    /// A weight is no number, or too large for its format.
    Weight {
        /// The tensor's name.
        tensor: String,
        /// The row of it.
        row: usize,
        /// The weight.
        found: f32,
        /// The format.
        format: Format,
    },
    /// The file cannot be written.
    File {
        /// Its path.
        path: PathBuf,
        /// Bytes that it was to have.
        bytes: u64,
        /// What the system says.
        source: io::Error,
    },
    /// What is to be written is what is read.
    IsInput {
        /// Its path.
        path: PathBuf,
    },
    /// The name that other programs have for stdout.
    IsDash,
    /// What is to be written at the beginning is known at the end, which a device or a pipe does not wait for.
    IsStream {
        /// Its path.
        path: PathBuf,
    },
    /// What is read has the name of what a killed process leaves of what is to be written.
    IsLeftover {
        /// The path of what is read.
        input: PathBuf,
        /// The path of what is to be written.
        path: PathBuf,
    },
    /// The model that was given cannot be used.
    Input {
        /// What is wrong with it.
        message: String,
    },
    /// The caller wants no more of it.
    Interrupted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Shape { found, expected } => {
                write!(f, "shape: {expected} expected, {found:?} found")
            }
            Error::Config(error) => error.fmt(f),
            Error::Hidden { found } => {
                write!(f, "hidden size: a multiple of 32, 64 or more, expected, {found} found")
            }
            Error::Vocabulary { found } => {
                write!(f, "vocabulary: {LEAST_ENTRIES} entries or more expected, {found} found")
            }
            Error::Blocks { tensor, format, cols } => write!(
                f,
                "{tensor}: rows of a multiple of {} weights expected for {format}, {cols} found; \
                 choose another type or other sizes",
                format.block_len()
            ),
            Error::Weight { tensor, row, found, .. } if !found.is_finite() => {
                write!(f, "{tensor}, row {row}: finite weights expected, {found} found")
            }
            Error::Weight { tensor, row, found, format } => {
                write!(
                    f,
                    "{tensor}, row {row}: {found} is too large for {format}; choose bf16 or f32"
                )
            }
            Error::File { path, bytes, .. } => {
                write!(f, "{}: {bytes} bytes cannot be written", path.display())
            }
            Error::IsInput { path } => {
                write!(f, "{}: is the input; name another file", path.display())
            }
            Error::IsDash => {
                f.write_str("-: the name of a file expected; stdout is /dev/stdout, a file \"./-\"")
            }
            Error::IsStream { path } => {
                let why = "a file expected, since its beginning is written last";
                write!(f, "{}: {why}", path.display())
            }
            Error::IsLeftover { input, path } => write!(
                f,
                "{}: is named as what is left of an attempt to write {}, and would be removed; rename it",
                input.display(),
                path.display()
            ),
            Error::Input { message } => f.write_str(message),
            Error::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<wick_format::Error<'_>> for Error {
    fn from(error: wick_format::Error<'_>) -> Error {
        Error::Input { message: error.to_string() }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Error {
        Error::Config(error)
    }
}
