//! The shape of a model, from its metadata and the shapes of two tensors.

use wick_core::{Config, Gating, Role, TensorName, Window};

use crate::dims::Dims;
use crate::error::Error;
use crate::gguf::{Entry, Gguf};
use crate::kind::Kind;
use crate::model::Model;
use crate::packed::Keys;
use crate::tensor::Tensor;
use crate::value::{Array, Value};

/// The `general.architecture` that wick runs.
pub const ARCHITECTURE: &str = "smallthinker";
/// Layers from one global layer to the next where the file does not say.
pub const PERIOD: usize = 4;
/// Says how wide experts are.
const UPS: TensorName = TensorName::of_layer(0, Role::Up);
/// Says how many entries the vocabulary has.
const EMBEDDING: TensorName = TensorName::once(Role::Embedding);

/// What the caller knows better than the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// How router logits become weights.
    pub gating: Option<Gating>,
}

impl<'m> Model<'_, 'm> {
    /// The shape of the model.
    ///
    /// Expert width and vocabulary come from `blk.0.ffn_up_exps` (of a packed file: from
    /// `wick.experts.width`) and `token_embd`; the metadata
    /// must not contradict them, but for `feed_forward_length`, which is not used.
    ///
    /// # Errors
    /// A key is missing, has another type, or asks for something that wick does not compute.
    pub fn config(&self, overrides: Overrides) -> Result<Config, Error<'m>> {
        let keys = self.metadata();
        check_architecture(keys)?;
        let layers = number(keys, "smallthinker.block_count")?;
        let hidden = number(keys, "smallthinker.embedding_length")?;
        let heads = each_layer(keys.need("smallthinker.attention.head_count")?, layers)?;
        let kv_heads = match keys.get("smallthinker.attention.head_count_kv") {
            Some(entry) => each_layer(entry, layers)?,
            None => heads,
        };
        let head = head_size(keys, hidden, heads)?;
        let rope_base = keys.need("smallthinker.rope.freq_base")?.f32()?;
        check_rope(keys, rope_base)?;
        let config = Config {
            layers,
            hidden,
            heads,
            kv_heads,
            head,
            rope_dims: optional(keys, "smallthinker.rope.dimension_count")?.unwrap_or(head),
            rope_base,
            experts: number(keys, "smallthinker.expert_count")?,
            active: number(keys, "smallthinker.expert_used_count")?,
            expert_width: match self.packed() {
                Some(packed) => packed.width(),
                None => self.ups(layers)?.dims().padded()[1],
            },
            gating: overrides.gating.map_or_else(|| gating(keys), Ok)?,
            vocab: self.need(EMBEDDING)?.dims().padded()[1],
            context: number(keys, "smallthinker.context_length")?,
            rms_eps: keys.need("smallthinker.attention.layer_norm_rms_epsilon")?.f32()?,
            window: window(keys, layers)?,
        };
        config.validate()?;
        self.check_sizes(&config)?;
        Ok(config)
    }

    /// The ups of the first layer.
    fn ups(&self, layers: usize) -> Result<Tensor<'m>, Error<'m>> {
        match self.need(UPS) {
            Err(_) if !self.has_experts(layers) => Err(Error::NoExperts),
            // They may be part of another tensor.
            Err(error) => self.refuse_unknown(layers).and(Err(error)),
            ups => ups,
        }
    }

    /// Checks the two tensors that gave sizes against what the metadata say of these sizes.
    fn check_sizes(&self, config: &Config) -> Result<(), Error<'m>> {
        let &Config { hidden, experts, expert_width, vocab, .. } = config;
        let width = stated(self.metadata(), "smallthinker.expert_feed_forward_length")?;
        if self.packed().is_some() {
            agree(width, Keys::WIDTH, expert_width)?;
        } else {
            let expected = Dims::new(&[hidden, width.map_or(expert_width, |w| w.1), experts]);
            self.check_but_second(UPS, expected)?;
            agree(width, "the second dimension of blk.0.ffn_up_exps.weight", expert_width)?;
        }
        let tokens = self.metadata().get("tokenizer.ggml.tokens");
        let tokens = match tokens {
            Some(entry) => Some((entry.key, entry.array()?.len())),
            None => None,
        };
        self.check_but_second(EMBEDDING, Dims::new(&[hidden, tokens.map_or(vocab, |t| t.1)]))?;
        agree(tokens, "the second dimension of token_embd.weight", vocab)?;
        Ok(())
    }

    /// Checks the dimensions of a tensor, except the second.
    fn check_but_second(&self, tensor: TensorName, expected: Dims) -> Result<(), Error<'m>> {
        let found = self.need(tensor)?.dims();
        let [[a, _, b @ ..], [c, _, d @ ..]] = [found.padded(), expected.padded()];
        if (a, b) == (c, d) { Ok(()) } else { Err(Error::Shape { tensor, expected, found }) }
    }
}

/// Checks that a key, where it is there, says `expected`, and returns that.
fn agree<'m>(
    stated: Option<(&'m str, usize)>,
    with: &'static str,
    expected: usize,
) -> Result<usize, Error<'m>> {
    match stated {
        Some((key, found)) if found != expected => {
            let (found, expected) = (found as u64, expected as u64);
            Err(Error::Disagree { key, found, with, expected })
        }
        _ => Ok(expected),
    }
}

fn number<'m>(keys: &Gguf<'m>, key: &'static str) -> Result<usize, Error<'m>> {
    Ok(keys.need(key)?.u32()? as usize)
}

fn optional<'m>(keys: &Gguf<'m>, key: &'static str) -> Result<Option<usize>, Error<'m>> {
    keys.get(key).map(|entry| Ok(entry.u32()? as usize)).transpose()
}

/// A key that may be missing, with its value.
fn stated<'m>(
    keys: &Gguf<'m>,
    key: &'static str,
) -> Result<Option<(&'static str, usize)>, Error<'m>> {
    Ok(optional(keys, key)?.map(|number| (key, number)))
}

fn check_architecture<'m>(keys: &Gguf<'m>) -> Result<(), Error<'m>> {
    let entry = keys.need("general.architecture")?;
    match entry.str()? {
        ARCHITECTURE => Ok(()),
        _ => Err(entry.refuse("\"smallthinker\"")),
    }
}

/// A number, or an array with that number for each layer.
fn each_layer<'m>(entry: Entry<'m>, layers: usize) -> Result<usize, Error<'m>> {
    let Value::Array(array) = entry.value else { return Ok(entry.u32()? as usize) };
    let refusal = entry.refuse("an integer, or an array with the same one for each layer");
    let mut numbers = array.integers().filter(|numbers| numbers.len() == layers).ok_or(refusal)?;
    let first = numbers.next().ok_or(refusal)?;
    let same = numbers.all(|number| number == first);
    u32::try_from(first).ok().filter(|_| same).map(|n| n as usize).ok_or(refusal)
}

/// The size of a head; where the file does not say, `hidden / heads` (GGUF specification).
fn head_size<'m>(keys: &Gguf<'m>, hidden: usize, heads: usize) -> Result<usize, Error<'m>> {
    const KEY: &str = "smallthinker.attention.key_length";
    let head = match optional(keys, KEY)? {
        Some(head) => head,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(Error::MissingKey { key: KEY }),
    };
    let values = stated(keys, "smallthinker.attention.value_length")?;
    agree(values, "the size of a head's keys", head)
}

fn gating<'m>(keys: &Gguf<'m>) -> Result<Gating, Error<'m>> {
    // PowerInfer's converter writes the key only for softmax.
    let Some(entry) = keys.get("smallthinker.expert_gating_func") else {
        return Ok(Gating::Sigmoid);
    };
    match entry.u32()? {
        1 => Ok(Gating::Softmax),
        2 => Ok(Gating::Sigmoid),
        _ => Err(entry.refuse("1 (softmax) or 2 (sigmoid)")),
    }
}

/// Refuses what no published model has: scaled positions, another base in windowed layers. Linear
/// scaling by a factor of 1 is none.
fn check_rope<'m>(keys: &Gguf<'m>, base: f32) -> Result<(), Error<'m>> {
    let scaling = keys.get("smallthinker.rope.scaling.type");
    let kind = scaling.map(|entry| entry.str().unwrap_or_default());
    if let Some(entry) = scaling.filter(|_| !matches!(kind, Some("none" | "linear"))) {
        return Err(entry.refuse("\"none\" (RoPE scaling is not supported)"));
    }
    let factors = ["smallthinker.rope.scaling.factor", "smallthinker.rope.scale_linear"];
    let factors = factors.into_iter().filter_map(|key| keys.get(key));
    for entry in factors.filter(|_| kind != Some("none")) {
        if !matches!(entry.f32()?, 0.0 | 1.0) {
            return Err(entry.refuse("1 (RoPE scaling is not supported)"));
        }
    }
    match keys.get("smallthinker.rope.freq_base_swa") {
        Some(entry) if entry.f32()? != base => Err(entry.refuse("the value of rope.freq_base")),
        _ => Ok(()),
    }
}

fn window<'m>(keys: &Gguf<'m>, layers: usize) -> Result<Option<Window>, Error<'m>> {
    let size = optional(keys, "smallthinker.attention.sliding_window")?.unwrap_or(0);
    if size == 0 {
        return Ok(None);
    }
    let period = match keys.get("smallthinker.attention.sliding_window_pattern") {
        None => PERIOD,
        Some(entry) => period(entry, layers)?,
    };
    Ok(Some(Window { size, period }))
}

/// The period of a pattern: an integer, or a bool for each layer that is true where it is windowed.
fn period<'m>(entry: Entry<'m>, layers: usize) -> Result<usize, Error<'m>> {
    let Value::Array(array) = entry.value else {
        let period = entry.u32()? as usize;
        return if period > 0 { Ok(period) } else { Err(entry.refuse("a period of 1 or more")) };
    };
    if array.kind() != Kind::Bool || array.len() != layers {
        return Err(entry.refuse("an integer, or an array with a bool for each layer"));
    }
    let windowed = |array: Array<'m>| array.iter().map(|value| matches!(value, Value::Bool(true)));
    let second_global = windowed(array).skip(1).position(|windowed| !windowed);
    let period = second_global.map_or(layers.max(1), |after_first| after_first + 1);
    let mut layers = windowed(array).enumerate();
    match layers.find(|&(layer, windowed)| windowed == layer.is_multiple_of(period)) {
        Some((layer, _)) => Err(Error::Pattern { key: entry.key, layer, period }),
        None => Ok(period),
    }
}
