//! Attention over keys and values in Q8_0.

use super::softmax::{HEADS, Softmax, divide_by_totals};
use super::steps::{QueryBlock, Steps};
use crate::kv::{BLOCK, KEYS, TilePart};
use crate::lanes::Lanes;
use crate::{KEY_TILE, KvView, Q8Cells};
use half::f16;

/// Blocks of queries that are kept: more than enough for [`HEADS`] heads of 128.
const ROOM: usize = 128;

/// The code that every variant of attention over Q8_0 is compiled from.
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
pub(super) unsafe fn attend<S: Steps>(
    queries: &[f32],
    kv: &KvView<'_>,
    keys: Q8Cells<'_>,
    values: Q8Cells<'_>,
    out: &mut [f32],
) {
    let (head, blocks) = (kv.head, kv.head / BLOCK);
    let factor = 1.0 / libm::sqrtf(head as f32);
    let some_heads = head * (ROOM / blocks).clamp(1, HEADS);
    let mut panel = [[0.0; BLOCK]; KEY_TILE];
    for (queries, out) in queries.chunks(some_heads).zip(out.chunks_mut(some_heads)) {
        let mut room = [QueryBlock::ZERO; ROOM];
        for (to, from) in room.iter_mut().zip(queries.as_chunks().0) {
            *to = QueryBlock::new(from, factor);
        }
        let queries = &room[..queries.len() / BLOCK];
        let mut state = [Softmax::START; HEADS];
        out.fill(0.0);
        for tile in kv.tiles() {
            let mut weights = [[f32::NEG_INFINITY; KEY_TILE]; HEADS];
            let heads = queries.chunks_exact(blocks).zip(out.chunks_exact_mut(head));
            for ((query, out), (state, weights)) in heads.zip(state.iter_mut().zip(&mut weights)) {
                // SAFETY: the caller has the features.
                unsafe { score::<S>(query, keys, &tile, head, weights) };
                state.weigh(weights, out);
            }
            // SAFETY: the caller has the features.
            unsafe { add_values::<S>(&weights, values, &tile, head, &mut panel, out) };
        }
        divide_by_totals(out, head, &state);
    }
}

/// The scores of the positions of a tile; −∞ where one is not attended to.
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
unsafe fn score<S: Steps>(
    query: &[QueryBlock],
    keys: Q8Cells<'_>,
    tile: &TilePart,
    head: usize,
    scores: &mut [f32; KEY_TILE],
) {
    let places = &tile.places;
    for first in (places.start / KEYS * KEYS..places.end).step_by(KEYS) {
        let mut sums = [0f32; KEYS];
        for ((quants, scales), query) in keys.keys(head, tile.row + first).zip(query) {
            // SAFETY: the caller has the features.
            let (products, scales) =
                unsafe { (S::multiply(quants, query), S::Lanes::widen(scales).values()) };
            for lane in 0..KEYS {
                sums[lane] += products[lane] as f32 * (scales[lane] * query.scale);
            }
        }
        scores[first..][..KEYS].copy_from_slice(&sums);
    }
    // What was computed of neighbors that are not attended to may be anything.
    scores[..places.start].fill(f32::NEG_INFINITY);
    scores[places.end..].fill(f32::NEG_INFINITY);
}

/// Adds the weighted values of a tile to those of each head. `panel` is room for a block of each value.
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
unsafe fn add_values<S: Steps>(
    weights: &[[f32; KEY_TILE]; HEADS],
    values: Q8Cells<'_>,
    tile: &TilePart,
    head: usize,
    panel: &mut [[f32; BLOCK]; KEY_TILE],
    out: &mut [f32],
) {
    for (block, (quants, scales)) in values.values(head, tile.row).enumerate() {
        let places = tile.places.clone();
        // Widened once for all heads.
        for (row, quants) in panel[places.clone()].iter_mut().zip(&quants[places.clone()]) {
            *row = quants.map(f32::from);
        }
        // SAFETY: the caller has the features.
        let scales = unsafe { widen::<S>(scales) };
        for (out, weights) in out.chunks_exact_mut(head).zip(weights) {
            let mut weights = *weights;
            weights.iter_mut().zip(&scales).for_each(|(w, scale)| *w *= scale);
            let out = out[block * BLOCK..].first_chunk_mut().expect("a block of the head");
            add_rows(&weights[places.clone()], &panel[places.clone()], out);
        }
    }
}

/// The scales of a tile as singles.
///
/// # Safety
/// The processor has the features of `L`.
#[inline(always)]
unsafe fn widen<S: Steps>(scales: &[f16; KEY_TILE]) -> [f32; KEY_TILE] {
    let mut out = [0.0; KEY_TILE];
    for (to, from) in out.as_chunks_mut::<8>().0.iter_mut().zip(scales.as_chunks::<8>().0) {
        // SAFETY: the caller has the features.
        *to = unsafe { S::Lanes::widen(from).values() };
    }
    out
}

/// 32 values as four times eight.
#[inline(always)]
fn lanes(values: &[f32; BLOCK]) -> [[f32; 8]; 4] {
    core::array::from_fn(|i| core::array::from_fn(|lane| values[i * 8 + lane]))
}

/// Adds weighted rows, one after another.
#[inline(always)]
fn add_rows(weights: &[f32], rows: &[[f32; BLOCK]], out: &mut [f32; BLOCK]) {
    let mut sums = lanes(out);
    for (weight, row) in weights.iter().zip(rows) {
        let values = lanes(row);
        for part in 0..4 {
            for lane in 0..8 {
                sums[part][lane] += weight * values[part][lane];
            }
        }
    }
    out.copy_from_slice(sums.as_flattened());
}
