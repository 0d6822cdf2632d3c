//! What wick needs where there is no operating system, but for the machine itself: settings from the
//! boot arguments, a chat template, lines from a terminal, cores that compute together, and experts
//! read from a disk that answers in its own time. All of it is tested on any machine; `main.rs` and
//! what it names is the image for QEMU's `virt` board.
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
