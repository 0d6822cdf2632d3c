//! Attention over keys and values in f16.

use super::softmax::{HEADS, Softmax, divide_by_totals};
use super::steps::Steps;
use crate::kv::TilePart;
use crate::lanes::Lanes;
use crate::vector::add_lanes;
use crate::{KEY_TILE, KvView};
use core::slice::Chunks;
use half::f16;

/// The code that every variant of attention over f16 is compiled from.
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
pub(super) unsafe fn attend<S: Steps>(
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
            // SAFETY: the caller has the features.
            unsafe { tile.add_to_heads::<S>(&mut state, queries, &mut ahead, out) };
        }
        divide_by_totals(out, kv.head, &state);
    }
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

/// The weights of a tile's positions for each of `N` heads.
type Weights<const N: usize> = [[f32; KEY_TILE]; N];

impl Tile<'_> {
    /// Adds the tile to the softmax of all heads, a few at a time.
    ///
    /// # Safety
    /// The processor has the features of `S`.
    #[inline(always)]
    unsafe fn add_to_heads<S: Steps>(
        &self,
        state: &mut [Softmax; HEADS],
        queries: &[f32],
        ahead: &mut Ahead<'_>,
        out: &mut [f32],
    ) {
        let mut heads = 0..queries.len() / self.head;
        while !heads.is_empty() {
            // Six heads as twice three, seven as four and three.
            let count = if heads.len() == 6 { 3 } else { heads.len().min(4) };
            let some = heads.start..heads.start + count;
            let values = some.start * self.head..some.end * self.head;
            let (queries, out) = (&queries[values.clone()], &mut out[values]);
            // SAFETY: the caller has the features.
            unsafe {
                match &mut state[some] {
                    [a, b, c, d] => self.add_to::<S, 4>([a, b, c, d], queries, ahead, out),
                    [a, b, c] => self.add_to::<S, 3>([a, b, c], queries, ahead, out),
                    [a, b] => self.add_to::<S, 2>([a, b], queries, ahead, out),
                    [a] => self.add_to::<S, 1>([a], queries, ahead, out),
                    _ => unreachable!("1 to 4 heads are taken"),
                }
            }
            heads.start += count;
        }
    }

    /// Adds the tile to the softmax of `N` heads, which share what is widened.
    ///
    /// # Safety
    /// The processor has the features of `S`.
    #[inline(always)]
    unsafe fn add_to<S: Steps, const N: usize>(
        &self,
        state: [&mut Softmax; N],
        queries: &[f32],
        ahead: &mut Ahead<'_>,
        out: &mut [f32],
    ) {
        let mut weights = [[f32::NEG_INFINITY; KEY_TILE]; N];
        // SAFETY: the caller has the features.
        unsafe { self.score::<S::Lanes, N>(queries, ahead, &mut weights) };
        let heads = out.chunks_exact_mut(self.head).zip(&mut weights);
        for (state, (out, weights)) in state.into_iter().zip(heads) {
            state.weigh(weights, out);
        }
        // SAFETY: the caller has the features.
        unsafe { self.add_values::<S::Lanes, N>(&weights, out) };
    }

    /// Computes the scores of the tile's positions for `N` heads.
    ///
    /// # Safety
    /// The processor has the features of `L`.
    #[inline(always)]
    unsafe fn score<L: Lanes, const N: usize>(
        &self,
        queries: &[f32],
        ahead: &mut Ahead<'_>,
        scores: &mut Weights<N>,
    ) {
        let factor = 1.0 / libm::sqrtf(self.head as f32);
        let queries: [&[f32]; N] = core::array::from_fn(|i| &queries[i * self.head..][..self.head]);
        let mut score = |place: usize, products: &[f32; N]| {
            for (scores, product) in scores.iter_mut().zip(products) {
                scores[place] = factor * product;
            }
        };
        let mut place = self.first;
        // Two at a time, so that one's sums need not wait for the other's.
        let mut pairs = self.keys.chunks_exact(2 * self.head);
        for pair in &mut pairs {
            ahead.ask::<L>();
            ahead.ask::<L>();
            // SAFETY: the caller has the features.
            let [one, other] =
                unsafe { dots::<L, N, 2>(&queries, pair.split_at(self.head).into()) };
            score(place, &one);
            score(place + 1, &other);
            place += 2;
        }
        if !pairs.remainder().is_empty() {
            ahead.ask::<L>();
            // SAFETY: the caller has the features.
            let [one] = unsafe { dots::<L, N, 1>(&queries, [pairs.remainder()]) };
            score(place, &one);
        }
    }

    /// Adds the weighted values to those of each of `N` heads.
    ///
    /// # Safety
    /// The processor has the features of `L`.
    #[inline(always)]
    unsafe fn add_values<L: Lanes, const N: usize>(&self, weights: &Weights<N>, out: &mut [f32]) {
        let mut col = 0;
        while self.head - col >= 16 {
            // SAFETY: the caller has the features.
            unsafe { self.add_columns::<L, N, 2>(weights, col, out) };
            col += 16;
        }
        if self.head - col >= 8 {
            // SAFETY: the caller has the features.
            unsafe { self.add_columns::<L, N, 1>(weights, col, out) };
            col += 8;
        }
        if col == self.head {
            return;
        }
        for (out, weights) in out.chunks_exact_mut(self.head).zip(weights) {
            for (weight, value) in weights[self.first..].iter().zip(self.values.chunks(self.head)) {
                for (y, v) in out[col..].iter_mut().zip(&value[col..]) {
                    *y += weight * v.to_f32();
                }
            }
        }
    }

    /// Adds the weighted values of `8 · P` columns to those of each of `N` heads.
    ///
    /// # Safety
    /// The processor has the features of `L`.
    #[inline(always)]
    unsafe fn add_columns<L: Lanes, const N: usize, const P: usize>(
        &self,
        weights: &Weights<N>,
        col: usize,
        out: &mut [f32],
    ) {
        // SAFETY: the caller has the features.
        unsafe {
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
}

/// The products of `N` queries with each of `K` keys.
///
/// # Safety
/// The processor has the features of `L`.
#[inline(always)]
unsafe fn dots<L: Lanes, const N: usize, const K: usize>(
    queries: &[&[f32]; N],
    keys: [&[f16]; K],
) -> [[f32; N]; K] {
    let len = queries[0].len() / 8;
    let keys = keys.map(|key| key.as_chunks::<8>());
    let groups = queries.map(|query| &query.as_chunks::<8>().0[..len]);
    let wholes = keys.map(|(key, _)| &key[..len]);
    let mut products = [[0.0; N]; K];
    // SAFETY: the caller has the features.
    unsafe {
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
                products[k][n] = add_lanes(lanes);
            }
        }
    }
    products
}
