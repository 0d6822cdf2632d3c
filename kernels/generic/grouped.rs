//! Products with grouped matrices: how many groups of rows are taken at a time.

use super::tokens::Product;
use crate::activation::count_blocks;
use crate::layout::{BLOCK, GROUP, GROUP_BLOCK};
use crate::{Activation, Q8};
use core::marker::PhantomData;

/// The products with some groups of rows, which a variant compiles with its features.
pub(crate) trait Groups {
    /// The most tokens that leave registers for two groups, which share what is loaded of a token.
    const PAIRED: usize;

    /// The products with `G` groups of rows.
    ///
    /// # Safety
    /// The groups lie in `weights`, the activation rows are equally long, and `out` has `T` rows of
    /// `rows` values; the processor has the variant's features.
    unsafe fn multiply<const T: usize, const G: usize>(
        weights: &[u8],
        group: usize,
        xs: [&Q8<'_>; T],
        rows: usize,
        out: &mut [f32],
    );
}

/// The product with a [`Layout::Grouped`](crate::Layout::Grouped) matrix: a row in each lane.
pub(crate) struct Grouped<K>(PhantomData<K>);

impl<K: Groups> Product for Grouped<K> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        let xs = xs.map(|x| &x.q8_0);
        let blocks = count_blocks(xs, BLOCK, BLOCK);
        let rows = out.len() / T;
        let groups = rows / GROUP;
        assert!(weights.len() >= groups * blocks * GROUP_BLOCK && rows.is_multiple_of(GROUP));
        let pairs = if T <= K::PAIRED { groups / 2 * 2 } else { 0 };
        for group in (0..pairs).step_by(2) {
            // SAFETY: as for single groups below.
            unsafe { K::multiply::<T, 2>(weights, group, xs, rows, out) };
        }
        for group in pairs..groups {
            // SAFETY: the asserts above keep every access inside its slice: a group has `blocks`
            // blocks of `GROUP_BLOCK` bytes, an activation row as many of `BLOCK` quants, and each
            // row of `out` has 8 values for each group. The caller has the variant's features.
            unsafe { K::multiply::<T, 1>(weights, group, xs, rows, out) };
        }
    }
}
