//! Attention: from the norm of the residual stream to what is added to it.

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
    /// included.
    pub(crate) fn attend_to_past(
        &self,
        index: usize,
        batch: &[Token],
        positions: &[usize],
        kv: &KvCache<'_>,
        s: &mut Attention<'_>,
    ) {
        let (query_width, kv_width) = (self.config.query_width(), self.config.kv_width());
        let width = query_width + 2 * kv_width;
        let group = query_width / self.config.kv_heads;
        let (attention, qkv) = (self.products.kernels.attention(), &*s.qkv);
        let stride = s.attended.layout.stride();
        Grid::new(s.attended.first(batch.len()), stride, query_width).for_each_tile(
            self.products.parallel,
            Bands::Each,
            group,
            |tile| {
                let (t, cols) = (tile.band(), tile.cols());
                let view = kv.view(batch[t].sequence, index, cols.start / group, positions[t]);
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
