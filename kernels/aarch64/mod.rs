//! Kernels for aarch64 processors, with and without instructions for 8-bit dot products and
//! matrix products.
//!
//! The loops are written once; each variant compiles them with its own features and its own
//! [`Dot`](dot::Dot). NEON is part of every processor that these targets run on, so the kernels in
//! plain Rust are vectorized as they stand and serve where no others are here.

mod block256;
mod dot;
mod encode;
mod i8mm;
mod lanes;
mod plain;
mod q4_0;
mod rows;
mod sketch;

use crate::plain::Plain;
use crate::scalar::attention::{Steps, attend};
use crate::scalar::attention_q8_0::QueryBlock;
use crate::scalar::block256::{Q4_K, Q6_K};
use crate::scalar::plain as formats;
use crate::tokens::{self, Product};
use crate::{Activation, Format, Kernels, KvView, RowLayout, scalar};
use core::arch::aarch64::{float32x4_t, uint16x8_t, vld1q_s8, vst1q_s32};
use core::arch::asm;
use core::marker::PhantomData;
use core::ops::Range;
use half::f16;

use block256::Block256;
use dot::Dot;
use i8mm::PairedRows;
use lanes::Halves;
use rows::{Q4_0, Q8_0, Rows};

/// Eight half-precision values as singles.
#[inline(always)]
fn widen(halves: uint16x8_t) -> (float32x4_t, float32x4_t) {
    let (low, high): (float32x4_t, float32x4_t);
    // SAFETY: the instructions are part of NEON and only touch the registers that are named.
    unsafe {
        asm!(
            "fcvtl {low:v}.4s, {halves:v}.4h",
            "fcvtl2 {high:v}.4s, {halves:v}.8h",
            low = out(vreg) low,
            high = out(vreg) high,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    (low, high)
}

/// Steps of attention by NEON and `D`.
struct Vectors<D>(PhantomData<D>);

impl<D: Dot> Steps for Vectors<D> {
    type Lanes = Halves;

    #[inline(always)]
    fn multiply(keys: &[i8; 256], query: &QueryBlock) -> [i32; 8] {
        let mut out = [0; 8];
        // SAFETY: the query is two vectors and `out` is as large as two. The caller has the variant's
        // features.
        unsafe {
            let query = query.quants.as_ptr();
            let [low, high] = D::interleaved(keys, [vld1q_s8(query), vld1q_s8(query.add(16))]);
            vst1q_s32(out.as_mut_ptr(), low);
            vst1q_s32(out.as_mut_ptr().add(4), high);
        }
        out
    }
}

/// Asks for the first cache lines of `bytes`: enough for the processor to see a stream and follow.
fn prefetch(bytes: &[u8]) {
    for byte in bytes.iter().step_by(64).take(4) {
        let byte = &raw const *byte;
        // SAFETY: a hint reads nothing.
        unsafe { asm!("prfm pldl1keep, [{0}]", in(reg) byte, options(nostack, preserves_flags)) };
    }
}

/// The rounding to half precision.
fn narrow(values: &[f32], halves: &mut [f16]) {
    crate::lanes::narrow::<Halves>(values, halves);
}

/// The 8-bit forms of an activation row.
fn encode(layout: &RowLayout, slab: &mut [f32]) {
    layout.encode(slab, encode::quantize_block);
}

/// A table of kernels compiled with some features, and the function that gives it out: how bytes are
/// multiplied, and the products with grouped Q4_0 matrices and with rows of blocks of 32.
macro_rules! variant {
    ($function:ident, $name:literal, $features:literal, $dot:ty, $grouped:ty, $rows:ident) => {
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
                rows: {
                    let mut rows = scalar::KERNELS.rows;
                    rows[Format::F32 as usize] = product::<Plain<formats::F32, Halves>>;
                    rows[Format::F16 as usize] = product::<Plain<formats::F16, Halves>>;
                    rows[Format::BF16 as usize] = product::<Plain<formats::BF16, Halves>>;
                    rows[Format::Q4_0 as usize] = product::<$rows<Q4_0, $dot>>;
                    rows[Format::Q8_0 as usize] = product::<$rows<Q8_0, $dot>>;
                    rows[Format::Q4_K as usize] = product::<Block256<Q4_K, $dot>>;
                    rows[Format::Q6_K as usize] = product::<Block256<Q6_K, $dot>>;
                    rows
                },
                grouped: product::<$grouped>,
                split,
                columns,
                bound,
                attention,
                narrow,
                encode,
                prefetch,
                ..scalar::KERNELS
            };

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
                    unsafe { q4_0::split::<$dot>(weights, rows, x, out) }
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner(weights, rows, x, out) }
            }

            fn attention(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn inner(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
                    attend::<Vectors<$dot>>(queries, kv, out);
                }
                // SAFETY: the table is given out only where the features exist.
                unsafe { inner(queries, kv, out) }
            }

            fn columns(weights: &[u8], x: &Activation<'_>, rows: Range<usize>, out: &mut [f32]) {
                q4_0::columns(weights, x, rows, out);
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
        }
    };
}

variant!(neon, "neon", "neon", dot::Smlal, q4_0::Grouped<dot::Smlal>, Rows);
variant!(neon_dotprod, "neon-dotprod", "neon,dotprod", dot::Sdot, q4_0::Grouped<dot::Sdot>, Rows);
variant!(neon_i8mm, "neon-i8mm", "neon,dotprod,i8mm", dot::Sdot, i8mm::Grouped, PairedRows);
