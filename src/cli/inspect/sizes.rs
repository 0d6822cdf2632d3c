//! What the bytes of a model's weights are for.

use crate::memory::Mib;
use serde::Serialize;
use std::io::{self, Write};
use wick_core::{HeadRows, Traffic};
use wick_linux::host::Model;

/// Bytes of weights.
#[derive(Serialize)]
pub(super) struct Sizes {
    /// Of the tensors that every token may need, and of all experts.
    dense: usize,
    experts: usize,
    /// The experts' share of both.
    expert_share: f64,
    /// Of those that a token is multiplied with if no neuron of its experts stays at zero.
    token: u64,
}

impl Sizes {
    pub(super) fn of(model: &Model<'_>) -> Sizes {
        let (config, weights) = (&model.config, &model.weights);
        let (dense, all) = (weights.dense_bytes(), weights.bytes());
        let experts = all.saturating_sub(dense);
        let neurons = |_| config.active * config.expert_width;
        let all_rows = (HeadRows::Exact, config.vocab);
        let token = Traffic::of_token(weights, config.active, all_rows, neurons).total();
        Sizes { dense, experts, expert_share: experts as f64 / all.max(1) as f64, token }
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "bytes       experts {} ({:.1} %), all else {}; a token needs {}",
            Mib(self.experts),
            100.0 * self.expert_share,
            Mib(self.dense),
            Mib(self.token as usize)
        )
    }
}
