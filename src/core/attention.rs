//! Attention: from the norm of the residual stream to what is added to it.

use crate::config::Config;
use crate::kv::KvCache;
use crate::parallel::{Bands, Grid};
use crate::pass::Pass;
use crate::scratch::{Attention, Stream};
use crate::token::Token;
use crate::weights::Layer;
use wick_kernels::scalar;

impl Pass<'_> {
    /// qkv = Wq h, Wk h, Wv h, side by side.
    pub(crate) fn project_qkv(
        &self,
        layer: &Layer<'_>,
        n: usize,
        stream: &Stream<'_>,
        s: &mut Attention<'_>,
    ) {
        let matrices = [&layer.q, &layer.k, &layer.v];
        let (normed, copy) = (&stream.hidden, <[f32]>::copy_from_slice);
        self.products.multiply(&matrices, |t| normed.row(t), n, s.qkv, copy);
    }

    /// Turns queries and keys by their positions, where the layer has RoPE, and stores keys and values.
    pub(crate) fn rotate_and_store(
        &self,
        index: usize,
        batch: &[Token],
        positions: &[usize],
        kv: &mut KvCache<'_>,
        s: &mut Attention<'_>,
    ) {
        let config = self.config;
        let (query_width, kv_width) = (config.query_width(), config.kv_width());
        let rows = s.qkv.chunks_exact_mut(query_width + 2 * kv_width);
        for (t, (token, row)) in batch.iter().zip(rows).enumerate() {
            let (turned, values) = row.split_at_mut(query_width + kv_width);
            if config.layer_has_rope(index) {
                let pairs = config.rope_dims / 2;
                let (cos, sin) = (&s.cos[t * pairs..][..pairs], &s.sin[t * pairs..][..pairs]);
                turned.chunks_exact_mut(config.head).for_each(|h| scalar::rope(h, cos, sin));
            }
            let keys = &turned[query_width..];
            let narrow = self.products.kernels.narrow();
            kv.store(token.sequence, index, positions[t], keys, values, narrow);
        }
    }

    /// attended = attention of each token's queries to what its sequence holds, its own position
    /// included. Threads share tokens, KV heads and, where these are few, the query heads of each: a
    /// head's values are the same bits whatever heads are computed with it.
    pub(crate) fn attend_to_past(
        &self,
        index: usize,
        batch: &[Token],
        positions: &[usize],
        kv: &KvCache<'_>,
        s: &mut Attention<'_>,
    ) {
        let Config { heads, kv_heads, head, .. } = *self.config;
        let (query_width, n) = (heads * head, batch.len());
        let width = query_width + 2 * kv_heads * head;
        let (attention, qkv) = (self.products.kernels.attention(), &*s.qkv);
        let parallel = self.products.parallel;
        let together = heads_together(heads / kv_heads, n * kv_heads, parallel.threads());
        let stride = s.attended.layout.stride();
        Grid::new(s.attended.first(n), stride, query_width).for_each_tile_within(
            parallel,
            Bands::Each,
            s.groups,
            together * head,
            |tile| {
                let (t, kv_head, cols) = (tile.band(), tile.part(), tile.cols());
                let view = kv.view(batch[t].sequence, index, kv_head, positions[t]);
                attention(&qkv[t * width..][cols], &view, tile.row(t));
            },
        );
    }

    /// residual += Wo · attended.
    pub(crate) fn project_attended(
        &self,
        layer: &Layer<'_>,
        n: usize,
        s: &mut Attention<'_>,
        residual: &mut [f32],
    ) {
        let encoding = layer.o.format().encoding();
        self.products.encode_rows(&mut s.attended, n, Bands::Each, encoding);
        let attended = &s.attended;
        self.products.multiply(&[&layer.o], |t| attended.row(t), n, residual, add);
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Of the query heads that share a KV head, how many a thread takes at a time, so that the busiest of
/// some threads has done soonest. `groups` are the KV heads of all tokens. Taking keys and values in
/// costs as much as two thirds of what a head does with them, so heads stay together where all have
/// enough to do.
fn heads_together(group: usize, groups: usize, threads: usize) -> usize {
    let busiest = |heads: &usize| {
        let parts = groups * group.div_ceil(*heads);
        parts.div_ceil(threads) * (3 * heads + 2)
    };
    (1..=group).rev().min_by_key(busiest).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_part_where_threads_would_idle() {
        let alone = |group| [1, 2, 3, 4, 5, 6, 8].map(|threads| heads_together(group, 2, threads));
        // The 4B, 12 heads over two KV heads: a token alone.
        assert_eq!(alone(6), [6, 6, 2, 3, 3, 2, 2]);
        assert_eq!(alone(1), [1; 7]);
        // The 21B, 28 heads over four.
        assert_eq!([2, 4, 8].map(|threads| heads_together(7, 4, threads)), [7, 7, 4]);
        // A prompt has work for all.
        assert!((1..=8).all(|threads| heads_together(6, 2 * 64, threads) == 6));
    }
}
