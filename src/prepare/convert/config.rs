//! `config.json`: the shape of a model, as Hugging Face's modelling code reads it.

use super::json::parse;
use serde::Deserialize;
use serde_json::Value;
use wick_core::{Config, Gating, Window};
use wick_format::{ARCHITECTURE, PERIOD};

/// The file's name, for messages.
const NAME: &str = "config.json";
const CLASS: &str = "SmallThinkerForCausalLM";

/// What `config.json` says.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) config: Config,
    /// Whether the embedding is the LM head, if that is said.
    pub(crate) is_tied: Option<bool>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Vec<u32>,
    pub(crate) pad: Option<u32>,
}

/// The keys that have a part in what is computed.
#[derive(Deserialize)]
struct Keys {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: Option<usize>,
    moe_num_primary_experts: usize,
    moe_num_active_primary_experts: usize,
    moe_ffn_hidden_size: usize,
    moe_primary_router_apply_softmax: Option<bool>,
    moe_enable_early_router: Option<bool>,
    moe_enable_secondary_experts: Option<bool>,
    moe_layer_layout: Option<Vec<Flag>>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    rms_norm_eps: f32,
    rope_theta: Option<f32>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<RopeParameters>,
    partial_rotary_factor: Option<f64>,
    rope_layout: Vec<Flag>,
    sliding_window_layout: Option<Vec<Flag>>,
    sliding_window_size: Option<usize>,
    max_position_embeddings: usize,
    tie_word_embeddings: Option<bool>,
    vocab_size: usize,
    bos_token_id: Option<u32>,
    eos_token_id: Option<Ids>,
    pad_token_id: Option<u32>,
}

/// Where newer versions of transformers have what says how RoPE turns.
#[derive(Deserialize)]
struct RopeParameters {
    rope_theta: Option<f32>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    partial_rotary_factor: Option<f64>,
}

/// Yes or no for a layer.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(u64),
}

/// One token or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Ids {
    One(u32),
    Several(Vec<u32>),
}

impl Ids {
    pub(crate) fn into_vec(self) -> Vec<u32> {
        match self {
            Ids::One(id) => vec![id],
            Ids::Several(ids) => ids,
        }
    }
}

impl Description {
    /// Reads the text of `config.json`.
    pub(crate) fn parse(text: &str) -> Result<Description, String> {
        let keys: Keys = parse(NAME, text)?;
        let wrong = |message: String| format!("{NAME}: {message}");
        keys.check_kind().map_err(wrong)?;
        let config = keys.config().map_err(wrong)?;
        config.validate().map_err(|error| wrong(error.to_string()))?;
        let eos = keys.eos_token_id.map(Ids::into_vec).unwrap_or_default();
        let (bos, pad) = (keys.bos_token_id, keys.pad_token_id);
        Ok(Description { config, is_tied: keys.tie_word_embeddings, bos, eos, pad })
    }
}

impl Keys {
    /// Refuses other models, and variants that no published one has.
    fn check_kind(&self) -> Result<(), String> {
        let named = self.architectures.as_ref().and_then(|all| all.first());
        match (named, &self.model_type) {
            (Some(name), _) if name != CLASS => {
                return Err(format!("architectures: {CLASS} expected, {name:?} found"));
            }
            (_, Some(kind)) if kind != ARCHITECTURE => {
                return Err(format!("model_type: {ARCHITECTURE} expected, {kind:?} found"));
            }
            (None, None) => {
                return Err(format!("architectures: [{CLASS:?}] expected, nothing found"));
            }
            _ => (),
        }
        let never = |key: &str, found: bool, expected: bool| match found == expected {
            true => Ok(()),
            false => {
                Err(format!("{key}: {expected} expected, {found} found: a file cannot say that"))
            }
        };
        never("moe_enable_early_router", self.moe_enable_early_router.unwrap_or(true), true)?;
        never(
            "moe_enable_secondary_experts",
            self.moe_enable_secondary_experts.unwrap_or(false),
            false,
        )?;
        never("attention_bias", self.attention_bias.unwrap_or(false), false)?;
        if let Some(act) = self.hidden_act.as_ref().filter(|act| *act != "relu") {
            return Err(format!("hidden_act: relu expected, {act:?} found"));
        }
        let dense =
            flags("moe_layer_layout", self.moe_layer_layout.as_deref().unwrap_or_default())?;
        match dense.iter().position(|has_experts| !has_experts) {
            Some(layer) => Err(format!(
                "moe_layer_layout: experts expected in every layer, none in layer {layer} found"
            )),
            None => Ok(()),
        }
    }

    fn config(&self) -> Result<Config, String> {
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        let head = match self.head_dim {
            Some(head) => head,
            None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                return Err(
                    "head_dim: missing, and hidden_size is no multiple of num_attention_heads"
                        .into(),
                );
            }
        };
        Ok(Config {
            layers: self.num_hidden_layers,
            hidden,
            heads,
            kv_heads: self.num_key_value_heads,
            head,
            rope_dims: head,
            rope_base: self.rope_base()?,
            experts: self.moe_num_primary_experts,
            active: self.moe_num_active_primary_experts,
            expert_width: self.moe_ffn_hidden_size,
            gating: match self.moe_primary_router_apply_softmax {
                Some(true) => Gating::Softmax,
                _ => Gating::Sigmoid,
            },
            vocab: self.vocab_size,
            context: self.max_position_embeddings,
            rms_eps: self.rms_norm_eps,
            window: self.window()?,
        })
    }

    /// RoPE's theta, wherever it is said; other kinds of RoPE are refused.
    fn rope_base(&self) -> Result<f32, String> {
        if let Some(scaling) = self.rope_scaling.as_ref() {
            let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
            if kind.is_none_or(|kind| kind != "default") {
                return Err(format!(
                    "rope_scaling: null expected, {scaling} found: RoPE scaling is not supported"
                ));
            }
        }
        let within = self.rope_parameters.as_ref();
        let kind = within.and_then(|rope| rope.rope_type.as_ref().or(rope.kind.as_ref()));
        if let Some(kind) = kind.filter(|kind| *kind != "default") {
            return Err(format!(
                "rope_parameters: rope_type: default expected, {kind:?} found: RoPE scaling is not supported"
            ));
        }
        let parts =
            [self.partial_rotary_factor, within.and_then(|rope| rope.partial_rotary_factor)];
        if let Some(part) = parts.into_iter().flatten().find(|part| *part != 1.0) {
            return Err(format!("partial_rotary_factor: 1 expected, {part} found"));
        }
        match (self.rope_theta, within.and_then(|rope| rope.rope_theta)) {
            (Some(a), Some(b)) if a != b => {
                Err(format!("rope_theta: {b} expected, as in rope_parameters, {a} found"))
            }
            (a, b) => a.or(b).ok_or_else(|| "missing field `rope_theta`".into()),
        }
    }

    /// The layout of windows and RoPE, if it is one of the two that a file can say: no windows and RoPE everywhere, or
    /// windows and RoPE but for the first of each four layers.
    fn window(&self) -> Result<Option<Window>, String> {
        let layers = self.num_hidden_layers;
        let rope = flags("rope_layout", &self.rope_layout)?;
        let windowed = match &self.sliding_window_layout {
            Some(layout) => flags("sliding_window_layout", layout)?,
            None => vec![false; rope.len()],
        };
        for (key, layout) in [("rope_layout", &rope), ("sliding_window_layout", &windowed)] {
            if layout.len() != layers {
                let found = layout.len();
                return Err(format!(
                    "{key}: {layers} entries expected, one for each layer, {found} found"
                ));
            }
        }
        let has_windows = windowed.contains(&true);
        let expected = |layer: usize| has_windows && !layer.is_multiple_of(PERIOD);
        for layer in 0..layers {
            let is_windowed = expected(layer);
            check("sliding_window_layout", layer, windowed[layer], is_windowed)?;
            check("rope_layout", layer, rope[layer], is_windowed || !has_windows)?;
        }
        match self.sliding_window_size.filter(|size| *size > 0) {
            _ if !has_windows => Ok(None),
            Some(size) if u32::try_from(size).is_err() => {
                Err(format!("sliding_window_size: at most {} expected, {size} found", u32::MAX))
            }
            Some(size) => Ok(Some(Window { size, period: PERIOD })),
            None => {
                Err("sliding_window_size: missing, although sliding_window_layout has windows"
                    .into())
            }
        }
    }
}

fn flags(key: &str, layout: &[Flag]) -> Result<Vec<bool>, String> {
    let flag = |(layer, flag): (usize, &Flag)| match *flag {
        Flag::Bool(flag) => Ok(flag),
        Flag::Number(0) => Ok(false),
        Flag::Number(1) => Ok(true),
        Flag::Number(found) => {
            Err(format!("{key}: 0 or 1 expected, {found} found for layer {layer}"))
        }
    };
    layout.iter().enumerate().map(flag).collect()
}

fn check(key: &str, layer: usize, found: bool, expected: bool) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let [expected, found] = [expected, found].map(u8::from);
    Err(format!(
        "{key}: {expected} expected for layer {layer}, {found} found: a file can say windows and RoPE for all layers but \
         every fourth, beginning with the first, or RoPE for all and no windows"
    ))
}
