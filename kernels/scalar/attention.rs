//! Attention of a group of query heads over the keys and values that they share.

use super::attention_q8_0::{QueryBlock, attend_q8_0};
use super::vector::{add_lanes, exp};
use crate::kv::TilePart;
use crate::lanes::Lanes;
use crate::{KEY_TILE, KvCells, KvView};
use core::slice::Chunks;
use half::f16;

/// The steps of attention that a variant has instructions for.
pub(crate) trait Steps {
    /// Eight singles.
    type Lanes: Lanes;

    /// The integer products of eight interleaved keys' quants with a block of a query.
    fn multiply(keys: &[i8; 256], query: &QueryBlock) -> [i32; 8];
}

/// One by one.
struct OneByOne;

impl Steps for OneByOne {
    type Lanes = [f32; 8];

    #[inline(always)]
    fn multiply(keys: &[i8; 256], query: &QueryBlock) -> [i32; 8] {
        let mut sums = [0; 8];
        for (keys, query) in keys.as_chunks::<32>().0.iter().zip(query.quants.as_chunks::<4>().0) {
            for (sum, key) in sums.iter_mut().zip(keys.as_chunks::<4>().0) {
                for (k, q) in key.iter().zip(query) {
                    *sum += i32::from(*k) * i32::from(*q);
                }
            }
        }
        sums
    }
}

/// Attention with an online softmax over the positions `kv.from .. kv.to`, tile by tile.
///
/// `queries` and `out` hold the heads of one KV head's group side by side, `kv.head` values each.
/// Scores are scaled by `1 / sqrt(head)`. Keys in Q8_0 are multiplied with queries in Q8_0.
pub fn attention(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
    attend::<OneByOne>(queries, kv, out);
}

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
}

/// The code that every variant of attention is compiled from. Its loops over lanes become vector
/// instructions where the variant has them, and round alike everywhere.
#[inline(always)]
pub(crate) fn attend<S: Steps>(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
    match kv.cells {
        KvCells::F16 { keys, values } => attend_f16::<S>(queries, kv, keys, values, out),
        KvCells::Q8_0 { keys, values } => attend_q8_0::<S>(queries, kv, keys, values, out),
    }
}

#[inline(always)]
fn attend_f16<S: Steps>(
    queries: &[f32],
    kv: &KvView<'_>,
    all_keys: &[f16],
    all_values: &[f16],
    out: &mut [f32],
) {
    let some_heads = HEADS * kv.head;
    for (queries, out) in queries.chunks(some_heads).zip(out.chunks_mut(some_heads)) {
        let mut state = [Softmax::START; HEADS];
        out.fill(0.0);
        let mut tiles = kv.tiles().peekable();
        while let Some(TilePart { row, places }) = tiles.next() {
            // The tile stays in the first-level cache while all heads pass over it.
            let (start, len) = ((row + places.start) * kv.head, places.len() * kv.head);
            let (keys, values) = (&all_keys[start..][..len], &all_values[start..][..len]);
            let tile = Tile { head: kv.head, first: places.start, keys, values };
            let next = tiles.peek().map_or(&[][..], |next| {
                &all_keys[(next.row + next.places.start) * kv.head..][..next.places.len() * kv.head]
            });
            let mut ahead = Ahead { values: values.chunks(kv.head), keys: next.chunks(kv.head) };
            let mut heads = 0..queries.len() / kv.head;
            while !heads.is_empty() {
                // Six heads as twice three, seven as four and three.
                let count = if heads.len() == 6 { 3 } else { heads.len().min(4) };
                let some = heads.start..heads.start + count;
                let values = some.start * kv.head..some.end * kv.head;
                let (queries, out) = (&queries[values.clone()], &mut out[values]);
                match &mut state[some] {
                    [a, b, c, d] => tile.add_to::<S, 4>([a, b, c, d], queries, &mut ahead, out),
                    [a, b, c] => tile.add_to::<S, 3>([a, b, c], queries, &mut ahead, out),
                    [a, b] => tile.add_to::<S, 2>([a, b], queries, &mut ahead, out),
                    [a] => tile.add_to::<S, 1>([a], queries, &mut ahead, out),
                    _ => unreachable!("1 to 4 heads are taken"),
                }
                heads.start += count;
            }
        }
        divide_by_totals(out, kv.head, &state);
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

impl Softmax {
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

/// The larger of two numbers; the first if the second is none.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Rows that are asked for one by one while the first heads meet the keys of a tile.
struct Ahead<'a> {
    /// Of the tile's values, which are then read by columns.
    values: Chunks<'a, f16>,
    /// Of the keys of the next tile.
    keys: Chunks<'a, f16>,
}

impl Ahead<'_> {
    #[inline(always)]
    fn ask<L: Lanes>(&mut self) {
        for row in self.values.next().into_iter().chain(self.keys.next()) {
            row.iter().step_by(32).for_each(|half| L::prefetch((&raw const *half).cast()));
        }
    }
}

/// Keys and values of positions that follow each other.
struct Tile<'a> {
    /// Values of a key.
    head: usize,
    /// The place of the first position in its tile of [`KEY_TILE`].
    first: usize,
    keys: &'a [f16],
    values: &'a [f16],
}

impl Tile<'_> {
    /// Adds the tile to the softmax of `N` heads, which share what is widened.
    #[inline(always)]
    fn add_to<S: Steps, const N: usize>(
        &self,
        state: [&mut Softmax; N],
        queries: &[f32],
        ahead: &mut Ahead<'_>,
        out: &mut [f32],
    ) {
        let factor = 1.0 / libm::sqrtf(self.head as f32);
        let mut weights = [[f32::NEG_INFINITY; KEY_TILE]; N];
        let queries: [&[f32]; N] = core::array::from_fn(|i| &queries[i * self.head..][..self.head]);
        let mut score = |place: usize, products: &[f32; N]| {
            for (weights, product) in weights.iter_mut().zip(products) {
                weights[place] = factor * product;
            }
        };
        let mut place = self.first;
        // Two at a time, so that one's sums need not wait for the other's.
        let mut pairs = self.keys.chunks_exact(2 * self.head);
        for pair in &mut pairs {
            ahead.ask::<S::Lanes>();
            ahead.ask::<S::Lanes>();
            let [one, other] = dots::<S::Lanes, N, 2>(&queries, pair.split_at(self.head).into());
            score(place, &one);
            score(place + 1, &other);
            place += 2;
        }
        if !pairs.remainder().is_empty() {
            ahead.ask::<S::Lanes>();
            let [one] = dots::<S::Lanes, N, 1>(&queries, [pairs.remainder()]);
            score(place, &one);
        }
        let heads = out.chunks_exact_mut(self.head).zip(&mut weights);
        for (state, (out, weights)) in state.into_iter().zip(heads) {
            state.weigh(weights, out);
        }
        let mut col = 0;
        while self.head - col >= 16 {
            self.add_columns::<S::Lanes, N, 2>(&weights, col, out);
            col += 16;
        }
        if self.head - col >= 8 {
            self.add_columns::<S::Lanes, N, 1>(&weights, col, out);
            col += 8;
        }
        if col == self.head {
            return;
        }
        for (out, weights) in out.chunks_exact_mut(self.head).zip(&weights) {
            for (weight, value) in weights[self.first..].iter().zip(self.values.chunks(self.head)) {
                for (y, v) in out[col..].iter_mut().zip(&value[col..]) {
                    *y += weight * v.to_f32();
                }
            }
        }
    }

    /// Adds the weighted values of `8 · P` columns to those of each of `N` heads.
    #[inline(always)]
    fn add_columns<L: Lanes, const N: usize, const P: usize>(
        &self,
        weights: &[[f32; KEY_TILE]; N],
        col: usize,
        out: &mut [f32],
    ) {
        let mut sums = [[L::zero(); P]; N];
        for (sums, out) in sums.iter_mut().zip(out.chunks_exact(self.head)) {
            for (sum, out) in sums.iter_mut().zip(out[col..].as_chunks().0) {
                *sum = L::load(out);
            }
        }
        let values = self.values.chunks_exact(self.head);
        for (place, value) in (self.first..KEY_TILE).zip(values) {
            let mut widened = [L::zero(); P];
            for (to, halves) in widened.iter_mut().zip(value[col..][..8 * P].as_chunks().0) {
                *to = L::widen(halves);
            }
            for (sums, weights) in sums.iter_mut().zip(weights) {
                let weight = L::splat(weights[place]);
                for (sum, value) in sums.iter_mut().zip(widened) {
                    *sum = sum.add_product(weight, value);
                }
            }
        }
        for (sums, out) in sums.into_iter().zip(out.chunks_exact_mut(self.head)) {
            for (sum, out) in sums.into_iter().zip(out[col..].as_chunks_mut().0) {
                *out = sum.values();
            }
        }
    }
}

/// The products of `N` queries with each of `K` keys.
#[inline(always)]
fn dots<L: Lanes, const N: usize, const K: usize>(
    queries: &[&[f32]; N],
    keys: [&[f16]; K],
) -> [[f32; N]; K] {
    let len = queries[0].len() / 8;
    let keys = keys.map(|key| key.as_chunks::<8>());
    let groups = queries.map(|query| &query.as_chunks::<8>().0[..len]);
    let wholes = keys.map(|(key, _)| &key[..len]);
    let mut sums = [[L::zero(); N]; K];
    for i in 0..len {
        let mut widened = [L::zero(); K];
        for (to, key) in widened.iter_mut().zip(&wholes) {
            *to = L::widen(&key[i]);
        }
        for (n, query) in groups.iter().enumerate() {
            let query = L::load(&query[i]);
            for (sums, key) in sums.iter_mut().zip(widened) {
                sums[n] = sums[n].add_product(query, key);
            }
        }
    }
    let mut products = [[0.0; N]; K];
    for (products, sums) in products.iter_mut().zip(&sums) {
        for (product, sum) in products.iter_mut().zip(sums) {
            *product = sum.sum();
        }
    }
    for (k, (_, tail)) in keys.iter().enumerate().filter(|(_, (_, tail))| !tail.is_empty()) {
        for (n, query) in queries.iter().enumerate() {
            let mut lanes = sums[k][n].values();
            let tail = query[len * 8..].iter().zip(*tail);
            lanes.iter_mut().zip(tail).for_each(|(lane, (q, k))| *lane += q * k.to_f32());
            products[k][n] = lanes.sum();
        }
    }
    products
}
