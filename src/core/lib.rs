//! The SmallThinker forward pass in fixed memory.
//!
//! A [`Config`] describes a model, [`Weights`] borrow its tensors, a `State` holds the KV cache
//! and the scratch, all cut from one [`Arena`] that the caller hands over; an [`Engine`] puts them
//! together and steps batches of tokens. After the engine stands, nothing allocates. The crate
//! cannot name the standard library: files, threads and clocks come in through traits.
#![no_std]
#![deny(unsafe_code)]

mod arena;
mod arrangement;
mod attention;
mod book;
mod cache;
mod config;
mod engine;
mod experts;
mod ffn;
mod figures;
mod forward;
mod guess;
mod kv;
mod lender;
mod lm_head;
mod options;
mod output;
mod parallel;
mod pass;
mod plan;
mod policy;
mod products;
mod router;
mod routing;
mod sampler;
mod scratch;
mod slots;
mod store;
mod token;
mod traffic;
mod weights;

pub use arena::{Arena, ArenaError};
pub use arrangement::{
    Arrangement, Arranger, Piece, Section, arranged_bytes, expert_layout, for_each_piece,
    take_arranged,
};
pub use book::{ATTEMPTS, Book, Waited};
pub use config::{Config, ConfigError, Gating, MAX_ACTIVE, MAX_EXPERTS, MAX_LAYERS, Window};
pub use engine::{Engine, EngineError, StepError};
pub use figures::{ExpertFigures, Prefetch};
pub use kv::TruncateError;
pub use options::{KvFormat, MAX_BATCH, MAX_SEQUENCES, Options, OptionsError};
pub use output::{MOST_TOP, Output, OutputError};
pub use parallel::{Bands, Grid, Parallel, Serial, Tile};
pub use plan::Plan;
pub use policy::{Decaying, LeastFrequent, LeastRecent, Policy};
pub use sampler::{Candidates, REPEAT_WINDOW, SampleError, Sampler, Sampling};
pub use slots::{Loading, Slots};
pub use store::{
    Arrival, Completion, ExpertKey, ExpertStore, Part, Place, Read, ReadError, SlotClass, SlotId,
    StoreError, StoreFigures, StoreReason, TIME_LIMIT,
};
pub use token::{Approximation, Logits, Token};
pub use traffic::Traffic;
pub use weights::{
    Down, ExpertMatrices, Layer, LayoutError, Matrix, Profiler, SLOT_ALIGNMENT, ShapeError, Weights,
};
