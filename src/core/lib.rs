//! The SmallThinker forward pass in fixed memory.
//!
//! A [`Config`] describes a model, [`Role`] lists what tensors it has, [`Weights`] borrow them, a
//! `State` holds the KV cache and the scratch, all cut from one [`Arena`] that the caller hands over;
//! an [`Engine`] puts them together and steps batches of tokens. After the engine stands, nothing
//! allocates. The crate cannot name the standard library: files, threads and clocks come in through
//! traits.
//!
//! ```text
//!  caller:   Plan (bytes of each part) ──► memory ──► Arena
//!                                                      │ KV cache, scratch, tables of slots
//!  Config, Weights ──────────────────────────────► Engine ◄── Kernels (what computes)
//!                                                  │    │
//!        [Token]  id, sequence, which logits ──► step   ├──► Parallel     the platform's cores
//!        logits of those that want some      ◄──────    └──► ExpertStore  its reads, if experts
//!                                                                         are not in memory
//!  one layer of a step (forward.rs):
//!    route (routing.rs) ──► want experts ──► attend (attention.rs) ──► experts as they come (ffn.rs)
//!  after the last one: lm_head (lm_head.rs)
//! ```
//!
//! ```
//! use wick_core::{Arena, Candidates, Engine, History, KvFormat, Logits, Options, HeadRows, Plan};
//! use wick_core::{Guidance, Sampler, Sampling, Serial};
//! use wick_format::{Gguf, Model, Overrides};
//! use wick_kernels::Kernels;
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/models/nano/nano.gguf");
//! # let bytes = std::fs::read(path)?;
//! let files = [Gguf::parse(&bytes).unwrap()];
//! let model = Model::new(&files).unwrap();
//! let config = model.config(Overrides::default()).unwrap();
//! let weights = model.weights(&config).unwrap();
//!
//! let (head_rows, kv) = (HeadRows::Exact, KvFormat::F16);
//! let options = Options { context: 64, sequences: 1, batch: 16, logits: 1, head_rows, kv };
//! let plan = Plan::new(&config, &weights, &options)?;
//! let mut memory = vec![0; plan.arena()];
//! let mut arena = Arena::new(&mut memory);
//! let mut engine =
//!     Engine::new(config, &weights, options, &mut arena, Kernels::scalar(), &Serial)?;
//! let mut candidates = Candidates::new(config.vocab, &mut arena)?;
//!
//! let mut text = vec![1, 2, 3];
//! engine.prefill(0, &text, Logits::All)?;
//! let mut sampler = Sampler::new(Sampling::GREEDY);
//! for _ in 0..4 {
//!     let logits = engine.logits(0).expect("logits of the last token were wanted");
//!     let history = History { text: &text, prompt: 3 };
//!     let id = sampler.sample(logits, history, Guidance::default(), &mut candidates)?;
//!     text.push(id);
//!     engine.prefill(0, &[id], Logits::All)?;
//! }
//! assert_eq!(engine.len(0), 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![deny(unsafe_code)]

mod arena;
mod arrangement;
mod attention;
mod book;
mod cache;
mod candidates;
mod checks;
mod config;
mod damage;
mod engine;
mod engine_error;
mod experts;
mod ffn;
mod figures;
mod forward;
mod guess;
mod guidance;
mod head_rows;
mod history;
mod kv;
mod lender;
mod lm_head;
mod loan;
mod location;
mod matrix;
mod name;
mod options;
mod parallel;
mod pass;
mod plan;
mod policy;
mod products;
mod role;
mod router;
mod routing;
mod sampler;
mod sampling;
mod scratch;
mod slots;
mod step_error;
mod store;
mod token;
mod traffic;
mod weights;

pub use arena::{Arena, ArenaError};
pub use arrangement::{
    Arrangement, Arranger, Piece, Section, arranged_bytes, expert_layout, expert_layout_of,
    for_each_piece, once_layout, take_arranged,
};
pub use book::{ATTEMPTS, Book, Waited};
pub use candidates::Candidates;
pub use config::{Config, ConfigError, Gating, MAX_ACTIVE, MAX_EXPERTS, MAX_LAYERS, Window};
pub use damage::{Damage, Oddity, Origin};
pub use engine::Engine;
pub use engine_error::EngineError;
pub use figures::{ExpertFigures, Prefetch};
pub use guidance::Guidance;
pub use head_rows::{HeadRows, HeadRowsError, MOST_TOP};
pub use history::{History, REPEAT_WINDOW};
pub use kv::{KV_TILE, TileBytes, TileError, TruncateError};
pub use location::Location;
pub use matrix::{Down, ExpertMatrices, Matrix};
pub use name::TensorName;
pub use options::{KvFormat, MAX_BATCH, MAX_SEQUENCES, Options, OptionsError};
pub use parallel::{Bands, Grid, Parallel, Serial, Tile};
pub use plan::Plan;
pub use policy::{Decaying, LeastFrequent, LeastRecent, Policy};
pub use role::{Input, Part, Role, TensorShape};
pub use sampler::{SampleError, Sampler};
pub use sampling::Sampling;
pub use slots::{Loading, Slots};
pub use step_error::StepError;
pub use store::{
    Arrival, Completion, ExpertKey, ExpertStore, Place, Read, ReadError, SlotClass, SlotId,
    StoreError, StoreFigures, StoreReason, TIME_LIMIT,
};
pub use token::{Approximation, Logits, Token};
pub use traffic::Traffic;
pub use weights::{Layer, LayoutError, Profiler, SLOT_ALIGNMENT, ShapeError, Weights};
