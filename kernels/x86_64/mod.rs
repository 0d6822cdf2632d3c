//! Kernels for x86-64 processors with AVX2, with and without instructions for 8-bit dot products.
//!
//! The loops are written once; each variant compiles them with its own features and its own
//! [`Dot`].

mod attention;
mod block256;
mod columns;
mod dot;
mod encode;
mod lanes;
mod plain;
mod q4_0;
mod rows;
mod sketch;
mod split;
mod transpose;

use crate::Activation;
use crate::activation::Block;
use crate::generic::block256::Block256;
use crate::generic::grouped::Grouped;
use crate::generic::rows::Rows;
use crate::generic::variant::{Variant, variant};
use crate::scalar::block256::{Q4_K, Q6_K};
use core::arch::x86_64::{__m256, _MM_HINT_T1, _mm_prefetch};
use core::marker::PhantomData;
use core::ops::Range;

use columns::{ByFours, ByPairs, Columns};
use dot::{Dot, Maddubs, Vnni, Vnni512};
use rows::{Eight, LANES, Q4_0, Q8_0};
use split::{ByEight, BySixteen, Split};

/// A variant that multiplies bytes by `D`, sums columns by `C` and picks rows by `S`.
struct Avx<D, C, S>(PhantomData<(D, C, S)>);

impl<D: Dot, C: Columns, S: Split> Variant for Avx<D, C, S> {
    const PLAIN: bool = true;
    type Lanes = __m256;
    type Attention = attention::Vectors<D>;
    type Sketch = sketch::Crumbs<D>;
    type Q4_0 = Rows<Eight<Q4_0, D>, LANES>;
    type Q8_0 = Rows<Eight<Q8_0, D>, LANES>;
    type Q4_K = Block256<block256::By<Q4_K, D>>;
    type Q6_K = Block256<block256::By<Q6_K, D>>;
    type Grouped = Grouped<q4_0::ByLanes<D>>;

    #[inline(always)]
    unsafe fn pick_rows(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]) {
        // SAFETY: the caller has the variant's features.
        unsafe { S::pick_rows(weights, rows, x, out) }
    }

    #[inline(always)]
    unsafe fn sum_columns(weights: &[u8], x: &Activation<'_>, rows: Range<usize>, out: &mut [f32]) {
        // SAFETY: the caller has the variant's features.
        unsafe { columns::multiply::<C>(weights, x, rows, out) }
    }

    #[inline(always)]
    unsafe fn quantize_block(values: &[f32; 32]) -> Block {
        // SAFETY: the caller has the variant's features.
        unsafe { encode::quantize_block(values) }
    }

    /// Asks for every cache line of `bytes`, for the second-level cache: the first-level one has few
    /// places for what is on its way, and a burst of requests that finds them taken is forgotten.
    fn prefetch(bytes: &[u8]) {
        // Lines of 64 bytes from the first, which need not start at one, and the last.
        for byte in bytes.iter().step_by(64).chain(bytes.last()) {
            // SAFETY: a hint reads nothing, and SSE is part of every x86-64 processor.
            unsafe { _mm_prefetch::<_MM_HINT_T1>((&raw const *byte).cast()) };
        }
    }
}

variant!(avx2, "avx2", "avx2,f16c", Avx<Maddubs, ByPairs, ByEight<Maddubs>>);
variant!(avx_vnni, "avx-vnni", "avx2,f16c,avxvnni", Avx<Vnni, ByPairs, ByEight<Vnni>>);
variant!(
    avx512_vnni,
    "avx512-vnni",
    "avx2,f16c,avx512bw,avx512vl,avx512vnni",
    Avx<Vnni512, ByFours, BySixteen>
);
