//! The forward pass of a batch of tokens, from the embedding to the logits.
//!
//! Letters in shapes: `n` tokens, `k` active experts. Every value is computed by one thread in one
//! order, whatever the batch and the number of threads, so a token's logits are the same bits
//! however it got here.

use crate::config::Config;
use crate::engine::Token;
use crate::kv::KvCache;
use crate::parallel::{Bands, Grid, Parallel};
use crate::router::route;
use crate::scratch::{Rows, Scratch};
use crate::weights::{Down, ExpertMatrices, Layer, Matrix, Weights};
use wick_kernels::{Activation, Kernels, MatVec, scalar};

/// Rows of a matrix in one tile: 27 KiB of Q4_0 at 1,536 columns, so that a tile stays in the
/// first-level cache while all tokens of a batch pass over it.
const TILE: usize = 32;

/// What a pass reads and never changes.
#[derive(Clone, Copy)]
pub(crate) struct Model<'a> {
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a Weights<'a>,
    pub(crate) kernels: &'a Kernels,
    pub(crate) parallel: &'a dyn Parallel,
}

impl Model<'_> {
    /// Runs `batch`, whose positions stand in `s.positions`, and leaves the logits of the tokens
    /// that want them in `s.logits`, in their order.
    pub(crate) fn forward(&self, batch: &[Token], kv: &mut KvCache<'_>, s: &mut Scratch<'_>) {
        self.embed(batch, s);
        for (i, layer) in self.weights.layers.iter().enumerate() {
            self.route(i, layer, batch.len(), s);
            self.attend(i, layer, batch, kv, s);
            self.apply_experts(i, layer, batch.len(), s);
        }
        self.output(batch, s);
    }

    /// residual = rows of the embedding; cos, sin = rotations of the positions.
    fn embed(&self, batch: &[Token], s: &mut Scratch<'_>) {
        let embedding = &self.weights.embedding;
        for (token, x) in batch.iter().zip(s.residual.chunks_exact_mut(self.config.hidden)) {
            let row = embedding.row_bytes(token.id as usize, 1);
            scalar::dequantize(embedding.format(), row, x);
        }
        let pairs = self.config.rope_dims / 2;
        let tables = s.cos.chunks_exact_mut(pairs).zip(s.sin.chunks_exact_mut(pairs));
        for (position, (cos, sin)) in s.positions[..batch.len()].iter().zip(tables) {
            scalar::rope_table(*position, self.config.rope_base, cos, sin);
        }
    }

    /// experts, expert_weights = the router's choice, from the residual stream as it enters the
    /// layer: before any norm and before attention.
    fn route(&self, index: usize, layer: &Layer<'_>, n: usize, s: &mut Scratch<'_>) {
        let Config { hidden, experts, active, gating, .. } = *self.config;
        self.for_each_row(&mut s.hidden, n, |t, row| {
            row[..hidden].copy_from_slice(&s.residual[t * hidden..][..hidden]);
        });
        self.multiply(&layer.router, &s.hidden, n, s.router_logits);
        let chosen = &mut s.experts[index * s.pairs..][..n * active];
        let choices =
            chosen.chunks_exact_mut(active).zip(s.expert_weights.chunks_exact_mut(active));
        for (logits, (chosen, weights)) in s.router_logits.chunks_exact(experts).zip(choices) {
            route(logits, gating, chosen, weights);
        }
        group_by_expert(chosen, s.bounds, s.choices, s.places);
    }

    /// residual += Wo · attention(Wq h, Wk h, Wv h) with h = norm(residual).
    fn attend(
        &self,
        index: usize,
        layer: &Layer<'_>,
        batch: &[Token],
        kv: &mut KvCache<'_>,
        s: &mut Scratch<'_>,
    ) {
        let (config, n) = (self.config, batch.len());
        let (query_width, kv_width, head) = (config.query_width(), config.kv_width(), config.head);
        self.normalize(&layer.attn_norm, s, n, |t| t);
        self.multiply(&layer.q, &s.hidden, n, s.queries);
        self.multiply(&layer.k, &s.hidden, n, s.keys);
        self.multiply(&layer.v, &s.hidden, n, s.values);

        for (t, token) in batch.iter().enumerate() {
            let queries = &mut s.queries[t * query_width..][..query_width];
            let keys = &mut s.keys[t * kv_width..][..kv_width];
            if config.layer_has_rope(index) {
                let pairs = config.rope_dims / 2;
                let (cos, sin) = (&s.cos[t * pairs..][..pairs], &s.sin[t * pairs..][..pairs]);
                queries.chunks_exact_mut(head).for_each(|h| scalar::rope(h, cos, sin));
                keys.chunks_exact_mut(head).for_each(|h| scalar::rope(h, cos, sin));
            }
            let values = &s.values[t * kv_width..][..kv_width];
            kv.store(token.sequence, index, s.positions[t], keys, values);
        }

        let (attention, group) = (self.kernels.attention(), query_width / config.kv_heads);
        let (kv, queries, positions) = (&*kv, &*s.queries, &*s.positions);
        let stride = s.attended.layout.stride();
        Grid::new(s.attended.first(n), stride, query_width).for_each_tile(
            self.parallel,
            Bands::Each,
            group,
            |tile| {
                let (t, cols) = (tile.band(), tile.cols());
                let view = kv.view(batch[t].sequence, index, cols.start / group, positions[t]);
                let queries = &queries[t * query_width..][..query_width];
                attention(&queries[cols], &view, tile.row(t));
            },
        );
        self.for_each_row(&mut s.attended, n, |_, _| ());
        self.multiply(&layer.o, &s.attended, n, s.outputs);
        let x = &mut s.residual[..n * config.hidden];
        x.iter_mut().zip(&*s.outputs).for_each(|(x, y)| *x += y);
    }

    /// residual += Σ weight · Wdown (relu(Wgate z) ⊙ (Wup z)) over the chosen experts, with
    /// z = norm(residual).
    fn apply_experts(&self, index: usize, layer: &Layer<'_>, n: usize, s: &mut Scratch<'_>) {
        let Config { hidden, active, .. } = *self.config;
        self.normalize(&layer.ffn_norm, s, n, |t| t);
        self.gate_and_up(layer, n, s);
        let neurons = (0..n * active).map(|place| s.neurons.row(place).values);
        let silent = |row: &[f32]| row.iter().filter(|v| **v == 0.0).count();
        s.active_neurons[index] = neurons.map(|row| row.len() - silent(row)).sum();
        self.for_each_row(&mut s.neurons, n * active, |_, _| ());
        self.down(&layer.down, n, s);

        let (outputs, weights, places) = (&*s.outputs, &*s.expert_weights, &*s.places);
        let residual = &mut s.residual[..n * hidden];
        Grid::new(residual, hidden, hidden).for_each_tile(
            self.parallel,
            Bands::Each,
            hidden,
            |tile| {
                let t = tile.band();
                for choice in t * active..(t + 1) * active {
                    let y = &outputs[places[choice] * hidden..][..hidden];
                    scalar::scale_add(weights[choice], y, tile.row(t));
                }
            },
        );
    }

    /// neurons = relu(Wgate z) ⊙ (Wup z), a row for each choice, sorted by expert. A row of `Wup`
    /// is read only where the gate is open.
    fn gate_and_up(&self, layer: &Layer<'_>, n: usize, s: &mut Scratch<'_>) {
        let Config { active, expert_width, .. } = *self.config;
        let gate_product = self.kernels.matvec(layer.gate.format());
        let up_product = self.kernels.matvec(layer.up.format());
        let (hidden, choices) = (&s.hidden, &*s.choices);
        let stride = s.neurons.layout.stride();
        let rows = s.neurons.first(n * active);
        let bands = Bands::Bounds(s.bounds);
        Grid::new(rows, stride, expert_width).for_each_tile(self.parallel, bands, TILE, |tile| {
            let (expert, cols) = (tile.band(), tile.cols());
            let (gate, up) = (layer.gate.expert(expert), layer.up.expert(expert));
            let gate = gate.row_bytes(cols.start, cols.len());
            for place in tile.rows() {
                let z = hidden.row(choices[place] / active);
                let neurons = tile.row(place);
                gate_product(gate, &z, neurons);
                for (neuron, row) in neurons.iter_mut().zip(cols.clone()) {
                    *neuron = reglu(*neuron, up_product, up.row_bytes(row, 1), &z);
                }
            }
        });
    }

    /// outputs = Wdown · neurons, a row for each choice, sorted by expert.
    fn down(&self, down: &Down<'_>, n: usize, s: &mut Scratch<'_>) {
        let Config { hidden, active, .. } = *self.config;
        let neurons = &s.neurons;
        let outputs = Grid::new(&mut s.outputs[..n * active * hidden], hidden, hidden);
        let bands = Bands::Bounds(s.bounds);
        match down {
            Down::Outputs(matrices) => {
                let product = self.kernels.matvec(matrices.format());
                outputs.for_each_tile(self.parallel, bands, TILE, |tile| {
                    let cols = tile.cols();
                    let down = matrices.expert(tile.band());
                    let down = down.row_bytes(cols.start, cols.len());
                    for place in tile.rows() {
                        product(down, &neurons.row(place), tile.row(place));
                    }
                });
            }
            Down::Neurons(matrices) => {
                let width = TILE.max(matrices.format().block_len());
                outputs.for_each_tile(self.parallel, bands, width, |tile| {
                    let cols = tile.cols();
                    for place in tile.rows() {
                        let values = neurons.row(place).values;
                        add_neurons(matrices, tile.band(), values, cols.start, tile.row(place));
                    }
                });
            }
        }
    }

    /// logits = Wout · norm(residual), for the tokens that want them.
    fn output(&self, batch: &[Token], s: &mut Scratch<'_>) {
        let mut wanted = 0;
        for (t, token) in batch.iter().enumerate() {
            if token.wants_logits {
                s.positions[wanted] = t;
                wanted += 1;
            }
        }
        let tokens = core::mem::take(&mut s.positions);
        self.normalize(&self.weights.output_norm, s, wanted, |i| tokens[i]);
        s.positions = tokens;
        self.multiply(&self.weights.output, &s.hidden, wanted, s.logits);
    }

    /// hidden[i] = norm(residual[token(i)]), for `i < n`.
    fn normalize(
        &self,
        norm: &Matrix<'_>,
        s: &mut Scratch<'_>,
        n: usize,
        token: impl Fn(usize) -> usize + Sync,
    ) {
        let Config { hidden, rms_eps, .. } = *self.config;
        scalar::dequantize(norm.format(), norm.bytes(), s.norm);
        let (residual, weight) = (&*s.residual, &*s.norm);
        self.for_each_row(&mut s.hidden, n, |i, row| {
            let x = &residual[token(i) * hidden..][..hidden];
            scalar::rms_norm(x, weight, rms_eps, &mut row[..hidden]);
        });
    }

    /// Lets `fill` write the values of each of the first `n` rows, then computes their 8-bit forms.
    fn for_each_row(&self, rows: &mut Rows<'_>, n: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
        let layout = rows.layout;
        let stride = layout.stride();
        let grid = Grid::new(rows.first(n), stride, stride);
        grid.for_each_tile(self.parallel, Bands::Each, stride, |tile| {
            let i = tile.band();
            fill(i, tile.row(i));
            layout.encode(tile.row(i));
        });
    }

    /// out[t] = matrix · rows[t], for `t < n`.
    fn multiply(&self, matrix: &Matrix<'_>, rows: &Rows<'_>, n: usize, out: &mut [f32]) {
        let product = self.kernels.matvec(matrix.format());
        let grid = Grid::new(&mut out[..n * matrix.rows()], matrix.rows(), matrix.rows());
        grid.for_each_tile(self.parallel, Bands::One, TILE, |tile| {
            let cols = tile.cols();
            let weights = matrix.row_bytes(cols.start, cols.len());
            for t in tile.rows() {
                product(weights, &rows.row(t), tile.row(t));
            }
        });
    }
}

/// `relu(gate) · (up · z)`: a gate that is not positive leaves the neuron at zero, and its row of
/// `up` unread.
fn reglu(gate: f32, product: MatVec, up: &[u8], z: &Activation<'_>) -> f32 {
    if gate <= 0.0 {
        return 0.0;
    }
    let mut value = [0.0];
    product(up, z, &mut value);
    gate * value[0]
}

/// `out = Σ neuron · row` over the neurons that are not zero, in their order, for the columns of
/// the rows from `start` on.
fn add_neurons(
    matrices: &ExpertMatrices<'_>,
    expert: usize,
    neurons: &[f32],
    start: usize,
    out: &mut [f32],
) {
    let (format, matrix) = (matrices.format(), matrices.expert(expert));
    let block = |col: usize| col / format.block_len() * format.block_bytes();
    let bytes = block(start)..block(start + out.len());
    out.fill(0.0);
    for (row, neuron) in neurons.iter().enumerate().filter(|(_, neuron)| **neuron != 0.0) {
        scalar::axpy(format, &matrix.row_bytes(row, 1)[bytes.clone()], *neuron, out);
    }
}

/// Sorts choices by expert, keeping their order: a counting sort.
fn group_by_expert(
    experts: &[u32],
    bounds: &mut [usize],
    choices: &mut [usize],
    places: &mut [usize],
) {
    bounds.fill(0);
    for expert in experts {
        bounds[*expert as usize + 1] += 1;
    }
    for e in 1..bounds.len() {
        bounds[e] += bounds[e - 1];
    }
    // Each start moves to its expert's end while places are given out, then all move back by one.
    for (choice, expert) in experts.iter().enumerate() {
        let next = &mut bounds[*expert as usize];
        (choices[*next], places[choice]) = (choice, *next);
        *next += 1;
    }
    bounds.rotate_right(1);
    bounds[0] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_grouped_in_order() {
        let experts = [2, 0, 2, 1, 0, 3];
        let (mut bounds, mut choices, mut places) = ([9; 6], [9; 6], [9; 6]);
        group_by_expert(&experts, &mut bounds, &mut choices, &mut places);
        assert_eq!(bounds, [0, 2, 3, 5, 6, 6]);
        assert_eq!(choices, [1, 4, 3, 0, 2, 5]);
        assert!(places.iter().enumerate().all(|(choice, place)| choices[*place] == choice));
    }
}
