//! GGUF files (versions 2 and 3), read in place: no allocation, no copy, no standard library.
//!
//! [`Gguf::parse`] checks a whole file once; after that, metadata ([`Gguf::get`]) and tensors
//! ([`Gguf::tensor`]) are views into its bytes. A [`Model`] is one file, or the parts of a split one
//! in order, and yields what the engine wants: its `Config` and its `Weights`.
//!
//! ```text
//! "GGUF"  version u32  tensors u64  entries u64
//! entries × { key string, type u32, value }
//! tensors × { name string, rank u32, rank × dimension u64, ggml type u32, offset u64 }
//! padding to general.alignment (32 where the key is absent)
//! data: each tensor at its offset from here, a multiple of the alignment
//! ```
//! Everything is little endian; a string is a u64 of bytes and the bytes; an array is its element type
//! (u32), its length (u64) and the elements, which may be arrays again.
//!
//! ```
//! use wick_format::{Gguf, Model, Overrides};
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/models/nano/nano.gguf");
//! # let bytes = std::fs::read(path).unwrap();
//! let files = [Gguf::parse(&bytes).unwrap()];
//! let name = files[0].get("general.architecture").unwrap().str().unwrap();
//! assert_eq!(name, "smallthinker");
//! let model = Model::new(&files).unwrap();
//! let config = model.config(Overrides::default()).unwrap();
//! let weights = model.weights(&config).unwrap();
//! assert_eq!(weights.layers.len(), config.layers);
//! assert!(Gguf::parse(&bytes[..100]).is_err());
//! ```
//!
//! A file is taken for hostile: each length is checked against the bytes that remain before it is
//! used, each count against a limit ([`MAX_ENTRIES`], [`MAX_TENSORS`], [`MAX_DEPTH`]). What is wrong is
//! an [`Error`] that says what was expected, what was found and where.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod config;
mod cursor;
mod dims;
mod error;
mod foreign;
mod gguf;
mod head;
mod kind;
mod model;
mod packed;
mod place;
mod split;
mod split_name;
mod tail;
mod tensor;
mod types;
mod value;
mod weights;

pub use config::{ARCHITECTURE, Overrides, PERIOD};
pub use dims::Dims;
pub use error::Error;
pub use gguf::{Entry, Gguf, MAX_ENTRIES, MAX_TENSORS};
pub use head::Identity;
pub use kind::Kind;
pub use model::Model;
pub use packed::{EXTENT_ALIGNMENT, Keys, PACK_VERSION, Packed, PackedLayer, PackedPart};
pub use place::{Found, Place};
pub use split::Split;
pub use split_name::SplitName;
pub use tensor::{I8, MAX_NAME, Tensor};
pub use types::GgmlType;
pub use value::{Array, Integers, MAX_DEPTH, Strings, Value, Values};
