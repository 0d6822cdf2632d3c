//! Kernels for aarch64 processors, with and without instructions for 8-bit dot products and
//! matrix products.
//!
//! The loops are written once; each variant compiles them with its own features and its own
//! [`Dot`]. NEON is part of every processor that these targets run on, so the kernels in plain Rust
//! are vectorized as they stand and serve where no others are here.

mod attention;
mod block256;
mod dot;
mod encode;
mod i8mm;
mod lanes;
mod plain;
mod q4_0;
mod rows;
mod sketch;

use crate::Activation;
use crate::activation::Block;
use crate::generic::block256::Block256;
use crate::generic::grouped::Grouped;
use crate::generic::rows::Rows;
use crate::generic::tokens::Product;
use crate::generic::variant::{Variant, variant};
use crate::scalar::block256::{Q4_K, Q6_K};
use core::arch::asm;
use core::marker::PhantomData;
use core::ops::Range;

use dot::{Dot, Sdot, Smlal};
use i8mm::PairedRows;
use lanes::Halves;
use rows::{Four, LANES, Q4_0, Q8_0};

/// A variant that multiplies bytes by `D`, and several tokens by `M`.
struct Neon<D, M>(PhantomData<(D, M)>);

/// How a variant multiplies matrices in blocks of 32 with several tokens.
trait Matrices {
    type Grouped: Product;
    type Q4_0: Product;
    type Q8_0: Product;
}

/// By the instructions that a single token is multiplied by.
struct ByRows<D>(PhantomData<D>);

impl<D: Dot> Matrices for ByRows<D> {
    type Grouped = Grouped<q4_0::ByLanes<D>>;
    type Q4_0 = Rows<Four<Q4_0, D>, LANES>;
    type Q8_0 = Rows<Four<Q8_0, D>, LANES>;
}

/// By 8-bit matrix multiplication.
struct ByPairs;

impl Matrices for ByPairs {
    type Grouped = i8mm::Grouped;
    type Q4_0 = PairedRows<Q4_0, Sdot>;
    type Q8_0 = PairedRows<Q8_0, Sdot>;
}

impl<D: Dot, M: Matrices> Variant for Neon<D, M> {
    const PLAIN: bool = false;
    type Lanes = Halves;
    type Attention = attention::Vectors<D>;
    type Sketch = sketch::Crumbs<D>;
    type Q4_0 = M::Q4_0;
    type Q8_0 = M::Q8_0;
    type Q4_K = Block256<block256::By<Q4_K, D>>;
    type Q6_K = Block256<block256::By<Q6_K, D>>;
    type Grouped = M::Grouped;

    #[inline(always)]
    unsafe fn pick_rows(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]) {
        // SAFETY: the caller has the variant's features.
        unsafe { q4_0::split::<D>(weights, rows, x, out) }
    }

    #[inline(always)]
    unsafe fn sum_columns(weights: &[u8], x: &Activation<'_>, rows: Range<usize>, out: &mut [f32]) {
        q4_0::columns(weights, x, rows, out);
    }

    #[inline(always)]
    unsafe fn quantize_block(values: &[f32; 32]) -> Block {
        encode::quantize_block(values)
    }

    /// Asks for the first cache lines of `bytes`: enough for the processor to see a stream and follow.
    fn prefetch(bytes: &[u8]) {
        for byte in bytes.iter().step_by(64).take(4) {
            let byte = &raw const *byte;
            // SAFETY: a hint reads nothing.
            unsafe {
                asm!("prfm pldl1keep, [{0}]", in(reg) byte, options(nostack, preserves_flags))
            };
        }
    }
}

variant!(neon, "neon", "neon", Neon<Smlal, ByRows<Smlal>>);
variant!(neon_dotprod, "neon-dotprod", "neon,dotprod", Neon<Sdot, ByRows<Sdot>>);
variant!(neon_i8mm, "neon-i8mm", "neon,dotprod,i8mm", Neon<Sdot, ByPairs>);
