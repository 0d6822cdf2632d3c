//! Attention over keys and values in Q8_0.

use super::attention::{HEADS, Softmax, Steps, divide_by_totals};
use crate::activation::{Block, quantize_block};
use crate::kv::{BLOCK, KEYS, TilePart};
use crate::lanes::Lanes;
use crate::{KEY_TILE, KvView, Q8Cells};

/// Blocks of queries that are kept: more than enough for [`HEADS`] heads of 128.
const ROOM: usize = 128;

/// 32 values of a query.
#[derive(Clone, Copy)]
pub(crate) struct QueryBlock {
    /// Quants from −127 to 127.
    pub(crate) quants: [i8; BLOCK],
    /// Their sum, which instructions that multiply signed with unsigned bytes need.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    pub(crate) sum: i32,
    /// Value of a quant, times `1 / sqrt(head)`.
    scale: f32,
}

impl QueryBlock {
    const ZERO: QueryBlock = QueryBlock { quants: [0; BLOCK], sum: 0, scale: 0.0 };

    #[inline(always)]
    fn new(values: &[f32; BLOCK], factor: f32) -> QueryBlock {
        let Block { quants, scale, sum } = quantize_block(values);
        QueryBlock { quants, sum: sum.into(), scale: factor * scale }
    }
}

/// The code that every variant of attention over Q8_0 is compiled from.
#[inline(always)]
pub(super) fn attend_q8_0<S: Steps>(
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
                score::<S>(query, keys, &tile, head, weights);
                state.weigh(weights, out);
            }
            for (block, (quants, scales)) in values.values(head, tile.row).enumerate() {
                let places = tile.places.clone();
                // Widened once for all heads.
                for (row, quants) in panel[places.clone()].iter_mut().zip(&quants[places.clone()]) {
                    *row = quants.map(f32::from);
                }
                let scales = widen::<S>(scales);
                for (out, weights) in out.chunks_exact_mut(head).zip(&weights) {
                    let mut weights = *weights;
                    weights.iter_mut().zip(&scales).for_each(|(w, scale)| *w *= scale);
                    let out = out[block * BLOCK..].first_chunk_mut().expect("a block of the head");
                    add_rows(&weights[places.clone()], &panel[places.clone()], out);
                }
            }
        }
        divide_by_totals(out, head, &state);
    }
}

/// The scores of the positions of a tile; −∞ where one is not attended to.
#[inline(always)]
fn score<S: Steps>(
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
            let products = S::multiply(quants, query);
            let scales = S::Lanes::widen(scales).values();
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

/// The scales of a tile as singles.
#[inline(always)]
fn widen<S: Steps>(scales: &[half::f16; KEY_TILE]) -> [f32; KEY_TILE] {
    let mut out = [0.0; KEY_TILE];
    for (to, from) in out.as_chunks_mut::<8>().0.iter_mut().zip(scales.as_chunks::<8>().0) {
        *to = S::Lanes::widen(from).values();
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
