//! The keys that say what a model is: its name, its matrices' types, its shape.

use crate::{Metadata, file_type};
use wick_core::{Config, Gating};
use wick_format::ARCHITECTURE;
use wick_kernels::Format;

/// The keys of a model of this name and shape, whose matrices are mostly in a format; the tokenizer's come after them. A
/// window stands for its layout, too, and is said only where there is one, as in the published files.
pub(crate) fn describe(name: &str, format: Format, c: &Config) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.str("general.architecture", ARCHITECTURE);
    metadata.str("general.type", "model");
    metadata.str("general.name", name);
    file_type::describe(format, &mut metadata);
    let gating = match c.gating {
        Gating::Softmax => 1,
        Gating::Sigmoid => 2,
    };
    let mut sizes = vec![
        ("block_count", c.layers),
        ("context_length", c.context),
        ("embedding_length", c.hidden),
        ("feed_forward_length", c.expert_width),
        ("expert_feed_forward_length", c.expert_width),
        ("attention.head_count", c.heads),
        ("attention.head_count_kv", c.kv_heads),
        ("attention.key_length", c.head),
        ("attention.value_length", c.head),
        ("rope.dimension_count", c.rope_dims),
        ("expert_count", c.experts),
        ("expert_used_count", c.active),
        ("expert_gating_func", gating),
    ];
    sizes.extend(c.window.map(|window| ("attention.sliding_window", window.size)));
    for (key, size) in sizes {
        metadata.u32(&format!("{ARCHITECTURE}.{key}"), size as u32);
    }
    metadata
        .f32(&format!("{ARCHITECTURE}.attention.layer_norm_rms_epsilon"), c.rms_eps)
        .f32(&format!("{ARCHITECTURE}.rope.freq_base"), c.rope_base);
    metadata
}
