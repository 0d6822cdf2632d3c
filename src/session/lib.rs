//! From token ids to text.
//!
//! A [`Request`] becomes a [`Generation`]: the ids that it has read and drawn, its sampler, the text
//! that has come, and why it ended. A [`Scheduler`] steps several of them in one pass of an
//! [`Engine`](wick_core::Engine), and none of them notices the others:
//!
//! ```text
//!   Request ──► Scheduler::start ──► Generation ─┐ next tokens: a drawn one,
//!                    ▲                           │ or a chunk of a prompt
//!                    │ sequence, KV prefix       ▼
//!             Scheduler::step ◄──── logits ── Engine::step (one batch of all)
//!      constraint ─► │ sample ─► stop? ─► detokenize ─► stop strings
//!                    ▼
//!             Generation::text, log_probability, ended
//! ```
//!
//! The crate knows nothing of terminals, files or HTTP, and needs only an allocator; a step takes no
//! memory but for what a token's text exceeds the room that was taken for it.
//!
//! ```
//! use wick_core::{Arena, Candidates, Engine, KvFormat, Options, HeadRows, Plan, Sampler, Sampling, Serial};
//! use wick_format::{Gguf, Model, Overrides};
//! use wick_session::{Ended, Request, Scheduler, tokenizer};
//! use wick_text::Special;
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/models/nano/nano.gguf");
//! # let bytes = std::fs::read(path).unwrap();
//!
//! let files = [Gguf::parse(&bytes).unwrap()];
//! let model = Model::new(&files).unwrap();
//! let config = model.config(Overrides::default()).unwrap();
//! let weights = model.weights(&config).unwrap();
//! let tokenizer = tokenizer(&files[0]).unwrap();
//!
//! let (head_rows, kv) = (HeadRows::Exact, KvFormat::F16);
//! let options = Options { context: 128, sequences: 2, batch: 32, logits: 2, head_rows, kv };
//! let plan = Plan::new(&config, &weights, &options).unwrap();
//! let mut memory = vec![0; plan.arena()];
//! let mut arena = Arena::new(&mut memory);
//! let kernels = wick_kernels::Kernels::scalar();
//! let engine = Engine::new(config, &weights, options, &mut arena, kernels, &Serial).unwrap();
//! let candidates = Candidates::new(config.vocab, &mut arena).unwrap();
//! let mut scheduler = Scheduler::new(engine, candidates);
//!
//! let mut prompt = Vec::new();
//! let text = "<|im_start|>user\nwhat is 2 plus 3?<|im_end|>\n<|im_start|>assistant\n";
//! tokenizer.encode(text, Special::Parse, &mut prompt);
//! let id = scheduler.start(Request::new(prompt, 16, Sampler::new(Sampling::GREEDY))).unwrap();
//! let mut answer = String::new();
//! while !scheduler.is_idle() {
//!     scheduler.step(&tokenizer);
//!     answer += scheduler.generation(id).unwrap().text();
//! }
//! assert_eq!(answer, "2 + 3 = 5.");
//! assert_eq!(scheduler.release(id), Some(Ended::Stop));
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod constraint;
mod draft;
mod embedding;
mod generation;
mod log_probability;
mod prefix;
mod request;
mod scheduler;
mod stop;
mod tokenizer;

pub use constraint::{Constraint, ConstraintError};
pub use generation::Generation;
pub use log_probability::{LogProbability, MOST_LOG_PROBABILITIES};
pub use prefix::{Prefix, PrefixStore};
pub use request::{Ended, Failure, MOST_LOGIT_BIASES, Request, StartError};
pub use scheduler::{GenerationId, Scheduler, Stepped};
pub use tokenizer::{TokenizerError, tokenizer};
