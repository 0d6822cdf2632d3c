//! Products with matrices of super-blocks ("K-quants") as they lie in a file.
//!
//! The sums over a super-block are integers, whose order does not matter; super-blocks are scaled
//! and added one after another, as the scalar kernels do, so results are the same bits.

use super::tokens::Product;
use crate::activation::count_blocks;
use crate::{Activation, Format};
use core::marker::PhantomData;

/// Weights in a super-block, and in the groups that an activation row has sums for.
const BLOCK: usize = 256;
const GROUP: usize = 16;
/// Weights in a plane.
const PLANE: usize = 32;

/// What a super-block has besides its quants.
pub(crate) struct Head<S, W> {
    pub(crate) scale: f32,
    /// What `minimums` are scaled with, unless they are part of the quants' own sum.
    pub(crate) minimum: f32,
    /// The scale of each group.
    pub(crate) scales: S,
    /// What the sum of each group of activations is multiplied with and taken away.
    pub(crate) minimums: W,
}

/// Sums of integer products in a vector.
pub(crate) trait Sums: Copy {
    /// A word for each of 16 groups.
    type Words: Copy;

    /// Zeros.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn zero() -> Self;
    /// Products of words with those at a place.
    ///
    /// # Safety
    /// There are 16 words, and the processor has the variant's features.
    unsafe fn words(words: Self::Words, others: *const i16) -> Self;
    /// `self − other`.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn minus(self, other: Self) -> Self;
    /// The sum of all.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn total(self) -> i32;
}

/// A format's super-block, by a variant's vectors. Quants come in planes of 32.
pub(crate) trait SuperBlock {
    const FORMAT: Format;
    /// Whether the minimums have a scale of their own.
    const MINIMUM: bool;
    /// 32 quants.
    type Plane: Copy;
    /// The scales of a super-block's groups.
    type Scales;
    /// Those of the two groups of a plane.
    type Pair: Copy;
    type Sums: Sums;

    /// What the super-block has besides its quants.
    ///
    /// # Safety
    /// There is a whole super-block, and the processor has the variant's features.
    unsafe fn head(block: *const u8) -> Head<Self::Scales, <Self::Sums as Sums>::Words>;
    /// Four planes, the first or the second half of the quants, from 0 up.
    ///
    /// # Safety
    /// There is a whole super-block, and the processor has the variant's features.
    unsafe fn planes(block: *const u8, half: usize) -> [Self::Plane; 4];
    /// The scales of the groups of a plane.
    ///
    /// # Safety
    /// The processor has the variant's features.
    unsafe fn pair(scales: &Self::Scales, plane: usize) -> Self::Pair;
    /// Adds the product of a plane with activations, whose groups are multiplied by `scales`.
    ///
    /// # Safety
    /// There are 32 activations at `x`, and the processor has the variant's features.
    unsafe fn add(
        sums: Self::Sums,
        quants: Self::Plane,
        x: *const i8,
        scales: Self::Pair,
    ) -> Self::Sums;
}

/// The product with rows of super-blocks `B`.
pub(crate) struct Block256<B>(PhantomData<B>);

impl<B: SuperBlock> Product for Block256<B> {
    #[inline(always)]
    unsafe fn multiply<const T: usize>(weights: &[u8], xs: [&Activation<'_>; T], out: &mut [f32]) {
        let xs = xs.map(|x| &x.q8_k);
        let blocks = count_blocks(xs, BLOCK, GROUP);
        let rows = out.len() / T;
        let row_bytes = blocks * B::FORMAT.block_bytes();
        assert!(weights.len() >= rows * row_bytes);
        for row in 0..rows {
            let mut totals = [0f32; T];
            for b in 0..blocks {
                // SAFETY: the asserts above keep every access inside its slice: a row of weights
                // has `blocks` super-blocks, an activation row as many of `BLOCK` quants and of a
                // sum for each `GROUP` of them. The caller has the variant's features.
                unsafe {
                    let block = weights.as_ptr().add(row * row_bytes + b * B::FORMAT.block_bytes());
                    let head = B::head(block);
                    let mut sums = [B::Sums::zero(); T];
                    for half in 0..2 {
                        for (i, quants) in B::planes(block, half).into_iter().enumerate() {
                            let plane = half * 4 + i;
                            let scales = B::pair(&head.scales, plane);
                            for (sums, x) in sums.iter_mut().zip(xs) {
                                let x = x.quants.as_ptr().add(b * BLOCK + plane * PLANE);
                                *sums = B::add(*sums, quants, x, scales);
                            }
                        }
                    }
                    for ((total, sums), x) in totals.iter_mut().zip(sums).zip(xs) {
                        let groups = x.sums.as_ptr().add(b * BLOCK / GROUP);
                        let minimums = B::Sums::words(head.minimums, groups);
                        let scale = *x.scales.get_unchecked(b);
                        if B::MINIMUM {
                            *total += scale * head.scale * sums.total() as f32;
                            *total -= scale * head.minimum * minimums.total() as f32;
                        } else {
                            *total += scale * head.scale * sums.minus(minimums).total() as f32;
                        }
                    }
                }
            }
            for (t, total) in totals.into_iter().enumerate() {
                out[t * rows + row] = total;
            }
        }
    }
}
