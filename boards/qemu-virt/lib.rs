//! What wick needs where there is no operating system, but for the machine itself: settings from the
//! boot arguments, a chat template, lines from a terminal, cores that compute together, and experts
//! read from a disk that answers in its own time. All of it is tested on any machine; `main.rs` and
//! what it names is the image for QEMU's `virt` board.
//!
//! ```text
//!   boot arguments ──► settings     serial line ──► line ──► chat ──► wick-session
//!   virtio disk ──► disk ──► store (ExpertStore)    PSCI cores ──► cores (Parallel)
//! ```
//!
//! ```
//! use wick_virt::settings::{Settings, Slots};
//!
//! let settings = Settings::parse("slots=half context=256").unwrap();
//! assert_eq!((settings.slots, settings.context), (Slots::Half, Some(256)));
//! ```
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod chat;
pub mod cores;
pub mod disk;
pub mod line;
pub mod settings;
pub mod store;
