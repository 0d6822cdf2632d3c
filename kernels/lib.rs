//! Block formats of GGUF weights and the loops that compute with them.
//!
//! Everything here works on slices that the caller owns: no allocation, no standard library, no
//! knowledge of models. A weight row is a byte slice in one of the [`Format`]s; an activation row
//! is an [`Activation`], the `f32` values together with the 8-bit forms that quantized weights
//! are multiplied with. [`Kernels`] is the table through which a model reaches the loops; a table
//! exists only where its instructions exist.
//!
//! ```text
//!  Format, Layout      RowLayout, Activation      KvView
//!        \                     |                   /
//!         '-----------------  Kernels  -----------'
//!                               |
//!        scalar     x86-64: avx2, avx-vnni, avx512-vnni
//!     (the oracle)  aarch64: neon, neon-dotprod, neon-i8mm
//! ```
//!
//! The [`scalar`] kernels are compiled everywhere and are the oracle for every other variant: all
//! give the same bits. `README.md` in this folder tells of layouts, of variants and of how a kernel is
//! added.
//!
//! # Example
//! Encoding a row of activations and multiplying it with a Q4_0 matrix of one row:
//!
//! ```
//! use half::f16;
//! use wick_kernels::{Encodings, Format, Kernels, Layout, RowLayout};
//!
//! // A block of 32 weights: a scale of 0.5, and quants that stand 1 above 8.
//! let mut weights = [0x99; 18];
//! weights[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
//!
//! let kernels = Kernels::scalar();
//! let layout = RowLayout::new(32, Encodings::default().with(Format::Q4_0.encoding()));
//! let mut slab = vec![0.0; layout.stride()];
//! slab[..32].fill(127.0);
//! kernels.encode()(&layout, &mut slab);
//!
//! let product = kernels.matmul(Format::Q4_0, Layout::Rows).expect("rows have a product");
//! let mut out = [0.0];
//! product(&weights, &[layout.view(&slab)], &mut out);
//! assert_eq!(out, [32.0 * 0.5 * 127.0]);
//! ```
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod activation;
mod attention;
mod format;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod generic;
mod kv;
mod lanes;
mod layout;
mod low_bit;
pub mod scalar;
mod sketch;
mod table;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use activation::{Activation, ActivationMut, Encodings, Q8, Q8Mut, RowLayout};
pub use format::{Encoding, Format};
pub use kv::{KvCells, KvView, Q8Cells, Q8CellsMut, store_key_q8_0, store_value_q8_0};
pub use layout::{GROUP, Layout};
pub use low_bit::{LOW_QUANTS, low_bit_bytes};
pub use sketch::{sketch, sketch_bytes};
pub use table::{
    Attention, Axpy, BoundRows, Encode, Kernels, MatMul, Narrow, PickRows, Prefetch, SumColumns,
};

/// Keys per tile of the online softmax. Tiles start at absolute positions that are multiples of
/// this, so that the order of sums does not depend on how a KV cache is laid out; the length of a
/// ring must be a multiple of it.
pub const KEY_TILE: usize = 64;
