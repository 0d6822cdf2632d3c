//! Products with matrices of blocks of 32 as they lie in a file.
//!
//! Some rows are multiplied side by side, or as many blocks of a row that is left over. Within a row,
//! blocks are scaled and added one after another, as the scalar kernels do, so results are the same
//! bits.

use super::tokens::Product;
use crate::activation::count_blocks;
use crate::layout::BLOCK;
use crate::{Activation, Format, Q8};
use core::marker::PhantomData;

/// Bytes of the scale that a block begins with.
pub(crate) const SCALE: usize = 2;

/// Products of `LANES` blocks side by side.
pub(crate) trait SideBySide<const LANES: usize> {
    /// The format, whose blocks are a scale and 32 quants.
    const FORMAT: Format;
    /// A total in each lane.
    type Totals: Copy;

    /// Zeros.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn zero() -> Self::Totals;

    /// Adds to the totals of some rows, for each of `xs`, the products of their blocks `b` with
    /// block `b` of `xs`.
    ///
    /// # Safety
    /// There are such blocks, and the processor has the variant's features.
    unsafe fn add_rows<const T: usize>(
        totals: &mut [Self::Totals; T],
        starts: [*const u8; LANES],
        xs: [&Q8<'_>; T],
        b: usize,
    );

    /// The products of `count` blocks from `first` on of the row that starts at a place with the same
    /// blocks of `x`. Lanes without a block repeat the last one.
    ///
    /// # Safety
    /// There are such blocks, and the processor has the variant's features.
    unsafe fn blocks(start: *const u8, x: &Q8<'_>, first: usize, count: usize) -> [f32; LANES];

    /// Stores totals.
    ///
    /// # Safety
    /// `out` has room for them, and the processor has the variant's features.
    unsafe fn store(totals: Self::Totals, out: *mut f32);

    /// Asks for some bytes, for the second-level cache. Where nothing is done, memory is left to see
    /// what comes.
    #[inline(always)]
    fn prefetch(_place: *const u8, _bytes: usize) {}
}

/// The product with rows, `LANES` at a time.
pub(crate) struct Rows<S, const LANES: usize>(PhantomData<S>);

impl<S: SideBySide<LANES>, const LANES: usize> Product for Rows<S, LANES> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        let xs = xs.map(|x| &x.q8_0);
        let blocks = count_blocks(xs, BLOCK, BLOCK);
        let (rows, row_bytes) = (out.len() / T, blocks * S::FORMAT.block_bytes());
        assert!(weights.len() >= rows * row_bytes && out.len() == T * rows);
        let whole = rows - rows % LANES;
        // SAFETY: the asserts above keep every access inside its slice: a row of weights has
        // `blocks` blocks, an activation row as many of `BLOCK` quants, and each row of `out` has
        // `rows` values. The caller has the variant's features.
        unsafe {
            for first in (0..whole).step_by(LANES) {
                let row = |i| weights.as_ptr().add((first + i) * row_bytes);
                let totals = some_rows::<S, LANES, T>(core::array::from_fn(row), blocks, xs);
                for (t, totals) in totals.into_iter().enumerate() {
                    S::store(totals, out.as_mut_ptr().add(t * rows + first));
                }
            }
            for row in whole..rows {
                for (t, x) in xs.iter().enumerate() {
                    let start = weights.as_ptr().add(row * row_bytes);
                    out[t * rows + row] = one_row::<S, LANES>(start, blocks, x);
                }
            }
        }
    }
}

/// The products of the rows of weights that start at some places.
///
/// # Safety
/// The rows are there, each of `xs` has as many blocks, and the processor has the variant's features.
#[inline(always)]
unsafe fn some_rows<S: SideBySide<LANES>, const LANES: usize, const T: usize>(
    starts: [*const u8; LANES],
    blocks: usize,
    xs: [&Q8<'_>; T],
) -> [S::Totals; T] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut totals = [S::zero(); T];
        for b in 0..blocks {
            // With more tokens, time is spent on products, and weights come by themselves.
            if T <= 2 {
                let bytes = LANES * S::FORMAT.block_bytes();
                S::prefetch(starts[0].wrapping_add((blocks + b) * bytes), bytes);
            }
            S::add_rows::<T>(&mut totals, starts, xs, b);
        }
        totals
    }
}

/// The product of the row of weights that starts at a place.
///
/// # Safety
/// The row is there, `x` has as many blocks, and the processor has the variant's features.
#[inline(always)]
unsafe fn one_row<S: SideBySide<LANES>, const LANES: usize>(
    start: *const u8,
    blocks: usize,
    x: &Q8<'_>,
) -> f32 {
    let mut total = 0.0;
    for first in (0..blocks).step_by(LANES) {
        let count = LANES.min(blocks - first);
        // SAFETY: the caller's promise.
        let values = unsafe { S::blocks(start, x, first, count) };
        values[..count].iter().for_each(|value| total += value);
    }
    total
}
