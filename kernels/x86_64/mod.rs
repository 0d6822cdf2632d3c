//! Kernels for x86-64 processors with AVX2, with and without instructions for 8-bit dot products.
//!
//! The loops are written once; each variant compiles them with its own features and its own
//! [`Dot`](dot::Dot).

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

use crate::plain::Plain;
use crate::scalar::attention::{Steps, attend};
use crate::scalar::attention_q8_0::QueryBlock;
use crate::scalar::block32::Rows32;
use crate::scalar::block256::Rows256;
use crate::scalar::{Row, block32, block256 as k_quants, matmul_rows, plain as formats};
use crate::tokens::{self, Product};
use crate::{Activation, Format, Kernels, KvView, RowLayout, scalar};
use core::arch::x86_64::{
    __m256, _MM_HINT_T1, _mm_prefetch, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_si256,
};
use core::marker::PhantomData;
use core::ops::Range;
use half::f16;

use block256::Block256;
use dot::Dot;
use rows::{Q4_0, Q8_0, Rows};

/// Steps of attention by vectors and `D`.
struct Vectors<D>(PhantomData<D>);

impl<D: Dot> Steps for Vectors<D> {
    type Lanes = __m256;

    #[inline(always)]
    fn multiply(keys: &[i8; 256], query: &QueryBlock) -> [i32; 8] {
        let mut out = [0; 8];
        // SAFETY: keys are 8 vectors, the query 8 pieces of four bytes, and `out` is as large as a
        // vector. The caller has the variant's features.
        unsafe {
            let mut sums = _mm256_set1_epi32(-D::BIAS * query.sum);
            for piece in 0..8 {
                let keys = _mm256_loadu_si256(keys.as_ptr().add(32 * piece).cast());
                let query = query.quants.as_ptr().add(4 * piece).cast::<i32>().read_unaligned();
                sums = D::add_signed(sums, keys, _mm256_set1_epi32(query));
            }
            _mm256_storeu_si256(out.as_mut_ptr().cast(), sums);
        }
        out
    }
}

/// Asks for every cache line of `bytes`, for the second-level cache: the first-level one has few places
/// for what is on its way, and a burst of requests that finds them taken is forgotten.
fn prefetch(bytes: &[u8]) {
    // Lines of 64 bytes from the first, which need not start at one, and the last.
    for byte in bytes.iter().step_by(64).chain(bytes.last()) {
        // SAFETY: a hint reads nothing, and SSE is part of every x86-64 processor.
        unsafe { _mm_prefetch::<_MM_HINT_T1>((&raw const *byte).cast()) };
    }
}

/// A table of kernels compiled with some features, and the function that gives it out.
macro_rules! variant {
    ($function:ident, $name:literal, $features:literal, $dot:ty, $split:path, $columns:ty) => {
        impl Kernels {
            #[doc = concat!("The `", $name, "` kernels.")]
            ///
            /// # Safety
            #[doc = concat!("The processor must have the features ", $features, ".")]
            pub unsafe fn $function() -> &'static Kernels {
                &$function::KERNELS
            }
        }

        mod $function {
            use super::*;

            pub(super) static KERNELS: Kernels = Kernels {
                name: $name,
                rows: [
                    product::<Plain<formats::F32, __m256>>,
                    product::<Plain<formats::F16, __m256>>,
                    product::<Plain<formats::BF16, __m256>>,
                    product::<Rows<Q4_0, $dot>>,
                    rows::<Rows32<block32::Q4_1>>,
                    rows::<Rows32<block32::Q5_0>>,
                    rows::<Rows32<block32::Q5_1>>,
                    product::<Rows<Q8_0, $dot>>,
                    rows::<Rows256<k_quants::Q2_K>>,
                    rows::<Rows256<k_quants::Q3_K>>,
                    product::<Block256<k_quants::Q4_K, $dot>>,
                    rows::<Rows256<k_quants::Q5_K>>,
                    product::<Block256<k_quants::Q6_K, $dot>>,
                ],
                grouped: product::<q4_0::Grouped<$dot>>,
                split,
                columns,
                bound,
                axpy,
                attention,
                narrow,
                encode,
                prefetch,
            };

            fn rows<R: Row>(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn inner<R: Row>(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
                    matmul_rows::<R>(weights, xs, out);
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner::<R>(weights, xs, out) }
            }

            fn product<P: Product>(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn inner<P: Product>(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
                    // SAFETY: this function has the features.
                    unsafe { tokens::multiply::<P>(weights, xs, out) }
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner::<P>(weights, xs, out) }
            }

            fn split(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn inner(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]) {
                    // SAFETY: this function has the features.
                    unsafe { $split(weights, rows, x, out) }
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner(weights, rows, x, out) }
            }

            fn columns(weights: &[u8], x: &Activation<'_>, rows: Range<usize>, out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn inner(weights: &[u8], x: &Activation<'_>, rows: Range<usize>, out: &mut [f32]) {
                    // SAFETY: this function has the features.
                    unsafe { columns::multiply::<$columns>(weights, x, rows, out) }
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner(weights, x, rows, out) }
            }

            fn bound(
                weights: &[u8],
                rows: Range<usize>,
                x: &Activation<'_>,
                spreads: &[f32],
                out: &mut [f32],
            ) {
                #[target_feature(enable = $features)]
                fn inner(
                    weights: &[u8],
                    rows: Range<usize>,
                    x: &Activation<'_>,
                    spreads: &[f32],
                    out: &mut [f32],
                ) {
                    // SAFETY: this function has the features.
                    unsafe { sketch::bound::<$dot>(weights, rows, x, spreads, out) }
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner(weights, rows, x, spreads, out) }
            }

            fn axpy(format: Format, row: &[u8], factor: f32, out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn inner(format: Format, row: &[u8], factor: f32, out: &mut [f32]) {
                    scalar::axpy(format, row, factor, out);
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner(format, row, factor, out) }
            }

            fn attention(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn inner(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
                    attend::<Vectors<$dot>>(queries, kv, out);
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner(queries, kv, out) }
            }

            fn narrow(values: &[f32], halves: &mut [f16]) {
                #[target_feature(enable = $features)]
                fn inner(values: &[f32], halves: &mut [f16]) {
                    crate::lanes::narrow::<__m256>(values, halves);
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner(values, halves) }
            }

            fn encode(layout: &RowLayout, slab: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn inner(layout: &RowLayout, slab: &mut [f32]) {
                    // SAFETY: this function has the features.
                    layout.encode(slab, |block| unsafe { encode::quantize_block(block) });
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner(layout, slab) }
            }
        }
    };
}

variant!(
    avx2,
    "avx2",
    "avx2,f16c",
    dot::Maddubs,
    split::by_eight::<dot::Maddubs>,
    columns::ByPairs
);
variant!(
    avx_vnni,
    "avx-vnni",
    "avx2,f16c,avxvnni",
    dot::Vnni,
    split::by_eight::<dot::Vnni>,
    columns::ByPairs
);
variant!(
    avx512_vnni,
    "avx512-vnni",
    "avx2,f16c,avx512bw,avx512vl,avx512vnni",
    dot::Vnni512,
    split::by_sixteen,
    columns::ByFours
);
