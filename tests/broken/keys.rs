//! Missing and wrong metadata.

use crate::cases::{Broken, edited, shaped};
use wick_tests::gguf::{Value, Writer};
use wick_tests::tiny::Tiny;

pub(crate) fn missing_keys() -> Vec<Broken> {
    [
        (
            "no architecture",
            "general.architecture",
            "general.architecture: missing from the metadata",
        ),
        ("no layers", "smallthinker.block_count", "~block_count: missing from the metadata"),
        ("no context", "smallthinker.context_length", "~context_length: missing from the metadata"),
        (
            "no hidden size",
            "smallthinker.embedding_length",
            "~embedding_length: missing from the metadata",
        ),
        (
            "no heads",
            "smallthinker.attention.head_count",
            "~attention.head_count: missing from the metadata",
        ),
        (
            "no epsilon",
            "smallthinker.attention.layer_norm_rms_epsilon",
            "~attention.layer_norm_rms_epsilon: missing from the metadata",
        ),
        (
            "no RoPE base",
            "smallthinker.rope.freq_base",
            "~rope.freq_base: missing from the metadata",
        ),
        ("no experts", "smallthinker.expert_count", "~expert_count: missing from the metadata"),
        (
            "no active experts",
            "smallthinker.expert_used_count",
            "~expert_used_count: missing from the metadata",
        ),
    ]
    .map(|(name, key, message)| edited(name, |w| _ = w.remove(key), message))
    .into()
}

pub(crate) fn changed_keys() -> Vec<Broken> {
    let set = |name, key: &str, value: Value, message| {
        edited(name, |w| _ = w.set(&key.replace('~', "smallthinker."), value), message)
    };
    let bools = |list: &[bool]| Value::array(list.iter().copied());
    let windowed = |name, pattern: Value, message| {
        let edit = |w: &mut Writer| {
            w.set("smallthinker.attention.sliding_window", 8u32);
            w.set("smallthinker.attention.sliding_window_pattern", pattern);
        };
        let mut tiny = Tiny::default();
        tiny.config.layers = 6;
        shaped(name, &tiny, edit, message)
    };
    vec![
        set(
            "another architecture",
            "general.architecture",
            "llama".into(),
            "general.architecture: \"smallthinker\" expected, \"llama\" found",
        ),
        set(
            "an architecture in numbers",
            "general.architecture",
            3u32.into(),
            "general.architecture: a string expected, 3 found",
        ),
        set(
            "an architecture that is not UTF-8",
            "general.architecture",
            vec![0xff].into(),
            "general.architecture: UTF-8 text expected, a string that is not UTF-8 found",
        ),
        set(
            "layers in words",
            "~block_count",
            "two".into(),
            "~block_count: an integer from 0 to 4294967295 expected, \"two\" found",
        ),
        set(
            "layers below 0",
            "~block_count",
            (-2i32).into(),
            "~block_count: an integer from 0 to 4294967295 expected, -2 found",
        ),
        set(
            "layers beyond 32 bits",
            "~block_count",
            u64::MAX.into(),
            "~block_count: an integer from 0 to 4294967295 expected, 18446744073709551615 \
             found",
        ),
        set("0 layers", "~block_count", 0u32.into(), "layers: 1 to 96 expected, 0 found"),
        set("97 layers", "~block_count", 97u32.into(), "layers: 1 to 96 expected, 97 found"),
        set(
            "a layer too many",
            "~block_count",
            3u32.into(),
            "blk.2.attn_norm.weight: missing from the file",
        ),
        set(
            "0 hidden",
            "~embedding_length",
            0u32.into(),
            "hidden size: 1 to 16777216 expected, 0 found",
        ),
        set(
            "a float of heads",
            "~attention.head_count",
            3.0f32.into(),
            "~attention.head_count: an integer from 0 to 4294967295 expected, 3.0 found",
        ),
        set(
            "0 heads",
            "~attention.head_count",
            0u32.into(),
            "query heads: 1 to 4096 expected, 0 found",
        ),
        set(
            "different heads",
            "~attention.head_count",
            Value::array([3u32, 2]),
            "~attention.head_count: an integer, or an array with the same one for each \
             layer expected, an array of 2 × u32 found",
        ),
        set(
            "heads for one layer",
            "~attention.head_count",
            Value::array([3u32]),
            "~attention.head_count: an integer, or an array with the same one for each \
             layer expected, an array of 1 × u32 found",
        ),
        set(
            "heads in bools",
            "~attention.head_count",
            bools(&[true, true]),
            "~attention.head_count: an integer, or an array with the same one for each \
             layer expected, an array of 2 × bool found",
        ),
        set(
            "KV heads that do not divide",
            "~attention.head_count_kv",
            2u32.into(),
            "query heads: a multiple of the 2 KV heads expected, 3 found",
        ),
        set(
            "keys unlike values",
            "~attention.value_length",
            64u32.into(),
            "~attention.value_length: 64 found, but the size of a head's keys is 32",
        ),
        set(
            "an epsilon that is no number",
            "~attention.layer_norm_rms_epsilon",
            f32::NAN.into(),
            "RMSNorm epsilon: a finite number greater than 0 expected, NaN found",
        ),
        set(
            "an epsilon of 0",
            "~attention.layer_norm_rms_epsilon",
            0.0f32.into(),
            "RMSNorm epsilon: a finite number greater than 0 expected, 0 found",
        ),
        set(
            "an epsilon in integers",
            "~attention.layer_norm_rms_epsilon",
            1u32.into(),
            "~attention.layer_norm_rms_epsilon: a floating-point number expected, 1 found",
        ),
        set(
            "an infinite RoPE base",
            "~rope.freq_base",
            f64::INFINITY.into(),
            "RoPE base: a finite number greater than 0 expected, inf found",
        ),
        set(
            "another RoPE base in windows",
            "~rope.freq_base_swa",
            1e4f32.into(),
            "~rope.freq_base_swa: the value of rope.freq_base expected, 10000.0 found",
        ),
        set(
            "odd RoPE dimensions",
            "~rope.dimension_count",
            31u32.into(),
            "RoPE dimensions: an even number expected, 31 found",
        ),
        set(
            "RoPE beyond the head",
            "~rope.dimension_count",
            64u32.into(),
            "RoPE dimensions: 2 to 32 expected, 64 found",
        ),
        set(
            "RoPE scaling",
            "~rope.scaling.type",
            "yarn".into(),
            "~rope.scaling.type: \"none\" (RoPE scaling is not supported) expected, \
             \"yarn\" found",
        ),
        set(
            "a RoPE scaling factor",
            "~rope.scaling.factor",
            4.0f32.into(),
            "~rope.scaling.factor: 1 (RoPE scaling is not supported) expected, 4.0 found",
        ),
        edited(
            "linear RoPE scaling",
            |w| {
                w.set("smallthinker.rope.scaling.type", "linear");
                w.set("smallthinker.rope.scaling.factor", 2.0f32);
            },
            "~rope.scaling.factor: 1 (RoPE scaling is not supported) expected, 2.0 found",
        ),
        set("0 experts", "~expert_count", 0u32.into(), "experts: 1 to 1024 expected, 0 found"),
        set(
            "1,025 experts",
            "~expert_count",
            1025u32.into(),
            "experts: 1 to 1024 expected, 1025 found",
        ),
        set(
            "more active experts than experts",
            "~expert_used_count",
            5u32.into(),
            "active experts: 1 to 4 expected, 5 found",
        ),
        set(
            "an unknown gating",
            "~expert_gating_func",
            3u32.into(),
            "~expert_gating_func: 1 (softmax) or 2 (sigmoid) expected, 3 found",
        ),
        set(
            "another expert width",
            "~expert_feed_forward_length",
            96u32.into(),
            "~expert_feed_forward_length: 96 found, but the second dimension of \
             blk.0.ffn_up_exps.weight is 160",
        ),
        set(
            "too few tokens",
            "tokenizer.ggml.tokens",
            Value::array(["a", "b"]),
            "tokenizer.ggml.tokens: 2 found, but the second dimension of \
             token_embd.weight is 288",
        ),
        set(
            "tokens that are no array",
            "tokenizer.ggml.tokens",
            288u32.into(),
            "tokenizer.ggml.tokens: an array expected, 288 found",
        ),
        set(
            "0 context",
            "~context_length",
            0u32.into(),
            "context: 1 to 16777216 expected, 0 found",
        ),
        set(
            "a window in words",
            "~attention.sliding_window",
            "wide".into(),
            "~attention.sliding_window: an integer from 0 to 4294967295 expected, \
             \"wide\" found",
        ),
        windowed(
            "a period of 0",
            0u32.into(),
            "~attention.sliding_window_pattern: a period of 1 or more expected, 0 found",
        ),
        windowed(
            "a pattern without period",
            bools(&[false, true, true, false, true, false]),
            "~attention.sliding_window_pattern: the first layer of each period global, \
             the others windowed expected, but layer 5 breaks the period of 3",
        ),
        windowed(
            "a pattern of windows alone",
            bools(&[true; 6]),
            "~attention.sliding_window_pattern: the first layer of each period global, \
             the others windowed expected, but layer 0 breaks the period of 6",
        ),
        windowed(
            "a pattern for other layers",
            bools(&[false, true, true, true]),
            "~attention.sliding_window_pattern: an integer, or an array with a bool for \
             each layer expected, an array of 4 × bool found",
        ),
        windowed(
            "a pattern of integers",
            Value::array([0u32, 1, 1, 1, 0, 1]),
            "~attention.sliding_window_pattern: an integer, or an array with a bool for \
             each layer expected, an array of 6 × u32 found",
        ),
    ]
}
