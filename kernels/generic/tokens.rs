//! Products with several activation rows, which share one pass over the weights.

use crate::Activation;

/// Activation rows that share one pass.
const TOKENS: usize = 4;

/// A product with a fixed number of activation rows, which a variant compiles with its features.
pub(crate) trait Product {
    /// [`crate::MatMul`] for `T` rows of activations.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]);
}

/// The product with any number of activation rows.
///
/// # Safety
/// The processor has the variant's features.
#[inline(always)]
pub(crate) unsafe fn multiply<P: Product>(weights: &[u8], xs: &[Activation<'_>], out: &mut [f32]) {
    let rows = out.len() / xs.len().max(1);
    for (xs, out) in xs.chunks(TOKENS).zip(out.chunks_mut((TOKENS * rows).max(1))) {
        // SAFETY: the caller has the variant's features.
        unsafe {
            match xs {
                [a] => P::multiply(weights, [a], out),
                [a, b] => P::multiply(weights, [a, b], out),
                [a, b, c] => P::multiply(weights, [a, b, c], out),
                [a, b, c, d] => P::multiply(weights, [a, b, c, d], out),
                _ => unreachable!("chunks have 1 to {TOKENS} rows"),
            }
        }
    }
}
