//! The tensors of a model: what each is called, how large it is and how it is used, in one table.
//! Whatever goes through the tensors of a model loops over it.

use crate::config::Config;
use Input::{Attended, Hidden, Neurons};
use Layout::{Columns, Grouped, Rows, Split};
use Scope::{EachLayer, Once};
use Storage::{Blocks, Plain};
use core::fmt;
use wick_kernels::Layout;

/// A tensor of a SmallThinker model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embedding.
    Embedding,
    /// Weight of the last norm.
    OutputNorm,
    /// LM head; a model without one is tied, and its embedding does the work.
    LmHead,
    /// Predictor of rows of the LM head, which PowerInfer's files carry: two matrices, one after the
    /// other.
    Profiler,
    /// Weight of the norm before attention.
    AttnNorm,
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// Attention output.
    AttnOutput,
    /// Weight of the norm before the experts.
    FfnNorm,
    /// Router.
    Router,
    /// Gates of the experts.
    Gate,
    /// Ups of the experts.
    Up,
    /// Downs of the experts.
    Down,
}

/// A row: role, name without layer and `.weight`, how often there is one, shape, how weights may be
/// stored, how the kernels want them, and what they are multiplied with.
struct Row(Role, &'static str, Scope, fn(&Config) -> TensorShape, Storage, Layout, Option<Input>);

/// The tensors, in the order of a file.
#[rustfmt::skip]
const TABLE: [Row; 14] = [
    Row(Role::Embedding,  "token_embd",       Once,      |c| matrix(c.vocab, c.hidden),              Blocks, Rows,    None),
    Row(Role::OutputNorm, "output_norm",      Once,      |c| vector(c.hidden),                       Plain,  Rows,    None),
    Row(Role::LmHead,     "output",           Once,      |c| matrix(c.vocab, c.hidden),              Blocks, Grouped, Some(Hidden)),
    Row(Role::Profiler,   "lm_head_profiler", Once,      |c| vector(c.hidden + c.vocab),             Blocks, Grouped, Some(Hidden)),
    Row(Role::AttnNorm,   "attn_norm",        EachLayer, |c| vector(c.hidden),                       Plain,  Rows,    None),
    Row(Role::Query,      "attn_q",           EachLayer, |c| matrix(c.query_width(), c.hidden),      Blocks, Grouped, Some(Hidden)),
    Row(Role::Key,        "attn_k",           EachLayer, |c| matrix(c.kv_width(), c.hidden),         Blocks, Grouped, Some(Hidden)),
    Row(Role::Value,      "attn_v",           EachLayer, |c| matrix(c.kv_width(), c.hidden),         Blocks, Grouped, Some(Hidden)),
    Row(Role::AttnOutput, "attn_output",      EachLayer, |c| matrix(c.hidden, c.query_width()),      Blocks, Grouped, Some(Attended)),
    Row(Role::FfnNorm,    "ffn_norm",         EachLayer, |c| vector(c.hidden),                       Plain,  Rows,    None),
    // Quantizing the router would scramble the choice.
    Row(Role::Router,     "ffn_gate_inp",     EachLayer, |c| matrix(c.experts, c.hidden),            Plain,  Rows,    None),
    Row(Role::Gate,       "ffn_gate_exps",    EachLayer, |c| experts(c, c.expert_width, c.hidden),   Blocks, Grouped, Some(Hidden)),
    Row(Role::Up,         "ffn_up_exps",      EachLayer, |c| experts(c, c.expert_width, c.hidden),   Blocks, Split,   Some(Hidden)),
    Row(Role::Down,       "ffn_down_exps",    EachLayer, |c| experts(c, c.hidden, c.expert_width),   Blocks, Columns, Some(Neurons)),
];

/// How often a model has a tensor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Once,
    EachLayer,
}

/// How the weights of a tensor may be stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Storage {
    /// One by one only.
    Plain,
    /// One by one, or in blocks.
    Blocks,
}

/// The activations that a tensor is multiplied with in an encoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Rows of the residual stream, normed.
    Hidden,
    /// What attention gives.
    Attended,
    /// The neurons of an expert.
    Neurons,
}

/// The table is searched by the number of a role.
const _: () = {
    let mut i = 0;
    while i < TABLE.len() {
        assert!(TABLE[i].0 as usize == i, "rows in the order of roles");
        i += 1;
    }
};

impl Role {
    /// All roles, in the order of a file: first what a model has once.
    pub const ALL: [Role; TABLE.len()] = {
        let mut all = [Role::Embedding; TABLE.len()];
        let mut i = 0;
        while i < TABLE.len() {
            all[i] = TABLE[i].0;
            i += 1;
        }
        all
    };

    /// What a model has once.
    pub fn once() -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(|role| !role.is_in_each_layer())
    }

    /// What every layer has.
    pub fn each_layer() -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(|role| role.is_in_each_layer())
    }

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The name in GGUF files, without layer and `.weight`.
    pub const fn stem(self) -> &'static str {
        self.row().1
    }

    /// Whether every layer has one.
    pub const fn is_in_each_layer(self) -> bool {
        matches!(self.row().2, EachLayer)
    }

    /// The shape in a model; downs have a row for each output. The predictor has this many weights
    /// for each of its features, of which a file has as many as it likes.
    pub fn shape(self, config: &Config) -> TensorShape {
        (self.row().3)(config)
    }

    /// The shape in a model whose downs have a row for each neuron, as in PowerInfer's files, or one
    /// for each output, as in llama.cpp's.
    pub fn shape_in(self, config: &Config, by_neuron: bool) -> TensorShape {
        let shape = self.shape(config);
        if by_neuron && matches!(self, Role::Down) { shape.transposed() } else { shape }
    }

    /// Whether weights must be stored one by one, and not in blocks.
    pub const fn is_plain(self) -> bool {
        matches!(self.row().4, Plain)
    }

    /// How the kernels want it, where that fits its format and shape. What becomes of the LM head and
    /// its predictor is up to the [`HeadRows`](crate::HeadRows): see
    /// [`once_layout`](crate::once_layout). Downs with a row for each neuron stay as they are.
    pub const fn layout(self) -> Layout {
        self.row().5
    }

    /// The same in a layer whose downs have a row for each neuron, or one for each output.
    pub const fn layout_in(self, by_neuron: bool) -> Layout {
        if by_neuron && matches!(self, Role::Down) { Rows } else { self.layout() }
    }

    /// What it is multiplied with, if that is ever encoded.
    pub const fn input(self) -> Option<Input> {
        self.row().6
    }

    /// Which part of an expert it has, if it has experts.
    pub const fn part(self) -> Option<Part> {
        match self {
            Role::Gate => Some(Part::Gate),
            Role::Up => Some(Part::Up),
            Role::Down => Some(Part::Down),
            _ => None,
        }
    }
}

/// A matrix of an expert, in the order in which they are read and used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// `ffn_gate_exps`.
    Gate,
    /// `ffn_up_exps`.
    Up,
    /// `ffn_down_exps`.
    Down,
}

impl Part {
    /// All parts, in order.
    pub const ALL: [Part; 3] = [Part::Gate, Part::Up, Part::Down];

    /// The tensor that has it.
    pub const fn role(self) -> Role {
        match self {
            Part::Gate => Role::Gate,
            Part::Up => Role::Up,
            Part::Down => Role::Down,
        }
    }

    /// The name of the tensor that has it, without layer and `.weight`.
    pub const fn tensor(self) -> &'static str {
        self.role().stem()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Gate => "gate",
            Part::Up => "up",
            Part::Down => "down",
        })
    }
}

/// The dimensions of a tensor: a vector, a matrix, or the same matrix of several experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorShape {
    sizes: [usize; 3],
    rank: usize,
}

impl TensorShape {
    /// Weights in a row.
    pub const fn cols(&self) -> usize {
        self.sizes[0]
    }

    /// Rows of a matrix; 1 of a vector.
    pub const fn rows(&self) -> usize {
        self.sizes[1]
    }

    /// Matrices: as many as experts, or 1.
    pub const fn count(&self) -> usize {
        self.sizes[2]
    }

    /// The dimensions in GGUF's order: the length of a row first.
    pub fn dims(&self) -> &[usize] {
        &self.sizes[..self.rank]
    }

    const fn transposed(self) -> TensorShape {
        let [cols, rows, count] = self.sizes;
        TensorShape { sizes: [rows, cols, count], ..self }
    }
}

const fn vector(cols: usize) -> TensorShape {
    TensorShape { sizes: [cols, 1, 1], rank: 1 }
}

const fn matrix(rows: usize, cols: usize) -> TensorShape {
    TensorShape { sizes: [cols, rows, 1], rank: 2 }
}

const fn experts(config: &Config, rows: usize, cols: usize) -> TensorShape {
    TensorShape { sizes: [cols, rows, config.experts], rank: 3 }
}
