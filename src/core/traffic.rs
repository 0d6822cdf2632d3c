//! How many bytes of weights the decoding of a token moves, which is what bounds its speed.

use crate::arrangement::expert_layout;
use crate::head_rows::HeadRows;
use crate::matrix::{Down, ExpertMatrices};
use crate::role::Part;
use crate::weights::Weights;
use core::ops::AddAssign;
use wick_kernels::Layout;

/// Bytes of weights that the forward pass reads, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// A row of the embedding, and every layer's norms, attention and router.
    pub dense: u64,
    /// The gates of the chosen experts.
    pub gate: u64,
    /// The rows of the chosen experts' ups whose neurons are active.
    pub up: u64,
    /// The chosen experts' downs: all of them where a row gives an output, the rows of active
    /// neurons where a row belongs to a neuron; arranged by columns, all scales and the columns of
    /// active neurons.
    pub down: u64,
    /// The last norm, the rows of the LM head that are multiplied, and what chooses them.
    pub lm_head: u64,
}

impl Traffic {
    /// What a step of one token reads that wants its logits, with `experts` experts in each layer
    /// and `active_neurons(layer)` neurons of them together, and multiplies so many rows of the LM head
    /// that were chosen so; see [`Engine::active_neurons`](crate::Engine::active_neurons) and
    /// [`Engine::lm_head_rows`](crate::Engine::lm_head_rows).
    pub fn of_token(
        weights: &Weights<'_>,
        experts: usize,
        lm_head_rows: (HeadRows, usize),
        active_neurons: impl Fn(usize) -> usize,
    ) -> Traffic {
        Traffic::of_step(weights, 1, |_| experts, lm_head_rows, active_neurons)
    }

    /// The same for a step of `tokens` tokens, which share what they read: of `experts(layer)` different experts. A neuron
    /// that is active for several tokens counts for each, so that this is what the step reads at most.
    pub fn of_step(
        weights: &Weights<'_>,
        tokens: usize,
        experts: impl Fn(usize) -> usize,
        (head_rows, rows): (HeadRows, usize),
        active_neurons: impl Fn(usize) -> usize,
    ) -> Traffic {
        let mut traffic = Traffic {
            dense: (tokens * weights.embedding.row_bytes(0, 1).len()) as u64,
            lm_head: lm_head_bytes(weights, head_rows, rows),
            ..Traffic::default()
        };
        for (i, layer) in weights.layers.iter().enumerate() {
            let (experts, neurons) = (experts(i) as u64, active_neurons(i) as u64);
            traffic.dense += layer.dense_bytes() as u64;
            traffic.gate += experts * expert_bytes(&layer.gate);
            traffic.up += neurons * row_bytes(&layer.up);
            traffic.down += match &layer.down {
                Down::Outputs(down) if expert_layout(layer, Part::Down) == Layout::Columns => {
                    let first = down.expert(0);
                    let column = first.rows() as u64 / 2;
                    let quants = column * first.cols() as u64;
                    experts * (expert_bytes(down) - quants) + neurons * column
                }
                Down::Outputs(down) => experts * expert_bytes(down),
                Down::Neurons(down) => neurons * row_bytes(down),
            };
        }
        traffic
    }

    /// All bytes.
    pub fn total(&self) -> u64 {
        self.dense + self.gate + self.up + self.down + self.lm_head
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.dense += other.dense;
        self.gate += other.gate;
        self.up += other.up;
        self.down += other.down;
        self.lm_head += other.lm_head;
    }
}

fn lm_head_bytes(weights: &Weights<'_>, head_rows: HeadRows, rows: usize) -> u64 {
    let (head, norm) = (weights.lm_head(), len(&[weights.output_norm.bytes()]));
    let rows = rows.min(head.rows());
    let chooser = match (head_rows.sketch(weights), head_rows.profiler(weights)) {
        _ if rows == head.rows() => 0,
        (Some(sketch), _) => len(&[sketch]),
        (None, Some(profiler)) => len(&[profiler.fc1.bytes(), profiler.fc2.bytes()]),
        (None, None) => 0,
    };
    norm + chooser + (head.bytes().len() / head.rows() * rows) as u64
}

fn len(tensors: &[&[u8]]) -> u64 {
    tensors.iter().map(|bytes| bytes.len() as u64).sum()
}

fn expert_bytes(matrices: &ExpertMatrices<'_>) -> u64 {
    matrices.expert(0).bytes().len() as u64
}

fn row_bytes(matrices: &ExpertMatrices<'_>) -> u64 {
    matrices.expert(0).row_bytes(0, 1).len() as u64
}
