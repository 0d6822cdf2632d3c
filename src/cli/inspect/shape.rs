//! The shape of a model.

use serde::Serialize;
use std::io::{self, Write};
use wick_core::{Config, Down, Gating};
use wick_linux::host::Model;

#[derive(Serialize)]
pub(super) struct Shape {
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head: usize,
    rope_dims: usize,
    rope_base: f32,
    experts: usize,
    active_experts: usize,
    expert_width: usize,
    gating: &'static str,
    vocabulary: usize,
    context: usize,
    rms_eps: f32,
    window: Option<usize>,
    global_layers: Vec<usize>,
    tied_output: bool,
    down: &'static str,
    profiler: bool,
}

impl Shape {
    pub(super) fn of(model: &Model<'_>) -> Shape {
        let Config { layers, window, gating, .. } = model.config;
        let weights = &model.weights;
        let c = &model.config;
        Shape {
            layers,
            hidden: c.hidden,
            heads: c.heads,
            kv_heads: c.kv_heads,
            head: c.head,
            rope_dims: c.rope_dims,
            rope_base: c.rope_base,
            experts: c.experts,
            active_experts: c.active,
            expert_width: c.expert_width,
            gating: match gating {
                Gating::Softmax => "softmax",
                Gating::Sigmoid => "sigmoid",
            },
            vocabulary: c.vocab,
            context: c.context,
            rms_eps: c.rms_eps,
            window: window.map(|w| w.size),
            global_layers: (0..layers).filter(|layer| c.layer_window(*layer).is_none()).collect(),
            tied_output: weights.is_tied(),
            down: match weights.layers[0].down {
                Down::Outputs(_) => "a row for each output",
                Down::Neurons(_) => "a row for each neuron",
            },
            profiler: weights.profiler.is_some(),
        }
    }

    /// The shape for people.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "shape       {} layers of {}; {} query and {} KV heads of {}; vocabulary {}",
            self.layers, self.hidden, self.heads, self.kv_heads, self.head, self.vocabulary
        )?;
        writeln!(
            out,
            "experts     {} of {} neurons in a layer, {} for a token, {} router",
            self.experts, self.expert_width, self.active_experts, self.gating
        )?;
        match self.window {
            None => writeln!(out, "attention   every layer sees everything, with RoPE")?,
            Some(size) => writeln!(
                out,
                "attention   window of {size} with RoPE; layers {:?} see everything, without",
                self.global_layers
            )?,
        }
        writeln!(out, "context     {} positions; RoPE base {}", self.context, self.rope_base)?;
        let output = if self.tied_output { "tied to the embedding" } else { "own matrix" };
        writeln!(out, "output      {output}")?;
        writeln!(out, "down        {}", self.down)
    }
}
