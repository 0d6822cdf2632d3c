//! The forward pass of a batch of tokens, from the embedding to the logits.
//!
//! Letters in shapes: `n` tokens, `k` active experts. Every value is computed by one thread in one
//! order, whatever the batch and the number of threads, so a token's logits are the same bits
//! however it got here.

use crate::config::{Config, MAX_ACTIVE, MAX_EXPERTS};
use crate::engine::Token;
use crate::experts::{Experts, Lender, Work};
use crate::kv::KvCache;
use crate::output::Output;
use crate::parallel::{Bands, Grid, Parallel, Serial, Tile};
use crate::router::{Approximation, route, route_approximately};
use crate::scratch::{Rows, Scratch};
use crate::store::{Part, StoreError};
use crate::weights::{Down, Layer, Matrix, Weights};
use core::ops::Range;
use wick_kernels::{
    Activation, Encoding, Encodings, Format, GROUP, Kernels, Layout, MatMul, RowLayout, scalar,
};

/// Rows of a matrix in one tile: 27 KiB of Q4_0 at 1,536 columns, so that a tile stays in the
/// first-level cache while all tokens of a batch pass over it.
pub(crate) const TILE: usize = 32;
/// The same for weights that are not quantized, which take seven times the room: a router has few rows,
/// and several threads shall have some.
const PLAIN_TILE: usize = 8;
/// Neurons of an expert in one tile: enough for the first rows of `Wup` to arrive while the last
/// gates are computed.
const NEURONS: usize = 128;
/// Gates that are computed before the rows of `Wup` are asked for where they are open: two groups of
/// rows, which share what is loaded of a token.
const GATES: usize = 2 * GROUP;
/// Tokens that a kernel is handed at a time.
const TOKENS: usize = 4;
/// Outputs in one tile of a product by columns, which reads as many nibbles of each column: long runs,
/// because columns lie apart.
const COLUMNS_TILE: usize = 1536;
/// Values below which a serial loop is faster than waking threads.
const SERIAL: usize = 1 << 14;

/// What a pass reads and never changes.
#[derive(Clone, Copy)]
pub(crate) struct Model<'a> {
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a Weights<'a>,
    pub(crate) output: Output,
    pub(crate) approximation: Approximation,
    /// How many of the largest logits must be right; 0 for all.
    pub(crate) top: usize,
    pub(crate) kernels: &'a Kernels,
    pub(crate) parallel: &'a dyn Parallel,
}

impl Model<'_> {
    /// Runs `batch`, whose positions stand in `s.positions`, and leaves the logits of the tokens
    /// that want them in `s.logits`, in their order.
    ///
    /// # Errors
    /// An expert could not be read; what was computed is of no use.
    pub(crate) fn forward(
        &self,
        batch: &[Token],
        kv: &mut KvCache<'_>,
        experts: &mut Experts<'_>,
        s: &mut Scratch<'_>,
    ) -> Result<(), StoreError> {
        experts.begin(batch.len(), self.approximation.low_bit && batch.len() == 1)?;
        self.embed(batch, s);
        for (i, layer) in self.weights.layers.iter().enumerate() {
            self.route(i, layer, batch.len(), experts, s);
            self.attend(i, layer, batch, kv, s);
            self.apply_experts(i, layer, batch.len(), experts, s)?;
        }
        self.output(batch, s);
        Ok(())
    }

    /// residual = rows of the embedding; cos, sin = rotations of the positions.
    fn embed(&self, batch: &[Token], s: &mut Scratch<'_>) {
        let embedding = &self.weights.embedding;
        for (token, x) in batch.iter().zip(s.residual.chunks_exact_mut(self.config.hidden)) {
            embedding.dequantize_row(token.id as usize, x);
        }
        let pairs = self.config.rope_dims / 2;
        let tables = s.cos.chunks_exact_mut(pairs).zip(s.sin.chunks_exact_mut(pairs));
        for (position, (cos, sin)) in s.positions[..batch.len()].iter().zip(tables) {
            scalar::rope_table(*position, self.config.rope_base, cos, sin);
        }
    }

    /// experts, expert_weights = the router's choice, from the residual stream as it enters the
    /// layer: before any norm and before attention. Experts that are not in memory start on their way.
    fn route(
        &self,
        index: usize,
        layer: &Layer<'_>,
        n: usize,
        experts: &mut Experts<'_>,
        s: &mut Scratch<'_>,
    ) {
        let Config { experts: count, active, gating, .. } = *self.config;
        self.kernels.prefetch()(layer.attn_norm.bytes());
        self.ask_router(layer, n, s);
        let chosen = &mut s.experts[index * s.pairs..][..n * active];
        let choices =
            chosen.chunks_exact_mut(active).zip(s.expert_weights.chunks_exact_mut(active));
        for (logits, (chosen, weights)) in s.router_logits.chunks_exact_mut(count).zip(choices) {
            if n == 1 && self.approximation != Approximation::default() {
                let has_slot = |expert| experts.has_slot(index, expert);
                route_approximately(logits, gating, self.approximation, has_slot, chosen, weights);
            } else {
                route(logits, gating, chosen, weights);
            }
        }
        group_by_expert(chosen, s.bounds, s.choices, s.places);
        experts.want(index, chosen, s.bounds, n == 1);
    }

    /// router_logits = Wrouter · residual.
    fn ask_router(&self, layer: &Layer<'_>, n: usize, s: &mut Scratch<'_>) {
        let hidden = self.config.hidden;
        let (plain, residual) = (RowLayout::new(hidden, Encodings::default()), &*s.residual);
        let row = |t: usize| plain.view(&residual[t * hidden..][..hidden]);
        self.multiply(&[&layer.router], row, n, s.router_logits, <[f32]>::copy_from_slice);
    }

    /// Asks the router of the next layer what it would choose if this layer's experts added nothing,
    /// and lets these experts start on their way. Router logits are lost.
    fn guess(&self, index: usize, n: usize, experts: &mut Experts<'_>, s: &mut Scratch<'_>) {
        let Config { experts: count, active, gating, .. } = *self.config;
        let Some(next) = self.weights.layers.get(index + 1) else { return };
        self.ask_router(next, n, s);
        let mut is_likely = [false; MAX_EXPERTS];
        let mut likely = heapless::Vec::<u32, MAX_EXPERTS>::new();
        for logits in s.router_logits.chunks_exact(count).take(n) {
            let (mut chosen, mut weights) = ([0; MAX_ACTIVE], [0.0; MAX_ACTIVE]);
            route(logits, gating, &mut chosen[..active], &mut weights[..active]);
            for expert in &chosen[..active] {
                if !core::mem::replace(&mut is_likely[*expert as usize], true) {
                    likely.push(*expert).expect("no expert is listed twice");
                }
            }
        }
        experts.guess(likely.into_iter());
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
        let width = query_width + 2 * kv_width;
        self.normalize(&layer.attn_norm, s, n, |t| t);
        let matrices = [&layer.q, &layer.k, &layer.v];
        let (normed, qkv) = (&s.hidden, &mut *s.qkv);
        self.multiply(&matrices, |t| normed.row(t), n, qkv, <[f32]>::copy_from_slice);

        for (t, (token, row)) in batch.iter().zip(s.qkv.chunks_exact_mut(width)).enumerate() {
            let (turned, values) = row.split_at_mut(query_width + kv_width);
            if config.layer_has_rope(index) {
                let pairs = config.rope_dims / 2;
                let (cos, sin) = (&s.cos[t * pairs..][..pairs], &s.sin[t * pairs..][..pairs]);
                turned.chunks_exact_mut(head).for_each(|h| scalar::rope(h, cos, sin));
            }
            let keys = &turned[query_width..];
            kv.store(token.sequence, index, s.positions[t], keys, values, self.kernels.narrow());
        }

        let (attention, group) = (self.kernels.attention(), query_width / config.kv_heads);
        let (kv, qkv, positions) = (&*kv, &*s.qkv, &*s.positions);
        let stride = s.attended.layout.stride();
        Grid::new(s.attended.first(n), stride, query_width).for_each_tile(
            self.parallel,
            Bands::Each,
            group,
            |tile| {
                let (t, cols) = (tile.band(), tile.cols());
                let view = kv.view(batch[t].sequence, index, cols.start / group, positions[t]);
                attention(&qkv[t * width..][cols], &view, tile.row(t));
            },
        );
        self.encode_rows(&mut s.attended, n, Bands::Each, layer.o.format().encoding());
        self.kernels.prefetch()(layer.ffn_norm.bytes());
        let attended = &s.attended;
        self.multiply(&[&layer.o], |t| attended.row(t), n, s.residual, add);
    }

    /// residual += Σ weight · Wdown (relu(Wgate z) ⊙ (Wup z)) over the chosen experts, with
    /// z = norm(residual). Experts are taken as they come; while the last ones are computed, those
    /// that the next layer will probably choose start on their way.
    fn apply_experts(
        &self,
        index: usize,
        layer: &Layer<'_>,
        n: usize,
        experts: &mut Experts<'_>,
        s: &mut Scratch<'_>,
    ) -> Result<(), StoreError> {
        let Config { hidden, active, .. } = *self.config;
        self.normalize(&layer.ffn_norm, s, n, |t| t);
        let mut guessed = false;
        while let Some(work) = experts.next()? {
            if !guessed && experts.is_time_to_guess() {
                self.guess(index, n, experts, s);
                guessed = true;
            }
            let bands = Bands::Some { bounds: s.bounds, chosen: experts.chosen() };
            let lender = experts.lender(layer);
            match work {
                Work::Neurons => {
                    self.gate_and_up(lender, bands, &s.hidden, s.choices, n, &mut s.neurons);
                }
                Work::Outputs => {
                    self.down(&layer.down, lender, bands, n, &mut s.neurons, s.outputs)
                }
            }
        }
        let neurons = (0..n * active).map(|place| s.neurons.row(place).values);
        let open = |row: &[f32]| row.iter().map(|v| u32::from(*v != 0.0)).sum::<u32>() as usize;
        s.active_neurons[index] = neurons.map(open).sum();

        let (outputs, weights, places) = (&*s.outputs, &*s.expert_weights, &*s.places);
        let residual = &mut s.residual[..n * hidden];
        Grid::new(residual, hidden, hidden).for_each_tile(
            self.threads_for(n * active * hidden),
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
        Ok(())
    }

    /// neurons = relu(Wgate z) ⊙ (Wup z) for the experts of some bands, a row for each choice, sorted
    /// by expert. A row of `Wup` is read only where the gate is open; it is asked for as soon as that
    /// is known, so that it comes while further gates are computed.
    fn gate_and_up(
        &self,
        experts: Lender<'_>,
        bands: Bands<'_>,
        hidden: &Rows<'_>,
        choices: &[usize],
        n: usize,
        neurons: &mut Rows<'_>,
    ) {
        let Config { active, expert_width, .. } = *self.config;
        let product = self.product(experts.format(Part::Gate), experts.layout(Part::Gate));
        let prefetch = self.kernels.prefetch();
        let stride = neurons.layout.stride();
        Grid::new(neurons.first(n * active), stride, expert_width).for_each_tile(
            self.parallel,
            bands,
            NEURONS,
            |tile| {
                let (expert, cols) = (tile.band(), tile.cols());
                let gate = experts.matrix(Part::Gate, expert);
                let up = experts.matrix(Part::Up, expert);
                let z = |place: usize| hidden.row(choices[place] / active);
                for_some_tokens(tile.rows(), z, |places, xs| {
                    let mut room = [0.0; TOKENS * GATES];
                    for first in cols.clone().step_by(GATES) {
                        let some = first..cols.end.min(first + GATES);
                        let gates = &mut room[..xs.len() * some.len()];
                        product(gate.row_bytes(first, some.len()), xs, gates);
                        for (place, gates) in places.clone().zip(gates.chunks_exact(some.len())) {
                            tile.row(place)[first - cols.start..][..some.len()]
                                .copy_from_slice(gates);
                            for (row, _) in some.clone().zip(gates).filter(|(_, gate)| **gate > 0.0)
                            {
                                prefetch(up.row_bytes(row, 1));
                            }
                        }
                    }
                    for (place, z) in places.zip(xs) {
                        self.multiply_open(&up, cols.start, z, tile.row(place));
                    }
                });
            },
        );
    }

    /// Multiplies the neurons with open gates by their rows of `up`, which start at row `first`;
    /// the others become zero.
    fn multiply_open(&self, up: &Matrix<'_>, first: usize, z: &Activation<'_>, gates: &mut [f32]) {
        let mut open = heapless::Vec::<u32, NEURONS>::new();
        for (i, gate) in gates.iter_mut().enumerate() {
            if *gate > 0.0 {
                let _full = open.push((first + i) as u32);
            } else {
                *gate = 0.0;
            }
        }
        let mut values = [0.0; NEURONS];
        let values = &mut values[..open.len()];
        self.pick(up, &open, z, values);
        for (value, row) in values.iter().zip(&open) {
            gates[*row as usize - first] *= value;
        }
    }

    /// out[i] = row `rows[i]` of `matrix` · x, where the layout keeps rows together.
    pub(crate) fn pick(
        &self,
        matrix: &Matrix<'_>,
        rows: &[u32],
        x: &Activation<'_>,
        out: &mut [f32],
    ) {
        if matrix.layout() == Layout::Split {
            return self.kernels.pick_rows()(matrix.bytes(), rows, x, out);
        }
        let product = self.product(matrix.format(), matrix.layout());
        for (value, row) in out.iter_mut().zip(rows) {
            product(matrix.row_bytes(*row as usize, 1), &[*x], core::slice::from_mut(value));
        }
    }

    /// outputs = Wdown · neurons for the experts of some bands, a row for each choice, sorted by
    /// expert.
    fn down(
        &self,
        down: &Down<'_>,
        experts: Lender<'_>,
        bands: Bands<'_>,
        n: usize,
        neurons: &mut Rows<'_>,
        outputs: &mut [f32],
    ) {
        let Config { hidden, active, .. } = *self.config;
        let (format, layout) = (experts.format(Part::Down), experts.layout(Part::Down));
        if let Down::Outputs(_) = down {
            self.encode_rows(neurons, n * active, bands, format.encoding());
        }
        let neurons = &*neurons;
        let outputs = Grid::new(&mut outputs[..n * active * hidden], hidden, hidden);
        match down {
            Down::Outputs(_) if layout == Layout::Columns => {
                let sum_columns = self.kernels.sum_columns();
                outputs.for_each_tile(self.parallel, bands, COLUMNS_TILE, |tile| {
                    let cols = tile.cols();
                    let down = experts.matrix(Part::Down, tile.band());
                    for place in tile.rows() {
                        sum_columns(
                            down.bytes(),
                            &neurons.row(place),
                            cols.clone(),
                            tile.row(place),
                        );
                    }
                });
            }
            Down::Outputs(_) => {
                let product = self.product(format, layout);
                outputs.for_each_tile(self.parallel, bands, TILE, |tile| {
                    let cols = tile.cols();
                    let down = experts.matrix(Part::Down, tile.band());
                    let down = down.row_bytes(cols.start, cols.len());
                    let row = |place: usize| neurons.row(place);
                    multiply_tile(product, down, tile, row, <[f32]>::copy_from_slice);
                });
            }
            Down::Neurons(_) => {
                let width = TILE.max(format.block_len());
                outputs.for_each_tile(self.parallel, bands, width, |tile| {
                    let cols = tile.cols();
                    let down = experts.matrix(Part::Down, tile.band());
                    for place in tile.rows() {
                        let values = neurons.row(place).values;
                        self.add_neurons(&down, values, cols.start, tile.row(place));
                    }
                });
            }
        }
    }

    /// `out = Σ neuron · row` over the neurons that are not zero, in their order, for the columns of
    /// the rows from `start` on.
    fn add_neurons(&self, matrix: &Matrix<'_>, neurons: &[f32], start: usize, out: &mut [f32]) {
        let (format, axpy) = (matrix.format(), self.kernels.axpy());
        let block = |col: usize| col / format.block_len() * format.block_bytes();
        let bytes = block(start)..block(start + out.len());
        out.fill(0.0);
        for (row, neuron) in neurons.iter().enumerate().filter(|(_, neuron)| **neuron != 0.0) {
            axpy(format, &matrix.row_bytes(row, 1)[bytes.clone()], *neuron, out);
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
        s.output_rows = match self.output.profiler(self.weights) {
            Some(profiler) => (0..wanted).map(|i| self.predict(&profiler, i, s)).sum(),
            None => {
                let shortlisted = (0..wanted).map(|i| self.shortlist(self.top, i, s));
                shortlisted.sum::<Option<usize>>().unwrap_or_else(|| {
                    let (output, normed) = (self.weights.lm_head(), &s.hidden);
                    let copy = <[f32]>::copy_from_slice;
                    self.multiply(&[output], |i| normed.row(i), wanted, s.logits, copy);
                    wanted * output.rows()
                })
            }
        };
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
        norm.dequantize_row(0, s.norm);
        let (residual, weight) = (&*s.residual, &*s.norm);
        self.for_each_row(&mut s.hidden, n, Encoding::Q8_0, |i, row| {
            let x = &residual[token(i) * hidden..][..hidden];
            scalar::rms_norm(x, weight, rms_eps, &mut row[..hidden]);
        });
    }

    /// Lets `fill` write the values of each of the first `n` rows, then computes their 8-bit forms
    /// if what they will be multiplied with is quantized.
    pub(crate) fn for_each_row(
        &self,
        rows: &mut Rows<'_>,
        n: usize,
        encoding: Encoding,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (layout, encode) = (rows.layout, self.kernels.encode());
        let stride = layout.stride();
        let parallel = self.threads_for(n * stride);
        Grid::new(rows.first(n), stride, stride).for_each_tile(
            parallel,
            Bands::Each,
            stride,
            |tile| {
                let i = tile.band();
                fill(i, tile.row(i));
                if encoding != Encoding::F32 {
                    encode(&layout, tile.row(i));
                }
            },
        );
    }

    /// Computes the 8-bit forms of the rows of some bands.
    fn encode_rows(&self, rows: &mut Rows<'_>, n: usize, bands: Bands<'_>, encoding: Encoding) {
        if encoding == Encoding::F32 {
            return;
        }
        let (layout, encode) = (rows.layout, self.kernels.encode());
        let stride = layout.stride();
        let parallel = self.threads_for(n * stride);
        Grid::new(rows.first(n), stride, stride).for_each_tile(parallel, bands, stride, |tile| {
            tile.rows().for_each(|i| encode(&layout, tile.row(i)));
        });
    }

    /// Hands `store` the products of the matrices, side by side, with `row(t)` for `t < n`, some
    /// rows of a matrix at a time, and the place in `out[t]` where they belong.
    fn multiply<'a>(
        &self,
        matrices: &[&Matrix<'_>],
        row: impl Fn(usize) -> Activation<'a> + Sync,
        n: usize,
        out: &mut [f32],
        store: impl Fn(&mut [f32], &[f32]) + Sync,
    ) {
        let mut cuts = heapless::Vec::<usize, 4>::from_array([0]);
        for matrix in matrices {
            let end = cuts[cuts.len() - 1] + matrix.rows();
            cuts.push(end).expect("at most three matrices are multiplied together");
        }
        let width = cuts[matrices.len()];
        let is_plain = matrices.iter().all(|m| m.format().encoding() == Encoding::F32);
        let rows = if is_plain { PLAIN_TILE } else { TILE };
        let grid = Grid::new(&mut out[..n * width], width, width);
        grid.for_each_tile_within(self.parallel, Bands::One, &cuts, rows, |tile| {
            let (matrix, first) = (matrices[tile.part()], cuts[tile.part()]);
            let cols = tile.cols();
            let product = self.product(matrix.format(), matrix.layout());
            let weights = matrix.row_bytes(cols.start - first, cols.len());
            multiply_tile(product, weights, tile, &row, &store);
        });
    }

    /// The product with all rows of a matrix.
    ///
    /// # Panics
    /// If the layout has none; [`Weights::check_layouts`] refuses such a matrix.
    pub(crate) fn product(&self, format: Format, layout: Layout) -> MatMul {
        self.kernels.matmul(format, layout).expect("the layout is one for products with all rows")
    }

    /// All threads, or the caller's alone if there are few values to go through.
    fn threads_for(&self, values: usize) -> &dyn Parallel {
        if values < SERIAL { &Serial } else { self.parallel }
    }
}

/// Hands `store` the products of `weights` with `row(i)`, for each row `i` of the tile, and the
/// tile's part of that row.
fn multiply_tile<'a>(
    product: MatMul,
    weights: &[u8],
    tile: &mut Tile<'_>,
    row: impl Fn(usize) -> Activation<'a>,
    store: impl Fn(&mut [f32], &[f32]),
) {
    let width = tile.cols().len();
    for_some_tokens(tile.rows(), row, |rows, xs| {
        let mut room = [0.0; TOKENS * TILE];
        let products = &mut room[..xs.len() * width];
        product(weights, xs, products);
        for (row, y) in rows.zip(products.chunks_exact(width)) {
            store(tile.row(row), y);
        }
    });
}

/// Hands `work` up to [`TOKENS`] of some rows at a time, and what they hold.
fn for_some_tokens<'a>(
    rows: Range<usize>,
    row: impl Fn(usize) -> Activation<'a>,
    mut work: impl FnMut(Range<usize>, &[Activation<'a>]),
) {
    for start in rows.clone().step_by(TOKENS) {
        let some = start..rows.end.min(start + TOKENS);
        let xs: heapless::Vec<_, TOKENS> = some.clone().map(&row).collect();
        work(some, &xs);
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
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
