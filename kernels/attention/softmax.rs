//! The running softmax of query heads.

use crate::KEY_TILE;
use crate::vector::{add_lanes, exp};

/// Heads whose softmax is kept at a time.
pub(super) const HEADS: usize = 8;

/// The running softmax of a head.
#[derive(Clone, Copy)]
pub(super) struct Softmax {
    /// The largest score so far.
    largest: f32,
    /// Sums of the weights so far; lane `p % 8` sums those of positions `p`.
    totals: [f32; 8],
}

impl Softmax {
    /// Nothing seen.
    pub(super) const START: Softmax = Softmax { largest: f32::NEG_INFINITY, totals: [0.0; 8] };

    /// Turns the scores of a tile's positions (−∞ where one is not attended to) into weights, and
    /// scales what was summed with the weights of earlier tiles accordingly.
    #[inline(always)]
    pub(super) fn weigh(&mut self, scores: &mut [f32; KEY_TILE], out: &mut [f32]) {
        let mut largest = [self.largest; 8];
        for group in scores.as_chunks::<8>().0 {
            for (largest, score) in largest.iter_mut().zip(group) {
                *largest = larger(*largest, *score);
            }
        }
        let largest = largest.into_iter().fold(self.largest, larger);
        let shrink = exp(self.largest - largest);
        self.largest = largest;
        self.totals = self.totals.map(|total| total * shrink);
        out.iter_mut().for_each(|y| *y *= shrink);
        // A loop for each step: one that did both would not become vector instructions.
        scores.iter_mut().for_each(|score| *score = exp(*score - largest));
        for group in scores.as_chunks::<8>().0 {
            self.totals.iter_mut().zip(group).for_each(|(total, weight)| *total += weight);
        }
    }
}

/// Turns sums of weighted values into means, head by head.
#[inline(always)]
pub(super) fn divide_by_totals(out: &mut [f32], head: usize, state: &[Softmax]) {
    for (out, state) in out.chunks_exact_mut(head).zip(state) {
        let total = add_lanes(state.totals);
        out.iter_mut().for_each(|y| *y /= total);
    }
}

/// The larger of two numbers; the first if the second is NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}
