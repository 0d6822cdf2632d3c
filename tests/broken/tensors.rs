//! Missing tensors and wrong shapes.

use crate::cases::{Broken, edited, shaped};
use wick_kernels::Format;
use wick_tests::gguf::Writer;
use wick_tests::tiny::Tiny;

pub(crate) fn missing_tensors() -> Vec<Broken> {
    [
        ("no embedding", "token_embd.weight", "token_embd.weight: missing from the file"),
        ("no last norm", "output_norm.weight", "output_norm.weight: missing from the file"),
        (
            "no norm before attention",
            "blk.1.attn_norm.weight",
            "blk.1.attn_norm.weight: missing from the file",
        ),
        ("no queries", "blk.0.attn_q.weight", "blk.0.attn_q.weight: missing from the file"),
        ("no keys", "blk.0.attn_k.weight", "blk.0.attn_k.weight: missing from the file"),
        ("no values", "blk.1.attn_v.weight", "blk.1.attn_v.weight: missing from the file"),
        (
            "no attention output",
            "blk.1.attn_output.weight",
            "blk.1.attn_output.weight: missing from the file",
        ),
        (
            "no norm before experts",
            "blk.0.ffn_norm.weight",
            "blk.0.ffn_norm.weight: missing from the file",
        ),
        (
            "no router",
            "blk.0.ffn_gate_inp.weight",
            "blk.0.ffn_gate_inp.weight: missing from the file",
        ),
        (
            "no gates",
            "blk.1.ffn_gate_exps.weight",
            "blk.1.ffn_gate_exps.weight: missing from the file",
        ),
        (
            "no first ups",
            "blk.0.ffn_up_exps.weight",
            "blk.0.ffn_up_exps.weight: missing from the file",
        ),
        (
            "no second ups",
            "blk.1.ffn_up_exps.weight",
            "blk.1.ffn_up_exps.weight: missing from the file",
        ),
        (
            "no downs",
            "blk.1.ffn_down_exps.weight",
            "blk.1.ffn_down_exps.weight: missing from the file",
        ),
    ]
    .map(|(name, tensor, message)| edited(name, |w| _ = w.remove_tensor(tensor), message))
    .into()
}

/// Types by the name that ggml has for them.
pub(crate) fn types() -> Vec<Broken> {
    [
        ("IQ4_NL", 20, "blk.0.attn_q.weight: IQ4_NL is not supported[works]"),
        ("IQ4_XS", 23, "blk.0.attn_q.weight: IQ4_XS is not supported[works]"),
        ("IQ2_XXS", 16, "blk.0.attn_q.weight: IQ2_XXS is not supported[works]"),
        ("MXFP4", 39, "blk.0.attn_q.weight: MXFP4 is not supported[works]"),
        ("TQ1_0", 34, "blk.0.attn_q.weight: TQ1_0 is not supported[works]"),
        ("TQ2_0", 35, "blk.0.attn_q.weight: TQ2_0 is not supported[works]"),
        ("Q4_0_4_4", 31, "blk.0.attn_q.weight: Q4_0_4_4 is not supported[works]"),
        ("Q4_2", 4, "blk.0.attn_q.weight: Q4_2 is not supported[works]"),
        ("a type of tomorrow", 999, "blk.0.attn_q.weight: ggml type 999 is not supported[works]"),
    ]
    .map(|(name, number, message)| {
        edited(name, |w| w.tensor("blk.0.attn_q.weight").number = number, message)
    })
    .into()
}

/// Tensors that would have a part in what is computed, if they were known.
pub(crate) fn unknown_tensors() -> Vec<Broken> {
    let added = |name, tensor: &str, message| {
        edited(name, |w| _ = w.add(tensor, Format::F32, &[64], vec![0; 256]), message)
    };
    let fused = |name, from: &[&str], tensor: &str, message| {
        let fuse = |w: &mut Writer| {
            from.iter().for_each(|tensor| _ = w.remove_tensor(tensor));
            w.add(tensor, Format::F32, &[64], vec![0; 256]);
        };
        edited(name, fuse, message)
    };
    let stripped = |w: &mut Writer| {
        for layer in 0..2 {
            for part in ["gate", "up", "down"] {
                w.remove_tensor(&format!("blk.{layer}.ffn_{part}_exps.weight"));
            }
        }
    };
    vec![
        added(
            "a bias of queries",
            "blk.0.attn_q.bias",
            "blk.0.attn_q.bias: a bias, which SmallThinker has not: without it, this model would write \
             another text",
        ),
        added(
            "a bias of the LM head",
            "output.bias",
            "output.bias: a bias, which SmallThinker has not: without it, this model would write another \
             text",
        ),
        added(
            "a norm of queries",
            "blk.1.attn_q_norm.weight",
            "blk.1.attn_q_norm.weight: a tensor that SmallThinker has not: without it, this model would \
             write another text",
        ),
        fused(
            "fused queries, keys and values",
            &["blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"],
            "blk.0.attn_qkv.weight",
            "blk.0.attn_qkv.weight: matrices in one tensor, which wick reads apart: convert the model \
             again without fusing them",
        ),
        fused(
            "fused gates and ups",
            &["blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight"],
            "blk.0.ffn_gate_up_exps.weight",
            "blk.0.ffn_gate_up_exps.weight: matrices in one tensor, which wick reads apart: convert the \
             model again without fusing them",
        ),
        edited(
            "no experts at all",
            stripped,
            "the experts are missing from the file (blk.*.ffn_gate_exps, ffn_up_exps and ffn_down_exps): \
             PowerInfer keeps them apart from such a file; take the whole GGUF file that it was made from",
        ),
    ]
}

pub(crate) fn shapes() -> Vec<Broken> {
    // Other dimensions for the same bytes, so that nothing but the shape is wrong.
    let reshaped = |name, tensor: &str, dims: &[u64], message| {
        edited(name, |w| w.tensor(tensor).dims = dims.to_vec(), message)
    };
    let square = |profiler| {
        let mut tiny = Tiny { profiler, ..Tiny::default() };
        tiny.config.expert_width = 64;
        tiny
    };
    let profiled = Tiny { profiler: Some(128), down_by_neuron: true, ..Tiny::default() };
    vec![
        reshaped(
            "an embedding of three dimensions",
            "token_embd.weight",
            &[64, 144, 2],
            "token_embd.weight: 2 dimensions expected, 3 found",
        ),
        reshaped(
            "an embedding of other rows",
            "token_embd.weight",
            &[32, 576],
            "token_embd.weight: [64, 288] expected, [32, 576] found",
        ),
        reshaped(
            "an embedding turned",
            "token_embd.weight",
            &[288, 64],
            "token_embd.weight: [64, 288] expected, [288, 64] found",
        ),
        reshaped(
            "a norm of other length",
            "output_norm.weight",
            &[32],
            "output_norm.weight: [64] expected, [32] found",
        ),
        reshaped(
            "a norm of two dimensions",
            "blk.0.attn_norm.weight",
            &[32, 2],
            "blk.0.attn_norm.weight: 1 dimension expected, 2 found",
        ),
        reshaped(
            "queries turned",
            "blk.0.attn_q.weight",
            &[96, 64],
            "blk.0.attn_q.weight: [64, 96] expected, [96, 64] found",
        ),
        reshaped(
            "too few queries",
            "blk.0.attn_q.weight",
            &[64, 95],
            "blk.0.attn_q.weight: [64, 96] expected, [64, 95] found",
        ),
        reshaped(
            "keys in one dimension",
            "blk.1.attn_k.weight",
            &[2048],
            "blk.1.attn_k.weight: 2 dimensions expected, 1 found",
        ),
        reshaped(
            "values turned",
            "blk.1.attn_v.weight",
            &[32, 64],
            "blk.1.attn_v.weight: [64, 32] expected, [32, 64] found",
        ),
        reshaped(
            "attention output turned",
            "blk.0.attn_output.weight",
            &[64, 96],
            "blk.0.attn_output.weight: [96, 64] expected, [64, 96] found",
        ),
        reshaped(
            "a router of other experts",
            "blk.0.ffn_gate_inp.weight",
            &[128, 2],
            "blk.0.ffn_gate_inp.weight: [64, 4] expected, [128, 2] found",
        ),
        reshaped(
            "gates of two dimensions",
            "blk.1.ffn_gate_exps.weight",
            &[64, 640],
            "blk.1.ffn_gate_exps.weight: 3 dimensions expected, 2 found",
        ),
        reshaped(
            "ups of two dimensions",
            "blk.1.ffn_up_exps.weight",
            &[64, 640],
            "blk.1.ffn_up_exps.weight: 3 dimensions expected, 2 found",
        ),
        reshaped(
            "ups of four dimensions",
            "blk.1.ffn_up_exps.weight",
            &[64, 80, 4, 2],
            "blk.1.ffn_up_exps.weight: 3 dimensions expected, 4 found",
        ),
        reshaped(
            "downs of neither orientation",
            "blk.0.ffn_down_exps.weight",
            &[32, 320, 4],
            "blk.0.ffn_down_exps.weight: [160, 64, 4] expected, [32, 320, 4] found",
        ),
        reshaped(
            "downs with experts in front",
            "blk.0.ffn_down_exps.weight",
            &[160, 4, 64],
            "blk.0.ffn_down_exps.weight: [160, 64, 4] expected, [160, 4, 64] found",
        ),
        shaped(
            "a router in blocks",
            &Tiny { formats: vec![("ffn_gate_inp", Format::Q8_0)], ..Tiny::default() },
            |_| (),
            "blk.0.ffn_gate_inp.weight: F32, F16 or BF16 expected, Q8_0 found",
        ),
        shaped(
            "a norm in blocks",
            &Tiny { formats: vec![("ffn_norm", Format::Q4_0)], ..Tiny::default() },
            |_| (),
            "blk.0.ffn_norm.weight: F32, F16 or BF16 expected, Q4_0 found",
        ),
        shaped(
            "downs that may lie either way",
            &square(Some(128)),
            |_| (),
            "blk.0.ffn_down_exps.weight: hidden size and expert width are both 64: rows \
             and columns cannot be told apart in a file with a profiler",
        ),
        shaped(
            "an output of other rows",
            &Tiny { tied: false, ..Tiny::default() },
            |w| w.tensor("output.weight").dims = vec![64, 287],
            "output.weight: [64, 288] expected, [64, 287] found",
        ),
        shaped(
            "a profiler of no whole rank",
            &profiled,
            |w| w.tensor("lm_head_profiler.weight").dims = vec![128 * 352 - 32, 1],
            "lm_head_profiler.weight: a multiple of 64 + 288 weights in whole blocks \
             expected, [45024, 1] found",
        ),
        shaped(
            "a profiler of a rank in half a block",
            &profiled,
            |w| w.tensor("lm_head_profiler.weight").dims = vec![16 * 352, 1],
            "lm_head_profiler.weight: a multiple of 64 + 288 weights in whole blocks \
             expected, [5632, 1] found",
        ),
        shaped(
            "a profiler smaller than a rank",
            &profiled,
            |w| w.tensor("lm_head_profiler.weight").dims = vec![32, 1],
            "lm_head_profiler.weight: a multiple of 64 + 288 weights in whole blocks \
             expected, [32, 1] found",
        ),
    ]
}
