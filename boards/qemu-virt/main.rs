//! wick as the only program of a machine: answers on its serial line what is typed there.
//!
//! The image is built for `aarch64-unknown-none`:
//!
//! ```text
//! cargo build --release -p wick-virt --target aarch64-unknown-none
//! ```
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod image;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("wick-virt runs without an operating system: build it for aarch64-unknown-none");
    std::process::exit(2);
}
