//! What tensors are called.

use crate::role::{Part, Role};
use core::fmt;

/// A tensor of a model, which GGUF files call `stem.weight` or `blk.LAYER.stem.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorName {
    /// Layer, for tensors that every layer has.
    pub layer: Option<usize>,
    /// What it is.
    pub role: Role,
}

impl TensorName {
    /// The name of a tensor that a model has once.
    pub const fn once(role: Role) -> TensorName {
        TensorName { layer: None, role }
    }

    /// The name of a layer's tensor.
    pub const fn of_layer(layer: usize, role: Role) -> TensorName {
        TensorName { layer: Some(layer), role }
    }

    /// All tensors that a model of `layers` layers can have, in the order of a file.
    pub fn all(layers: usize) -> impl Iterator<Item = TensorName> {
        let of_layer =
            |layer| Role::each_layer().map(move |role| TensorName::of_layer(layer, role));
        Role::once().map(TensorName::once).chain((0..layers).flat_map(of_layer))
    }

    /// The name that is written `name`, if it is one of a model of `layers` layers.
    pub fn parse(name: &str, layers: usize) -> Option<TensorName> {
        let stem = name.strip_suffix(".weight")?;
        let Some((number, stem)) = stem.strip_prefix("blk.").and_then(|s| s.split_once('.')) else {
            return Role::once().find(|role| role.stem() == stem).map(TensorName::once);
        };
        let layer = layer(number).filter(|&layer| layer < layers)?;
        let role = Role::each_layer().find(|role| role.stem() == stem)?;
        Some(TensorName::of_layer(layer, role))
    }

    /// Whether a tensor of this name, known or not, is part of a model of `layers` layers: of one of
    /// them, of the embedding, or of what comes after them.
    pub fn is_within(name: &str, layers: usize) -> bool {
        match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((number, _)) => layer(number).is_some_and(|layer| layer < layers),
            None => name.starts_with("output") || name.starts_with("token_"),
        }
    }

    /// Layer and part of the experts that the tensor has, if it has experts.
    pub fn experts(self) -> Option<(usize, Part)> {
        Some((self.layer?, self.role.part()?))
    }
}

/// The number of a layer, only as it would be printed: neither "07" nor "+7".
fn layer(number: &str) -> Option<usize> {
    let canonical = number == "0" || matches!(number.as_bytes().first(), Some(b'1'..=b'9'));
    number.parse().ok().filter(|_| canonical)
}

impl fmt::Display for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = self.layer {
            write!(f, "blk.{layer}.")?;
        }
        write!(f, "{}.weight", self.role.stem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;
    use heapless::String;

    fn written(name: TensorName) -> String<64> {
        let mut written = String::new();
        write!(written, "{name}").unwrap();
        written
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in TensorName::all(32) {
            assert_eq!(TensorName::parse(&written(name), 32), Some(name));
        }
        assert_eq!(written(TensorName::of_layer(0, Role::Query)), "blk.0.attn_q.weight");
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
