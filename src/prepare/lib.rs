//! Making model files.
//!
//! A [`Synthetic`] model has a published shape and random weights, drawn so that its neurons stay at
//! zero and its experts are chosen as often as [`Statistics`] say. What it is written with serves
//! every other maker of files: [`Writer`] streams GGUF, [`quantize`] turns floats into blocks. [`Pack`]
//! arranges a model's weights for the kernels in a file, [`Unpack`] undoes it, [`verify`] checks it.
#![forbid(unsafe_code)]

mod error;
mod gguf;
mod low_bit;
mod normal;
mod pack;
mod quantize;
mod random;
mod routing;
mod shape;
mod statistics;
mod synthetic;
mod unpack;
mod verify;
mod vocabulary;

pub use error::Error;
pub use gguf::{Entry, Metadata, Tensor, Writer};
pub use pack::Pack;
pub use quantize::{QUANTIZABLE, quantize};
pub use shape::Shape;
pub use statistics::Statistics;
pub use synthetic::Synthetic;
pub use unpack::Unpack;
pub use verify::{Damage, verify};
