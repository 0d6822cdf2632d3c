//! Logits of nano against the JAX model that trained it.
//!
//! `tests/models/nano/check.py --logits` computes them from the rounded weights of the shipped file with
//! f32 activations. Here the weights are written as F32, so that the engine rounds no activations
//! either, and only the order of sums and the f16 KV cache remain between the two.

use serde_json::Value;
use wick_core::Serial;
use wick_format::Gguf;
use wick_kernels::{Format, scalar};
use wick_tests::gguf::{Tensor, Writer};
use wick_tests::{Model, golden_bytes, golden_floats, largest_difference, range};

const TOLERANCE: f32 = 1e-3;

/// nano's file with every weight as F32.
fn in_f32() -> Writer {
    let gguf = Gguf::parse(golden_bytes("../models/nano/nano.gguf")).unwrap();
    let mut writer = Writer::from(&gguf);
    writer.tensors.iter_mut().for_each(expand);
    writer
}

fn expand(tensor: &mut Tensor) {
    let format = Format::from_ggml(tensor.number).unwrap();
    let mut floats = vec![0f32; tensor.dims.iter().product::<u64>() as usize];
    scalar::dequantize(format, &tensor.data, &mut floats);
    tensor.number = 0; // F32
    tensor.data = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
}

/// How far the logits of a file are from the reference, in parts of its range.
fn distance(file: &Writer) -> f32 {
    let reference: Value =
        serde_json::from_slice(golden_bytes("../models/nano/reference/ids.json")).unwrap();
    let list =
        |name: &str| -> Vec<usize> { serde_json::from_value(reference[name].clone()).unwrap() };
    let ids: Vec<u32> = list("ids").iter().map(|id| *id as u32).collect();
    let theirs = golden_floats("../models/nano/reference/logits.f32");

    let model = Model::read(&[file.to_bytes().leak()]);
    let window = model.config.window.unwrap().size;
    assert!(list("positions").last() > Some(&window), "the window matters");
    let all = model.logits(&ids, 16, &Serial);
    let row = |position: &usize| &all[position * model.config.vocab..][..model.config.vocab];
    let ours: Vec<f32> = list("positions").iter().flat_map(row).copied().collect();
    largest_difference(&ours, &theirs) / range(&theirs)
}

#[test]
fn logits_are_those_of_jax() {
    let found = distance(&in_f32());
    println!("{found:.6} of the range");
    assert!(found <= TOLERANCE, "{found} of the range");
}

/// The tolerance is not so wide that it would hide a mistake.
#[test]
fn a_window_one_short_shows() {
    let mut file = in_f32();
    file.set("smallthinker.attention.sliding_window", 63u32);
    let found = distance(&file);
    println!("{found:.6} of the range");
    assert!(found > TOLERANCE, "{found} of the range");
}
