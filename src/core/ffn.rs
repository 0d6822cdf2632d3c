//! What experts make of the residual stream: gate, up and down of those neurons that are not silent.

use crate::config::Config;
use crate::lender::Lender;
use crate::parallel::{Bands, Grid};
use crate::pass::Pass;
use crate::products::{TILE, TOKENS, for_some_tokens, multiply_tile};
use crate::scratch::{Ffn, Rows, Scratch};
use crate::store::Part;
use crate::token::Token;
use crate::weights::{Down, Matrix};
use core::ops::Range;
use wick_kernels::{Activation, GROUP, Layout, scalar};

/// Neurons of an expert in one tile: enough for the first rows of `Wup` to arrive while the last
/// gates are computed.
const NEURONS: usize = 128;
/// Gates that are computed before the rows of `Wup` are asked for where they are open: two groups of
/// rows, which share what is loaded of a token.
const GATES: usize = 2 * GROUP;
/// Outputs in one tile of a product by columns, which reads as many nibbles of each column: long runs,
/// because columns lie apart.
const COLUMNS_TILE: usize = 1536;

impl Pass<'_> {
    /// neurons = relu(Wgate z) ⊙ (Wup z) for the experts of some bands, a row for each choice, sorted
    /// by expert. A row of `Wup` is read only where the gate is open; it is asked for as soon as that
    /// is known, so that it comes while further gates are computed.
    pub(crate) fn gate_and_up(
        &self,
        experts: Lender<'_>,
        bands: Bands<'_>,
        hidden: &Rows<'_>,
        choices: &[usize],
        n: usize,
        neurons: &mut Rows<'_>,
    ) {
        let Config { active, expert_width, .. } = *self.config;
        let product = self.products.product(experts.format(Part::Gate), experts.layout(Part::Gate));
        let prefetch = self.products.kernels.prefetch();
        let stride = neurons.layout.stride();
        Grid::new(neurons.first(n * active), stride, expert_width).for_each_tile(
            self.products.parallel,
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
    /// the others become zero. Where a gate is not finite, a neuron is not either.
    fn multiply_open(&self, up: &Matrix<'_>, first: usize, z: &Activation<'_>, gates: &mut [f32]) {
        let is_finite = scalar::all_finite(gates);
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
        self.products.pick(up, &open, z, values);
        for (value, row) in values.iter().zip(&open) {
            gates[*row as usize - first] *= value;
        }
        if let Some(gate) = gates.first_mut().filter(|_| !is_finite) {
            *gate = f32::NAN;
        }
    }

    /// outputs = Wdown · neurons for the experts of some bands, a row for each choice, sorted by
    /// expert.
    pub(crate) fn down(
        &self,
        down: &Down<'_>,
        experts: Lender<'_>,
        bands: Bands<'_>,
        n: usize,
        s: &mut Ffn<'_>,
    ) {
        let Config { hidden, active, .. } = *self.config;
        let (format, layout) = (experts.format(Part::Down), experts.layout(Part::Down));
        if let Down::Outputs(_) = down {
            self.products.encode_rows(&mut s.neurons, n * active, bands, format.encoding());
        }
        let neurons = &s.neurons;
        let outputs = Grid::new(&mut s.outputs[..n * active * hidden], hidden, hidden);
        match down {
            Down::Outputs(_) if layout == Layout::Columns => {
                let sum_columns = self.products.kernels.sum_columns();
                let each = |down: &Matrix<'_>, place, cols, out: &mut [f32]| {
                    sum_columns(down.bytes(), &neurons.row(place), cols, out);
                };
                self.down_by_neurons(experts, bands, COLUMNS_TILE, outputs, each);
            }
            Down::Outputs(_) => self.down_by_rows(experts, bands, neurons, outputs),
            Down::Neurons(_) => {
                let width = TILE.max(format.block_len());
                let each = |down: &Matrix<'_>, place, cols: Range<usize>, out: &mut [f32]| {
                    self.add_neurons(down, neurons.row(place).values, cols.start, out);
                };
                self.down_by_neurons(experts, bands, width, outputs, each);
            }
        }
    }

    /// Each output is the product of a row and all neurons; a tile's rows are read once for all tokens.
    fn down_by_rows(
        &self,
        experts: Lender<'_>,
        bands: Bands<'_>,
        neurons: &Rows<'_>,
        outputs: Grid<'_>,
    ) {
        let product = self.products.product(experts.format(Part::Down), experts.layout(Part::Down));
        outputs.for_each_tile(self.products.parallel, bands, TILE, |tile| {
            let cols = tile.cols();
            let down = experts.matrix(Part::Down, tile.band());
            let down = down.row_bytes(cols.start, cols.len());
            let row = |place: usize| neurons.row(place);
            multiply_tile(product, down, tile, row, <[f32]>::copy_from_slice);
        });
    }

    /// The outputs are sums over the active neurons of a token: `each` makes some columns of one, by
    /// the neurons' place.
    fn down_by_neurons(
        &self,
        experts: Lender<'_>,
        bands: Bands<'_>,
        width: usize,
        outputs: Grid<'_>,
        each: impl Fn(&Matrix<'_>, usize, Range<usize>, &mut [f32]) + Sync,
    ) {
        outputs.for_each_tile(self.products.parallel, bands, width, |tile| {
            let cols = tile.cols();
            let down = experts.matrix(Part::Down, tile.band());
            for place in tile.rows() {
                each(&down, place, cols.clone(), tile.row(place));
            }
        });
    }

    /// `out = Σ neuron · row` over the neurons that are not zero, in their order, for the columns of
    /// the rows from `start` on.
    fn add_neurons(&self, matrix: &Matrix<'_>, neurons: &[f32], start: usize, out: &mut [f32]) {
        let (format, axpy) = (matrix.format(), self.products.kernels.axpy());
        let block = |col: usize| col / format.block_len() * format.block_bytes();
        let bytes = block(start)..block(start + out.len());
        out.fill(0.0);
        for (row, neuron) in neurons.iter().enumerate().filter(|(_, neuron)| **neuron != 0.0) {
            axpy(format, &matrix.row_bytes(row, 1)[bytes.clone()], *neuron, out);
        }
    }

    /// residual += Σ weight · outputs over each token's choices, best first; a token that has failed
    /// stays as it is.
    pub(crate) fn add_outputs(&self, index: usize, batch: &[Token], s: &mut Scratch<'_>) {
        let (Config { hidden, active, .. }, n) = (*self.config, batch.len());
        self.check_neurons(index, batch, s);
        let neurons = (0..n * active).map(|place| s.ffn.neurons.row(place).values);
        let open = |row: &[f32]| row.iter().map(|v| u32::from(*v != 0.0)).sum::<u32>() as usize;
        s.ffn.active_neurons[index] = neurons.map(open).sum();

        let (tokens, outputs) = (&s.tokens, &*s.ffn.outputs);
        let (weights, places) = (&*s.router.weights, &*s.router.places);
        let residual = &mut s.stream.residual[..n * hidden];
        Grid::new(residual, hidden, hidden).for_each_tile(
            self.products.threads_for(n * active * hidden),
            Bands::Each,
            hidden,
            |tile| {
                let t = tile.band();
                if tokens.has_failed(t) {
                    return;
                }
                for choice in t * active..(t + 1) * active {
                    let y = &outputs[places[choice] * hidden..][..hidden];
                    scalar::scale_add(weights[choice], y, tile.row(t));
                }
            },
        );
    }
}
