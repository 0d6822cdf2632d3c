//! Products with plain floating-point matrices by vector units.
//!
//! Rows stand side by side; within a row, each of eight lanes adds as the scalar kernel does, so
//! results are the same bits.

use super::tokens::Product;
use crate::Activation;
use crate::lanes::Lanes;
use crate::scalar::row::{Row, matmul_rows};
use core::marker::PhantomData;

/// Rows side by side, so that additions need not wait for each other.
const ROWS: usize = 4;

/// A format whose weights are widened eight at a time.
pub(crate) trait Widen<L>: Row {
    /// The eight weights at `weights`.
    ///
    /// # Safety
    /// There are eight weights, at any address, and the processor has the variant's features.
    unsafe fn widen(weights: *const u8) -> L;
}

/// The product with a matrix of the format `W` in lanes of `L`.
pub(crate) struct Plain<W, L>(PhantomData<(W, L)>);

impl<L: Lanes, W: Widen<L>> Product for Plain<W, L> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        let cols = xs[0].values.len();
        if !cols.is_multiple_of(8) {
            return matmul_rows::<W>(weights, &xs.map(|x| *x), out);
        }
        let bytes = W::FORMAT.block_bytes();
        let rows = out.len() / T;
        assert!(weights.len() >= rows * cols * bytes);
        assert!(xs.iter().all(|x| x.values.len() == cols));
        for first in (0..rows).step_by(ROWS) {
            for (t, x) in xs.into_iter().enumerate() {
                let out = &mut out[t * rows..][first..rows.min(first + ROWS)];
                // SAFETY: the asserts above keep every access inside its slice; lanes without a row
                // repeat the last one. The caller has the variant's features.
                unsafe {
                    let starts: [*const u8; ROWS] = core::array::from_fn(|i| {
                        weights.as_ptr().add((first + i).min(rows - 1) * cols * bytes)
                    });
                    let mut sums = [L::zero(); ROWS];
                    for col in (0..cols).step_by(8) {
                        let x = L::load(&*x.values.as_ptr().add(col).cast());
                        // The next rows are asked for a cache line at a time.
                        let line = (col * bytes).is_multiple_of(64);
                        for (sum, row) in sums.iter_mut().zip(starts) {
                            if T == 1 && line {
                                L::prefetch(row.wrapping_add((ROWS * cols + col) * bytes));
                            }
                            *sum = sum.add_product(W::widen(row.add(col * bytes)), x);
                        }
                    }
                    for (y, sum) in out.iter_mut().zip(sums) {
                        *y = sum.sum();
                    }
                }
            }
        }
    }
}
