//! What tensors are called.

use core::fmt;

/// Tensors that a model has once.
const ONCE: [&str; 4] = ["token_embd", "output_norm", "output", "lm_head_profiler"];
/// Tensors that every layer has.
const EVERY_LAYER: [&str; 10] = [
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_norm",
    "ffn_gate_inp",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_down_exps",
];

/// The name of a tensor that a SmallThinker model has: `stem.weight` or `blk.LAYER.stem.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorName {
    /// Layer, for tensors that every layer has.
    pub layer: Option<usize>,
    /// The name without layer and `.weight`.
    pub stem: &'static str,
}

impl TensorName {
    /// The name of a tensor that a model has once.
    pub const fn once(stem: &'static str) -> TensorName {
        TensorName { layer: None, stem }
    }

    /// The name of a layer's tensor.
    pub const fn of_layer(layer: usize, stem: &'static str) -> TensorName {
        TensorName { layer: Some(layer), stem }
    }

    /// The name that is written `name`, if it is one of a model of `layers` layers.
    pub fn parse(name: &str, layers: usize) -> Option<TensorName> {
        let stem = name.strip_suffix(".weight")?;
        let known = |list: &[&'static str], stem| list.iter().copied().find(|&s| s == stem);
        let Some((number, stem)) = stem.strip_prefix("blk.").and_then(|s| s.split_once('.')) else {
            return known(&ONCE, stem).map(TensorName::once);
        };
        // Only as it would be printed: neither "07" nor "+7".
        let canonical = number == "0" || matches!(number.as_bytes().first(), Some(b'1'..=b'9'));
        let layer = number.parse().ok().filter(|&layer| canonical && layer < layers)?;
        known(&EVERY_LAYER, stem).map(|stem| TensorName::of_layer(layer, stem))
    }
}

impl fmt::Display for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = self.layer {
            write!(f, "blk.{layer}.")?;
        }
        write!(f, "{}.weight", self.stem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn names_are_read_as_they_are_written() {
        let once = ONCE.map(TensorName::once);
        let layers = EVERY_LAYER.map(|stem| TensorName::of_layer(31, stem));
        for name in once.into_iter().chain(layers) {
            assert_eq!(TensorName::parse(&name.to_string(), 32), Some(name));
        }
        assert_eq!(TensorName::of_layer(0, "attn_q").to_string(), "blk.0.attn_q.weight");
    }

    #[test]
    fn other_names_are_none_of_the_model() {
        for name in [
            "token_embd",
            "blk.32.attn_q.weight",
            "blk.07.attn_q.weight",
            "blk.+7.attn_q.weight",
            "blk.attn_q.weight",
            "blk.0.output.weight",
            "attn_q.weight",
            "blk.0.attn_q.bias",
        ] {
            assert_eq!(TensorName::parse(name, 32), None, "{name}");
        }
    }
}
