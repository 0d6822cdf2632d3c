//! Attention of a group of query heads over the keys and values that they share.

use super::vector::{add_lanes, exp};
use crate::{KEY_TILE, KvView};
use half::f16;

/// How a variant turns eight half-precision values into singles.
pub(crate) trait Widen {
    /// The eight values.
    fn widen(halves: &[f16; 8]) -> [f32; 8];
}

/// One by one.
struct OneByOne;

impl Widen for OneByOne {
    #[inline(always)]
    fn widen(halves: &[f16; 8]) -> [f32; 8] {
        halves.map(f16::to_f32)
    }
}

/// Attention with an online softmax over the positions `kv.from .. kv.to`, tile by tile.
///
/// `queries` and `out` hold the heads of one KV head's group side by side, `kv.head` values each.
/// Scores are scaled by `1 / sqrt(head)`.
pub fn attention(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
    attend::<OneByOne>(queries, kv, out);
}

/// Heads whose softmax is kept at a time.
const HEADS: usize = 8;

/// The running softmax of a head.
#[derive(Clone, Copy)]
struct Softmax {
    /// The largest score so far.
    largest: f32,
    /// Sums of the weights so far; lane `p % 8` sums those of positions `p`.
    totals: [f32; 8],
}

/// The code that every variant of attention is compiled from. Its loops over lanes become vector
/// instructions where the variant has them, and round alike everywhere.
#[inline(always)]
pub(crate) fn attend<W: Widen>(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
    let some_heads = HEADS * kv.head;
    for (queries, out) in queries.chunks(some_heads).zip(out.chunks_mut(some_heads)) {
        let mut state = [Softmax { largest: f32::NEG_INFINITY, totals: [0.0; 8] }; HEADS];
        out.fill(0.0);
        let mut from = kv.from;
        while from < kv.to {
            let to = kv.to.min((from / KEY_TILE + 1) * KEY_TILE);
            // The tile stays in the first-level cache while all heads pass over it.
            let (keys, values) = kv.rows(from, to);
            let heads = queries.chunks_exact(kv.head).zip(out.chunks_exact_mut(kv.head));
            for ((query, out), state) in heads.zip(&mut state) {
                state.add_tile::<W>(query, keys, values, from % KEY_TILE, out);
            }
            from = to;
        }
        for (out, state) in out.chunks_exact_mut(kv.head).zip(&state) {
            let total = add_lanes(state.totals);
            out.iter_mut().for_each(|y| *y /= total);
        }
    }
}

impl Softmax {
    /// Takes in the keys and values of a tile, whose first row is the tile's `first` position.
    #[inline(always)]
    fn add_tile<W: Widen>(
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
            *weight = factor * dot::<W>(query, key);
        }
        let largest = weights.iter().fold(self.largest, |m, w| m.max(*w));
        let shrink = exp(self.largest - largest);
        self.largest = largest;
        self.totals = self.totals.map(|total| total * shrink);
        out.iter_mut().for_each(|y| *y *= shrink);
        for group in weights.as_chunks_mut::<8>().0 {
            for (weight, total) in group.iter_mut().zip(&mut self.totals) {
                *weight = exp(*weight - largest);
                *total += *weight;
            }
        }
        let weights = &weights[first..][..keys.len() / head];
        let mut col = 0;
        let (wide, rest) = out.as_chunks_mut::<32>();
        for out in wide {
            let [mut a, mut b, mut c, mut d] = lanes(out);
            for (weight, value) in weights.iter().zip(values[col..].chunks(head)) {
                let halves = lanes::<f16>(value.first_chunk().expect("32 columns are left"));
                add_lanes_of::<W>(&mut a, *weight, &halves[0]);
                add_lanes_of::<W>(&mut b, *weight, &halves[1]);
                add_lanes_of::<W>(&mut c, *weight, &halves[2]);
                add_lanes_of::<W>(&mut d, *weight, &halves[3]);
            }
            out.copy_from_slice([a, b, c, d].as_flattened());
            col += 32;
        }
        let (narrow, single) = rest.as_chunks_mut::<8>();
        for out in narrow {
            for (weight, value) in weights.iter().zip(values[col..].chunks(head)) {
                add_lanes_of::<W>(out, *weight, value.first_chunk().expect("8 columns are left"));
            }
            col += 8;
        }
        for (weight, value) in weights.iter().zip(values.chunks_exact(head)) {
            for (y, v) in single.iter_mut().zip(&value[col..]) {
                *y += weight * v.to_f32();
            }
        }
    }
}

/// 32 values as four times eight.
#[inline(always)]
fn lanes<T: Copy>(values: &[T; 32]) -> [[T; 8]; 4] {
    core::array::from_fn(|i| core::array::from_fn(|lane| values[i * 8 + lane]))
}

/// Adds eight weighted values.
#[inline(always)]
fn add_lanes_of<W: Widen>(sums: &mut [f32; 8], weight: f32, halves: &[f16; 8]) {
    let values = W::widen(halves);
    for lane in 0..8 {
        sums[lane] += weight * values[lane];
    }
}

#[inline(always)]
fn dot<W: Widen>(query: &[f32], key: &[f16]) -> f32 {
    let (queries, query_tail) = query.as_chunks::<8>();
    let (keys, key_tail) = key.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for (q, k) in queries.iter().zip(keys) {
        let k = W::widen(k);
        for lane in 0..8 {
            sums[lane] += q[lane] * k[lane];
        }
    }
    for (sum, (q, k)) in sums.iter_mut().zip(query_tail.iter().zip(key_tail)) {
        *sum += q * k.to_f32();
    }
    add_lanes(sums)
}
