//! Making model files.
//!
//! A [`Synthetic`] model has a published shape and random weights, drawn so that its neurons stay at
//! zero and its experts are chosen as often as [`Statistics`] say. What it is written with serves
//! every other maker of files: [`Writer`] streams GGUF into a [`NewFile`], which is whole or not there;
//! [`quantize`] turns floats into blocks. [`Pack`] arranges a model's weights for the kernels in a file, [`Unpack`] undoes it, [`verify`] checks it.
//!
//! ```text
//!   Shape, Statistics ──► Synthetic ──┐
//!                                     ├──► Writer ──► model.gguf ──► Pack ──► model.wick.gguf
//!   floats ──► quantize ──────────────┘        ▲                                  │     │
//!                                              └────────────── Unpack ◄───────────┘  verify
//! ```
//!
//! ```
//! use std::ops::ControlFlow;
//! use wick_core::{HeadRows, Serial};
//! use wick_format::{Gguf, Model};
//! use wick_kernels::Format;
//! use wick_prepare::{Pack, Shape, Statistics, Synthetic};
//!
//! # let folder = tempfile::tempdir()?;
//! # let (model, packed) = (folder.path().join("m.gguf"), folder.path().join("m.wick.gguf"));
//! let shape: Shape = "4b,layers=1,vocab=512,hidden=256,experts=8".parse()?;
//! let statistics = Statistics::report(&shape.config);
//! let synthetic = Synthetic::new(&shape, statistics, Format::Q4_0, Format::Q4_0, 7)?;
//! synthetic.write(&model, &Serial, |_written| ControlFlow::Continue(()))?;
//!
//! let bytes = std::fs::read(&model)?;
//! let files = [Gguf::parse(&bytes).unwrap()];
//! let pack = Pack::new(Model::new(&files).unwrap(), HeadRows::Exact)?;
//! pack.write(&packed, |_no_longer_needed| ControlFlow::Continue(()))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod compare;
mod convert;
mod dense;
mod error;
mod file;
mod file_type;
mod gguf;
mod importance;
mod low_bit;
mod metadata;
mod model_keys;
mod new_model;
mod new_tensor;
mod normal;
mod ordered;
mod pack;
mod partial;
mod quantize;
mod random;
mod requantize;
mod round;
mod routing;
mod shape;
mod sketch;
mod statistics;
mod synthetic;
mod unpack;
mod verify;
mod vocabulary;

pub use compare::{Comparison, Deviation, compare};
pub use convert::{Checkpoint, ConvertRule, Predictor, Texts, convert, shards};
pub use error::Error;
pub use file::{NewFile, refuse_input};
pub use gguf::{Entry, Tensor, Writer};
pub use importance::Importances;
pub use metadata::Metadata;
pub use new_model::NewModel;
pub use pack::Pack;
pub use partial::{remove_unfinished, try_remove_unfinished};
pub use quantize::{QUANTIZABLE, quantize, quantize_by};
pub use requantize::{FormatRule, requantize};
pub use shape::Shape;
pub use statistics::Statistics;
pub use synthetic::Synthetic;
pub use unpack::Unpack;
pub use verify::{Damage, verify};
