//! A model opened within a budget: from a path to an engine that computes.
//!
//! ```text
//! path ─ Files::open ─▸ Files ─ model ─▸ Model ──┐
//!                                                ├─ Placement::choose ─▸ with_engine ─▸ Engine
//! what the user wants ─▸ Setup ─ budget ─▸ Budget┘
//! ```
//! [`Files`] are mapped and [`Model`] is views into them: nothing is read yet but tables. [`Placement`]
//! says, before anything is taken, which experts stand in memory and what each part takes within the
//! [`Budget`]. [`with_engine`] takes it: the pool of threads, the store of experts, arranged weights, the
//! arena; and gives it back when its work is done. What is wrong on the way is a [`HostError`].
//!
//! A server's engine thread, which has one model at a time:
//!
//! ```
//! use std::path::Path;
//! use wick_core::{Arena, Engine, Options};
//! use wick_format::Overrides;
//! use wick_linux::host::{Files, HostError, Setup, one_sequence, with_engine};
//!
//! /// Serves until somebody asks for another model.
//! fn serve(engine: Engine<'_>, _arena: &mut Arena<'_>) -> Result<(), HostError> {
//!     println!("{} sequences of {}", engine.options().sequences, engine.options().context);
//!     Ok(())
//! }
//!
//! fn main() -> Result<(), HostError> {
//!     let setup = Setup { memory: Some(1 << 30), ..Setup::default() };
//!     for path in ["../../tests/models/nano/nano.gguf", "../../tests/golden/q8_0.gguf"] {
//!         let files = Files::open(Path::new(path))?;
//!         let model = files.model(Overrides::default())?;
//!         let options = Options { sequences: 4, logits: 4, ..one_sequence(&model.config, Some(512)) };
//!         with_engine(&model, options, &setup, serve)?;
//!     }
//!     Ok(())
//! }
//! ```

mod budget;
mod engine;
mod error;
mod files;
mod fingerprint;
mod model;
mod placement;
mod setup;

#[cfg(test)]
mod tests;

pub use budget::{Budget, Footprint, Shortage, Source};
pub use engine::with_engine;
pub use error::HostError;
pub use files::Files;
pub use model::{Model, chat_templates};
pub use placement::Placement;
pub use setup::{BATCH, LoadProgress, Setup, one_sequence};
