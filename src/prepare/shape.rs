//! Shapes of models by name.

use crate::Error;
use std::str::FromStr;
use wick_core::{Config, Gating, Window};

/// The shape of a model, and whether its embedding is its LM head too.
///
/// As text: `4b`, `21b` or `tiny`, and after it any sizes that differ: `4b,layers=4,vocab=32000`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// The sizes.
    pub config: Config,
    /// Whether there is no LM head of its own.
    pub tied: bool,
}

/// Sizes that the text of a shape may set.
const KEYS: &str =
    "layers, hidden, heads, kv-heads, head, experts, active, width, vocab, context or window";

impl Shape {
    /// SmallThinker-4B-A0.6B.
    pub const SMALL: Shape = Shape {
        config: Config {
            layers: 32,
            hidden: 1536,
            heads: 12,
            kv_heads: 2,
            head: 128,
            rope_dims: 128,
            rope_base: 1.5e6,
            experts: 32,
            active: 4,
            expert_width: 768,
            gating: Gating::Sigmoid,
            vocab: 151_936,
            context: 32_768,
            rms_eps: 1e-6,
            window: None,
        },
        tied: true,
    };

    /// SmallThinker-21B-A3B.
    pub const LARGE: Shape = Shape {
        config: Config {
            layers: 52,
            hidden: 2560,
            heads: 28,
            kv_heads: 4,
            experts: 64,
            active: 6,
            context: 16_384,
            window: Some(Window { size: 4096, period: 4 }),
            ..Shape::SMALL.config
        },
        tied: false,
    };

    /// A few million weights, for tests.
    pub const TINY: Shape = Shape {
        config: Config {
            layers: 4,
            hidden: 256,
            heads: 4,
            kv_heads: 2,
            head: 32,
            rope_dims: 32,
            experts: 16,
            active: 2,
            expert_width: 128,
            vocab: 1024,
            context: 2048,
            ..Shape::SMALL.config
        },
        tied: true,
    };

    fn set(&mut self, key: &str, size: usize) -> bool {
        let c = &mut self.config;
        match key {
            "layers" => c.layers = size,
            "hidden" => c.hidden = size,
            "heads" => c.heads = size,
            "kv-heads" => c.kv_heads = size,
            "head" => (c.head, c.rope_dims) = (size, size),
            "experts" => c.experts = size,
            "active" => c.active = size,
            "width" => c.expert_width = size,
            "vocab" => c.vocab = size,
            "context" => c.context = size,
            "window" => c.window = (size > 0).then_some(Window { size, period: 4 }),
            _ => return false,
        }
        true
    }
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Shape, Error> {
        let wrong = |found: &str, expected: &str| {
            Err(Error::Shape { found: found.into(), expected: expected.into() })
        };
        let mut parts = text.split(',');
        let mut shape = match parts.next().unwrap_or_default() {
            "4b" => Shape::SMALL,
            "21b" => Shape::LARGE,
            "tiny" => Shape::TINY,
            name => return wrong(name, "4b, 21b or tiny"),
        };
        for part in parts {
            let Some((key, size)) = part.split_once('=') else {
                return wrong(part, "NAME=SIZE");
            };
            let Ok(size) = size.parse::<u32>() else {
                return wrong(part, "a size from 0 to 4294967295");
            };
            if !shape.set(key, size as usize) {
                return wrong(key, KEYS);
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_shapes_can_be_computed() {
        for name in ["4b", "21b", "tiny"] {
            name.parse::<Shape>().unwrap().config.validate().unwrap();
        }
    }

    #[test]
    fn sizes_may_differ_from_the_named_shape() {
        let shape: Shape = "21b,layers=4,vocab=32000,window=0,head=64".parse().unwrap();
        let expected = Config {
            layers: 4,
            vocab: 32_000,
            window: None,
            head: 64,
            rope_dims: 64,
            ..Shape::LARGE.config
        };
        assert_eq!((shape.config, shape.tied), (expected, false));
    }

    #[test]
    fn errors_say_what_may_be_there() {
        for (text, message) in [
            ("5b", "shape: 4b, 21b or tiny expected, \"5b\" found"),
            ("4b,layers", "shape: NAME=SIZE expected, \"layers\" found"),
            ("4b,layers=-1", "shape: a size from 0 to 4294967295 expected, \"layers=-1\" found"),
        ] {
            assert_eq!(text.parse::<Shape>().unwrap_err().to_string(), message);
        }
        assert!("4b,size=1".parse::<Shape>().unwrap_err().to_string().contains("kv-heads"));
    }
}
