//! What comes from outside, each kind of it as a function of bytes that panics where a promise of wick is broken.
//!
//! A fuzzer calls these functions with bytes that it makes up (`ci/fuzz`, `libfuzzer/`), and `replay.rs` with those that
//! it has found, in `corpus/`. Where bytes would not get far, they choose what is done to something well-formed.
#![forbid(unsafe_code)]

mod board;
mod calls;
mod conversation;
mod convert;
mod edit;
mod load;
mod model;
mod saved;
mod schema;
mod service;
mod template;
mod tokens;

pub use board::board;
pub use calls::calls;
pub use conversation::conversation;
pub use convert::{checkpoint, texts};
pub use model::{gguf, metadata, packed, split};
pub use saved::saved;
pub use schema::schema;
pub use service::{body, head};
pub use template::template;
pub use tokens::{marked, vocabulary};

/// A function of bytes.
pub type Target = fn(&[u8]);

/// All of them by name, the most exposed first.
pub const TARGETS: [(&str, Target); 16] = [
    ("body", body),
    ("head", head),
    ("template", template),
    ("conversation", conversation),
    ("marked", marked),
    ("calls", calls),
    ("schema", schema),
    ("gguf", gguf),
    ("metadata", metadata),
    ("split", split),
    ("packed", packed),
    ("vocabulary", vocabulary),
    ("saved", saved),
    ("checkpoint", checkpoint),
    ("texts", texts),
    ("board", board),
];
