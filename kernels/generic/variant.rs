//! Tables of kernels that are compiled with some processor features.

use super::tokens::Product;
use crate::Activation;
use crate::activation::Block;
use crate::attention::Steps;
use crate::generic::sketch::SketchDot;
use crate::lanes::Lanes;
use core::ops::Range;

/// What a variant's table is made of.
pub(crate) trait Variant {
    /// Whether plain Rust gains from the variant's features, so that what has no kernel of its own is
    /// compiled with them.
    const PLAIN: bool;
    /// Eight singles.
    type Lanes: Lanes;
    /// Attention.
    type Attention: Steps;
    /// Likely upper bounds of products.
    type Sketch: SketchDot;
    /// Products with [`crate::Layout::Rows`] matrices.
    type Q4_0: Product;
    /// The same.
    type Q8_0: Product;
    /// The same.
    #[allow(non_camel_case_types, reason = "the format's own name")]
    type Q4_K: Product;
    /// The same.
    #[allow(non_camel_case_types, reason = "the format's own name")]
    type Q6_K: Product;
    /// Products with [`crate::Layout::Grouped`] matrices.
    type Grouped: Product;

    /// [`crate::PickRows`].
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn pick_rows(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]);

    /// [`crate::SumColumns`].
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn sum_columns(weights: &[u8], x: &Activation<'_>, rows: Range<usize>, out: &mut [f32]);

    /// [`crate::activation::quantize_block`], with the same bits.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn quantize_block(values: &[f32; 32]) -> Block;

    /// [`crate::Prefetch`].
    fn prefetch(bytes: &[u8]);
}

/// Functions that are compiled with some features, and may be called by a table that is given out only
/// where these exist.
macro_rules! compiled {
    ($features:literal, $(
        fn $name:ident $(<$type:ident: $bound:ident>)? ($($arg:ident: $of:ty),* $(,)?) $body:block
    )*) => {$(
        fn $name $(<$type: $bound>)? ($($arg: $of),*) {
            /// The same where the features exist.
            ///
            /// # Safety
            /// The processor has them.
            #[target_feature(enable = $features)]
            fn inner $(<$type: $bound>)? ($($arg: $of),*) $body
            // SAFETY: the table is given out only where the features exist.
            unsafe { inner $(::<$type>)? ($($arg),*) }
        }
    )*};
}

/// The table of a [`Variant`], compiled with its features, and the function that gives it out.
macro_rules! variant {
    ($function:ident, $name:literal, $features:literal, $variant:ty) => {
        impl $crate::Kernels {
            #[doc = concat!("The `", $name, "` kernels.")]
            ///
            /// # Safety
            #[doc = concat!("The processor has the features ", $features, ".")]
            pub unsafe fn $function() -> &'static $crate::Kernels {
                &$function::KERNELS
            }
        }

        mod $function {
            use super::*;
            use core::ops::Range;
            use half::f16;
            use $crate::attention::attend;
            use $crate::generic::plain::Plain;
            use $crate::generic::sketch;
            use $crate::generic::tokens::{self, Product};
            use $crate::generic::variant::{Variant, compiled};
            use $crate::scalar::block32::{Q4_1, Q5_0, Q5_1, Rows32};
            use $crate::scalar::block256::{Q2_K, Q3_K, Q5_K, Rows256};
            use $crate::scalar::plain::{BF16, F16, F32};
            use $crate::scalar::row::{Row, matmul_rows};
            use $crate::table::{Kernels, RowProducts};
            use $crate::{Activation, Format, KvView, RowLayout, lanes, scalar};

            type V = $variant;
            type Lanes = <V as Variant>::Lanes;
            const PLAIN: bool = V::PLAIN;

            pub(super) static KERNELS: Kernels = Kernels {
                name: $name,
                rows: RowProducts {
                    f32: product::<Plain<F32, Lanes>>,
                    f16: product::<Plain<F16, Lanes>>,
                    bf16: product::<Plain<BF16, Lanes>>,
                    q4_0: product::<<V as Variant>::Q4_0>,
                    q4_1: if PLAIN { rows::<Rows32<Q4_1>> } else { scalar::KERNELS.rows.q4_1 },
                    q5_0: if PLAIN { rows::<Rows32<Q5_0>> } else { scalar::KERNELS.rows.q5_0 },
                    q5_1: if PLAIN { rows::<Rows32<Q5_1>> } else { scalar::KERNELS.rows.q5_1 },
                    q8_0: product::<<V as Variant>::Q8_0>,
                    q2_k: if PLAIN { rows::<Rows256<Q2_K>> } else { scalar::KERNELS.rows.q2_k },
                    q3_k: if PLAIN { rows::<Rows256<Q3_K>> } else { scalar::KERNELS.rows.q3_k },
                    q4_k: product::<<V as Variant>::Q4_K>,
                    q5_k: if PLAIN { rows::<Rows256<Q5_K>> } else { scalar::KERNELS.rows.q5_k },
                    q6_k: product::<<V as Variant>::Q6_K>,
                },
                grouped: product::<<V as Variant>::Grouped>,
                split,
                columns,
                bound,
                axpy: if PLAIN { axpy } else { scalar::KERNELS.axpy },
                attention,
                narrow,
                encode,
                prefetch: <V as Variant>::prefetch,
            };

            compiled! { $features,
                fn rows<R: Row>(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
                    matmul_rows::<R>(weights, xs, out);
                }

                fn product<P: Product>(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
                    // SAFETY: this function has the features.
                    unsafe { tokens::multiply::<P>(weights, xs, out) }
                }

                fn split(weights: &[u8], rows: &[u32], x: &Activation<'_>, out: &mut [f32]) {
                    // SAFETY: this function has the features.
                    unsafe { V::pick_rows(weights, rows, x, out) }
                }

                fn columns(
                    weights: &[u8],
                    x: &Activation<'_>,
                    rows: Range<usize>,
                    out: &mut [f32],
                ) {
                    // SAFETY: this function has the features.
                    unsafe { V::sum_columns(weights, x, rows, out) }
                }

                fn bound(
                    weights: &[u8],
                    rows: Range<usize>,
                    x: &Activation<'_>,
                    spreads: &[f32],
                    out: &mut [f32],
                ) {
                    // SAFETY: this function has the features.
                    unsafe { sketch::bound::<<V as Variant>::Sketch>(weights, rows, x, spreads, out) }
                }

                fn axpy(format: Format, row: &[u8], factor: f32, out: &mut [f32]) {
                    scalar::axpy(format, row, factor, out);
                }

                fn attention(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
                    // SAFETY: this function has the features.
                    unsafe { attend::<<V as Variant>::Attention>(queries, kv, out) }
                }

                fn narrow(values: &[f32], halves: &mut [f16]) {
                    // SAFETY: this function has the features.
                    unsafe { lanes::narrow::<Lanes>(values, halves) }
                }

                fn encode(layout: &RowLayout, slab: &mut [f32]) {
                    // SAFETY: this function has the features.
                    layout.encode(slab, |block| unsafe { V::quantize_block(block) });
                }
            }
        }
    };
}

pub(crate) use {compiled, variant};
