//! The shape of a model.

use core::fmt;

/// Layers a model may have.
pub const MAX_LAYERS: usize = 96;
/// Experts a layer may have.
pub const MAX_EXPERTS: usize = 1024;
/// Experts that a token may choose.
pub const MAX_ACTIVE: usize = 32;

/// How the logits of the chosen experts become weights that sum to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// Softmax over the chosen logits.
    Softmax,
    /// Sigmoid of each, divided by the sum over the chosen.
    Sigmoid,
}

/// Which layers see only the last `size` positions, the query's own included.
///
/// In each run of `period` layers the first sees everything and has no positional embedding
/// (NoPE); the others are windowed and have RoPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Positions seen.
    pub size: usize,
    /// Layers from one global layer to the next.
    pub period: usize,
}

/// The shape of a SmallThinker model and the constants of its arithmetic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads; each is shared by `heads / kv_heads` query heads (GQA).
    pub kv_heads: usize,
    /// Size of a head; `heads · head` need not equal `hidden`.
    pub head: usize,
    /// Leading values of a head that RoPE turns.
    pub rope_dims: usize,
    /// RoPE's theta.
    pub rope_base: f32,
    /// Experts in a layer.
    pub experts: usize,
    /// Experts that a token uses.
    pub active: usize,
    /// Neurons in an expert.
    pub expert_width: usize,
    /// How router logits become weights.
    pub gating: Gating,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Longest context the model was made for.
    pub context: usize,
    /// Epsilon of RMSNorm.
    pub rms_eps: f32,
    /// Window layout; `None`: every layer sees everything and has RoPE.
    pub window: Option<Window>,
}

impl Config {
    /// Checks that the numbers describe a model that can be computed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |what, found, least, most| match found {
            n if n < least || n > most => Err(ConfigError::Range { what, found, least, most }),
            _ => Ok(()),
        };
        // A vector of the model, a row of a matrix and the KV of a position stay far below 2^31.
        const MOST: usize = 1 << 24;
        within("layers", self.layers, 1, MAX_LAYERS)?;
        within("hidden size", self.hidden, 1, MOST)?;
        within("query heads", self.heads, 1, 4096)?;
        within("KV heads", self.kv_heads, 1, self.heads)?;
        within("head size", self.head, 1, 4096)?;
        within("RoPE dimensions", self.rope_dims, 2, self.head)?;
        within("experts", self.experts, 1, MAX_EXPERTS)?;
        within("active experts", self.active, 1, MAX_ACTIVE.min(self.experts))?;
        within("expert width", self.expert_width, 1, MOST)?;
        within("vocabulary", self.vocab, 1, MOST)?;
        within("context", self.context, 1, MOST)?;
        if let Some(window) = self.window {
            within("window", window.size, 1, usize::MAX)?;
            within("window period", window.period, 1, usize::MAX)?;
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(ConfigError::Groups { heads: self.heads, kv_heads: self.kv_heads });
        }
        if !self.rope_dims.is_multiple_of(2) {
            return Err(ConfigError::OddRope { dims: self.rope_dims });
        }
        let positive = |what, found: f32| match found {
            x if x.is_finite() && x > 0.0 => Ok(()),
            _ => Err(ConfigError::NotPositive { what, found }),
        };
        positive("RoPE base", self.rope_base)?;
        positive("RMSNorm epsilon", self.rms_eps)
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head
    }

    /// Width of all KV heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head
    }

    /// The window of a layer, or `None` where it sees everything.
    pub fn layer_window(&self, layer: usize) -> Option<usize> {
        let window = self.window?;
        (!layer.is_multiple_of(window.period)).then_some(window.size)
    }

    /// Whether a layer has rotary embeddings.
    pub fn layer_has_rope(&self, layer: usize) -> bool {
        self.window.is_none() || self.layer_window(layer).is_some()
    }
}

/// Why a [`Config`] cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConfigError {
    /// A number is outside its range.
    Range {
        /// What the number is.
        what: &'static str,
        /// The number.
        found: usize,
        /// Least that is possible.
        least: usize,
        /// Most that is possible.
        most: usize,
    },
    /// Query heads cannot be shared out evenly among KV heads.
    Groups {
        /// Query heads.
        heads: usize,
        /// KV heads.
        kv_heads: usize,
    },
    /// RoPE turns pairs.
    OddRope {
        /// Dimensions that were asked for.
        dims: usize,
    },
    /// A constant must be finite and greater than zero.
    NotPositive {
        /// What the constant is.
        what: &'static str,
        /// Its value.
        found: f32,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ConfigError::Range { what, found, least, most } => {
                write!(f, "{what}: {least} to {most} expected, {found} found")
            }
            ConfigError::Groups { heads, kv_heads } => {
                write!(
                    f,
                    "query heads: a multiple of the {kv_heads} KV heads expected, {heads} found"
                )
            }
            ConfigError::OddRope { dims } => {
                write!(f, "RoPE dimensions: an even number expected, {dims} found")
            }
            ConfigError::NotPositive { what, found } => {
                write!(f, "{what}: a finite number greater than 0 expected, {found} found")
            }
        }
    }
}

impl core::error::Error for ConfigError {}
