//! The SmallThinker forward pass in fixed memory.
//!
//! A [`Config`] describes a model, [`Role`] lists what tensors it has, [`Weights`] borrow them, a
//! `State` holds the KV cache and the scratch, all cut from one [`Arena`] that the caller hands over;
//! an [`Engine`] puts them together and steps batches of tokens. After the engine stands, nothing
//! allocates. The crate cannot name the standard library: files, threads and clocks come in through
//! traits.
#![no_std]
#![deny(unsafe_code)]

mod arena;
mod arrangement;
mod config;
mod engine;
mod experts;
mod forward;
mod guess;
mod kv;
mod location;
mod matrix;
mod name;
mod output;
mod parallel;
mod plan;
mod policy;
mod role;
mod router;
mod sampler;
mod scratch;
mod slots;
mod store;
mod traffic;
mod weights;

pub use arena::{Arena, ArenaError};
pub use arrangement::{
    Arrangement, Arranger, Piece, Section, arranged_bytes, expert_layout, for_each_piece,
    once_layout, take_arranged,
};
pub use config::{Config, ConfigError, Gating, MAX_ACTIVE, MAX_EXPERTS, MAX_LAYERS, Window};
pub use engine::{Engine, EngineError, StepError, Token};
pub use experts::{ExpertFigures, Prefetch};
pub use kv::{KvFormat, TruncateError};
pub use location::Location;
pub use matrix::{Down, ExpertMatrices, Matrix};
pub use name::TensorName;
pub use output::{MOST_TOP, Output, OutputError};
pub use parallel::{Bands, Grid, Parallel, Serial, Tile};
pub use plan::{MAX_BATCH, MAX_SEQUENCES, Options, OptionsError, Plan};
pub use policy::{Decaying, LeastFrequent, LeastRecent, Policy};
pub use role::{Input, Part, Role, TensorShape};
pub use router::Approximation;
pub use sampler::{REPEAT_WINDOW, SampleError, Sampler, Sampling};
pub use slots::Slots;
pub use store::{ExpertKey, ExpertStore, SlotId, StoreError, StoreFigures, StoreReason};
pub use traffic::Traffic;
pub use weights::{Layer, LayoutError, Profiler, SLOT_ALIGNMENT, ShapeError, Weights};
