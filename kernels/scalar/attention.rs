//! Attention of a group of query heads over the keys and values that they share.

use super::attention_q8_0::{QueryBlock, attend_q8_0};
use super::vector::{add_lanes, exp};
use crate::kv::TilePart;
use crate::{KEY_TILE, KvCells, KvView};
use half::f16;

/// The steps of attention that a variant has instructions for.
pub(crate) trait Steps {
    /// Eight half-precision values as singles.
    fn widen(halves: &[f16; 8]) -> [f32; 8];

    /// The integer products of eight interleaved keys' quants with a block of a query.
    fn multiply(keys: &[i8; 256], query: &QueryBlock) -> [i32; 8];
}

/// One by one.
struct OneByOne;

impl Steps for OneByOne {
    #[inline(always)]
    fn widen(halves: &[f16; 8]) -> [f32; 8] {
        halves.map(f16::to_f32)
    }

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
    keys: &[f16],
    values: &[f16],
    out: &mut [f32],
) {
    let some_heads = HEADS * kv.head;
    for (queries, out) in queries.chunks(some_heads).zip(out.chunks_mut(some_heads)) {
        let mut state = [Softmax::START; HEADS];
        out.fill(0.0);
        for TilePart { row, places } in kv.tiles() {
            // The tile stays in the first-level cache while all heads pass over it.
            let (start, len) = ((row + places.start) * kv.head, places.len() * kv.head);
            let (keys, values) = (&keys[start..][..len], &values[start..][..len]);
            let heads = queries.chunks_exact(kv.head).zip(out.chunks_exact_mut(kv.head));
            for ((query, out), state) in heads.zip(&mut state) {
                state.add_tile::<S>(query, keys, values, places.start, out);
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
    /// Takes in the keys and values of a tile, whose first row is the tile's `first` position.
    #[inline(always)]
    fn add_tile<S: Steps>(
        &mut self,
        query: &[f32],
        keys: &[f16],
        values: &[f16],
        first: usize,
        out: &mut [f32],
    ) {
        let head = query.len();
        let factor = 1.0 / libm::sqrtf(head as f32);
        let mut weights = [f32::NEG_INFINITY; KEY_TILE];
        for (weight, key) in weights[first..].iter_mut().zip(keys.chunks_exact(head)) {
            *weight = factor * dot::<S>(query, key);
        }
        self.weigh(&mut weights, out);
        let weights = &weights[first..][..keys.len() / head];
        let mut col = 0;
        let (wide, rest) = out.as_chunks_mut::<32>();
        for out in wide {
            let [mut a, mut b, mut c, mut d] = lanes(out);
            for (weight, value) in weights.iter().zip(values[col..].chunks(head)) {
                let halves = lanes::<f16>(value.first_chunk().expect("32 columns are left"));
                add_lanes_of::<S>(&mut a, *weight, &halves[0]);
                add_lanes_of::<S>(&mut b, *weight, &halves[1]);
                add_lanes_of::<S>(&mut c, *weight, &halves[2]);
                add_lanes_of::<S>(&mut d, *weight, &halves[3]);
            }
            out.copy_from_slice([a, b, c, d].as_flattened());
            col += 32;
        }
        let (narrow, single) = rest.as_chunks_mut::<8>();
        for out in narrow {
            for (weight, value) in weights.iter().zip(values[col..].chunks(head)) {
                add_lanes_of::<S>(out, *weight, value.first_chunk().expect("8 columns are left"));
            }
            col += 8;
        }
        for (weight, value) in weights.iter().zip(values.chunks_exact(head)) {
            for (y, v) in single.iter_mut().zip(&value[col..]) {
                *y += weight * v.to_f32();
            }
        }
    }

    /// Turns the scores of a tile's positions (−∞ where one is not attended to) into weights, and
    /// scales what was summed with the weights of earlier tiles accordingly.
    #[inline(always)]
    pub(super) fn weigh(&mut self, scores: &mut [f32; KEY_TILE], out: &mut [f32]) {
        let largest = scores.iter().fold(self.largest, |m, w| m.max(*w));
        let shrink = exp(self.largest - largest);
        self.largest = largest;
        self.totals = self.totals.map(|total| total * shrink);
        out.iter_mut().for_each(|y| *y *= shrink);
        for group in scores.as_chunks_mut::<8>().0 {
            for (weight, total) in group.iter_mut().zip(&mut self.totals) {
                *weight = exp(*weight - largest);
                *total += *weight;
            }
        }
    }
}

/// 32 values as four times eight.
#[inline(always)]
pub(super) fn lanes<T: Copy>(values: &[T; 32]) -> [[T; 8]; 4] {
    core::array::from_fn(|i| core::array::from_fn(|lane| values[i * 8 + lane]))
}

/// Adds eight weighted values.
#[inline(always)]
fn add_lanes_of<S: Steps>(sums: &mut [f32; 8], weight: f32, halves: &[f16; 8]) {
    let values = S::widen(halves);
    for lane in 0..8 {
        sums[lane] += weight * values[lane];
    }
}

#[inline(always)]
fn dot<S: Steps>(query: &[f32], key: &[f16]) -> f32 {
    let (queries, query_tail) = query.as_chunks::<8>();
    let (keys, key_tail) = key.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for (q, k) in queries.iter().zip(keys) {
        let k = S::widen(k);
        for lane in 0..8 {
            sums[lane] += q[lane] * k[lane];
        }
    }
    for (sum, (q, k)) in sums.iter_mut().zip(query_tail.iter().zip(key_tail)) {
        *sum += q * k.to_f32();
    }
    add_lanes(sums)
}
