//! Packed files that contradict themselves.

use crate::{damages, pack, sealed};
use wick_core::HeadRows;
use wick_format::{Gguf, Kind};
use wick_tests::gguf::{Value, Writer};
use wick_tests::tiny::Tiny;

/// A good packed file, to be changed.
fn writer() -> Writer {
    Writer::from(&Gguf::parse(&pack(&[&Tiny::default().to_bytes()], HeadRows::Exact)).unwrap())
}

/// What a file is refused with that was changed.
fn refusal(edit: impl FnOnce(&mut Writer)) -> String {
    let mut writer = writer();
    edit(&mut writer);
    damages(&sealed(writer.to_bytes())).unwrap_err()
}

/// Replaces an element of an array.
fn element(key: &'static str, at: usize, value: Value) -> impl FnOnce(&mut Writer) {
    move |writer| {
        let found = writer.entries.iter_mut().find(|(k, _)| k == key.as_bytes()).unwrap();
        let Value::Array(_, values) = &mut found.1 else { panic!("{key} is an array") };
        values[at] = value;
    }
}

#[test]
fn the_good_file_is_good() {
    assert_eq!(damages(&writer().to_bytes()), Ok(vec![]));
}

#[test]
fn missing_keys_are_named() {
    let keys: Vec<String> = writer()
        .entries
        .iter()
        .map(|(key, _)| String::from_utf8(key.clone()).unwrap())
        .filter(|key| key.starts_with("wick.") && key != "wick.pack.version")
        .collect();
    assert_eq!(keys.len(), 9);
    for key in keys {
        let found = refusal(|w| _ = w.remove(&key));
        assert_eq!(found, format!("{key}: missing from the metadata"));
    }
    // Without a version it is a file of another kind, whose experts are missing.
    let found = refusal(|w| _ = w.remove("wick.pack.version"));
    assert_eq!(found, "the file is not packed");
}

/// A sketch of another matrix is none of this LM head.
#[test]
fn a_sketch_that_does_not_fit_is_named() {
    let packed = pack(&[&Tiny::default().to_bytes()], HeadRows::Coarse);
    let mut writer = Writer::from(&Gguf::parse(&packed).unwrap());
    let sketch = writer.tensor("wick.sketch");
    let expected = sketch.data.len();
    sketch.data.truncate(expected - 64);
    sketch.dims = vec![sketch.data.len() as u64];
    let found = damages(&sealed(writer.to_bytes())).unwrap_err();
    let expected =
        format!("wick.sketch: the {expected} bytes of a sketch of the LM head expected, ");
    assert!(found.starts_with(&expected) && found.ends_with(" found"), "{found}");
}

#[test]
fn contradictions_are_named() {
    let short = |kind, len| Value::Array(kind, vec![Value::U32(1); len]);
    let keys = [
        (
            "wick.pack.version",
            Value::U32(3),
            "1 or 2 (pack the model again with this wick) expected, 3 found",
        ),
        (
            "wick.pack.version",
            Value::U32(0),
            "1 or 2 (pack the model again with this wick) expected, 0 found",
        ),
        (
            "wick.pack.layouts",
            short(Kind::U32, 18),
            "an array with a string for each tensor expected, an array of 18 × u32 found",
        ),
        (
            "wick.pack.crc32",
            short(Kind::U32, 17),
            "an array with a u32 for each tensor expected, an array of 17 × u32 found",
        ),
        (
            "wick.pack.tensors",
            short(Kind::U32, 2),
            "an array of strings expected, an array of 2 × u32 found",
        ),
        (
            "wick.experts.formats",
            short(Kind::U32, 5),
            "an array with three u32 for each layer expected, an array of 5 × u32 found",
        ),
        (
            "wick.experts.layouts",
            short(Kind::U32, 6),
            "an array with three strings for each layer expected, an array of 6 × u32 found",
        ),
        (
            "wick.experts.by_neuron",
            short(Kind::U32, 2),
            "an array with a bool for each layer expected, an array of 2 × u32 found",
        ),
        (
            "wick.experts.crc32",
            short(Kind::U32, 23),
            "an array with three u32 for each expert of each layer expected, an array of 23 × u32 found",
        ),
        (
            "wick.experts.width",
            "many".into(),
            "an integer from 0 to 4294967295 expected, \"many\" found",
        ),
        (
            "general.alignment",
            Value::U32(64),
            "a multiple of 4096 in a packed file expected, 64 found",
        ),
    ];
    for (key, value, message) in keys {
        assert_eq!(refusal(|w| _ = w.set(key, value)), format!("{key}: {message}"));
    }
    let width = refusal(|w| _ = w.set("wick.experts.width", 64u32));
    let length = "smallthinker.expert_feed_forward_length";
    assert_eq!(width, format!("{length}: 160 found, but wick.experts.width is 64"));
    let width = refusal(|w| {
        w.set("wick.experts.width", 64u32).set(length, 64u32);
    });
    assert_eq!(width, "blk.0.experts: [12288, 4] expected, [24576, 4] found");
}

#[test]
fn layouts_that_do_not_fit_are_named() {
    let text = |text: &str| Value::from(text);
    let cases = [
        (
            "wick.pack.layouts",
            3,
            text("zigzag"),
            "blk.0.attn_q.weight: a layout that fits 96 rows of 64 in Q4_0 expected, \"zigzag\" found",
        ),
        (
            "wick.pack.layouts",
            1,
            text("grouped"),
            "output_norm.weight: a layout that fits 1 rows of 64 in F32 expected, \"grouped\" found",
        ),
        (
            "wick.pack.layouts",
            3,
            text("columns"),
            "blk.0.attn_q.weight: arranged by rows or grouped expected, columns found",
        ),
        (
            "wick.experts.layouts",
            0,
            text("experts"),
            "blk.0.ffn_gate_exps.weight: a layout that fits 160 rows of 64 in Q4_0 expected, \"experts\" found",
        ),
        (
            "wick.experts.layouts",
            4,
            text("columns"),
            "blk.1.ffn_up_exps.weight: arranged by rows or split expected, columns found",
        ),
        (
            "wick.experts.formats",
            2,
            Value::U32(20),
            "blk.0.ffn_down_exps.weight: IQ4_NL is not supported; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K are: quantize the model to Q4_0",
        ),
        (
            "wick.experts.formats",
            0,
            Value::U32(8),
            "blk.0.ffn_gate_exps.weight: a layout that fits 160 rows of 64 in Q8_0 expected, \"grouped\" found",
        ),
        (
            "wick.experts.by_neuron",
            0,
            Value::Bool(true),
            "blk.0.ffn_down_exps.weight: arranged by rows expected, columns found",
        ),
    ];
    for (key, at, value, message) in cases {
        assert_eq!(refusal(element(key, at, value)), message);
    }
}

#[test]
fn experts_of_other_sizes_are_named() {
    let found = refusal(|w| w.tensor("blk.1.experts").dims[1] = 3);
    assert_eq!(found, "blk.1.experts: [24576, 4] expected, [24576, 3] found");
    let found = refusal(|w| {
        _ = w
            .remove_tensor("blk.1.experts")
            .set("wick.pack.crc32", Value::array([0u32; 17]))
            .set("wick.pack.layouts", Value::array(["rows"; 17]))
    });
    assert_eq!(found, "blk.1.experts: I8 expected, missing from the file");
    let found = refusal(|w| w.tensor("blk.0.experts").number = 0);
    assert!(found.contains("incomplete") || found.starts_with("blk.0.experts: I8"), "{found}");
}

#[test]
fn a_packed_file_is_no_part_of_a_split_model() {
    let parts: Vec<Vec<u8>> = writer().split(10).iter().map(Writer::to_bytes).collect();
    let files: Vec<Gguf<'_>> = parts.iter().map(|part| Gguf::parse(part).unwrap()).collect();
    assert!(wick_format::Model::new(&files).is_err());
}
