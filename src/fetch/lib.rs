//! Downloads of models from Hugging Face, or from what speaks its API.
//!
//! ```text
//!   Source ──► Hub (commit, list of files) ──► choice ──► Place (cache or folder) ──► download ──► checked, named
//!                └──────────────── curl, one process for each request ────────────────┘
//! ```
//!
//! Nothing here speaks TLS: requests are made by the system's `curl`, which has the distribution's certificates and its
//! security updates.
//!
//! ```
//! use wick_fetch::Source;
//!
//! let source: Source = "PowerInfer/SmallThinker-4BA0.6B-Instruct-GGUF:model.Q4_0.gguf".parse()?;
//! assert_eq!(source.file.as_deref(), Some("model.Q4_0.gguf"));
//! assert!("PowerInfer/../x".parse::<Source>().is_err());
//! # Ok::<(), wick_fetch::Error>(())
//! ```
#![forbid(unsafe_code)]

mod cache;
mod choice;
mod curl;
mod digest;
mod download;
mod error;
mod fetch;
mod hub;
mod name;
mod partial;
mod patience;
mod place;
mod ranges;
mod settings;
mod source;
mod url;

pub use curl::{end_all, try_end_all};
pub use error::{Error, Size};
pub use fetch::{Fetched, Kind, Watch, cached, fetch};
pub use settings::{Limits, Settings, Token};
pub use source::Source;
