//! Attention of a group of query heads over the keys and values that they share.

use super::vector::add_lanes;
use crate::{KEY_TILE, KvView};
use half::f16;

/// Attention with an online softmax over the positions `kv.from .. kv.to`, tile by tile.
///
/// `queries` and `out` hold the heads of one KV head's group side by side, `kv.head` values each.
/// Scores are scaled by `1 / sqrt(head)`.
pub fn attention(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
    for (query, out) in queries.chunks_exact(kv.head).zip(out.chunks_exact_mut(kv.head)) {
        attend(query, kv, out);
    }
}

fn attend(query: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
    let factor = 1.0 / libm::sqrtf(kv.head as f32);
    let (mut largest, mut total) = (f32::NEG_INFINITY, 0f32);
    let mut scores = [0f32; KEY_TILE];
    out.fill(0.0);
    let mut from = kv.from;
    while from < kv.to {
        let to = kv.to.min((from / KEY_TILE + 1) * KEY_TILE);
        let scores = &mut scores[..to - from];
        for (score, position) in scores.iter_mut().zip(from..to) {
            *score = factor * dot(query, kv.key(position));
        }
        let tile = scores.iter().copied().fold(largest, f32::max);
        let shrink = libm::expf(largest - tile);
        largest = tile;
        total *= shrink;
        out.iter_mut().for_each(|y| *y *= shrink);
        for (score, position) in scores.iter().zip(from..to) {
            let weight = libm::expf(score - largest);
            total += weight;
            for (y, v) in out.iter_mut().zip(kv.value(position)) {
                *y += weight * v.to_f32();
            }
        }
        from = to;
    }
    out.iter_mut().for_each(|y| *y /= total);
}

fn dot(query: &[f32], key: &[f16]) -> f32 {
    let mut sums = [0f32; 8];
    for (q, k) in query.chunks(8).zip(key.chunks(8)) {
        for (sum, (q, k)) in sums.iter_mut().zip(q.iter().zip(k)) {
            *sum += q * k.to_f32();
        }
    }
    add_lanes(sums)
}
