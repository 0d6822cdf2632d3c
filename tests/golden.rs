//! Logits of the committed tiny models against an independent NumPy forward pass and llama.cpp.
//!
//! `tests/models/golden.py` makes models and logits; `tests/models/README.md` tells what each
//! model is for.

use serde_json::Value;
use wick_core::Serial;
use wick_format::SplitName;
use wick_tests::{Model, golden_bytes, golden_floats, largest_difference, range};

/// One model of the index.
struct Case {
    name: String,
    parts: Vec<String>,
    ids: Vec<u32>,
    vocab: usize,
    tolerance: f32,
    oracles: Vec<(String, String)>,
}

fn cases() -> Vec<Case> {
    let index: Value = serde_json::from_slice(golden_bytes("index.json")).unwrap();
    let models = index["models"].as_array().unwrap();
    assert!(models.len() >= 8, "{} models in the index", models.len());
    models.iter().map(case).collect()
}

fn case(model: &Value) -> Case {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let oracles = model["logits"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), text(v)));
    Case {
        name: text(&model["name"]),
        parts: parts(&text(&model["file"])),
        ids: model["ids"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect(),
        vocab: model["vocabulary"].as_u64().unwrap() as usize,
        tolerance: model["tolerance"].as_f64().unwrap() as f32,
        oracles: oracles.collect(),
    }
}

/// The files of a model: itself, or all parts of which it is the first.
fn parts(file: &str) -> Vec<String> {
    match SplitName::parse(file) {
        Some(name) => (1..=name.count).map(|part| name.sibling(part).to_string()).collect(),
        None => vec![file.to_owned()],
    }
}

/// The largest logit's index and how far the second lies below it.
fn winner(row: &[f32]) -> (usize, f32) {
    let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    let others = row.iter().enumerate().filter(|(i, _)| *i != best);
    (best, row[best] - others.map(|(_, v)| *v).fold(f32::MIN, f32::max))
}

#[test]
fn logits_equal_the_oracles() {
    for case in cases() {
        let bytes: Vec<_> = case.parts.iter().map(|part| golden_bytes(part)).collect();
        let ours = Model::read(&bytes).logits(&case.ids, 16, &Serial);
        assert!(!case.oracles.is_empty(), "{} has no oracle", case.name);
        for (oracle, file) in &case.oracles {
            let theirs = golden_floats(file);
            let allowed = case.tolerance * range(&theirs);
            let off = largest_difference(&ours, &theirs);
            println!("{:24} {oracle:6} {:.6} of the range", case.name, off / range(&theirs));
            assert!(off <= allowed, "{} {oracle}: {off} off, {allowed} allowed", case.name);
            for (i, (a, b)) in ours.chunks(case.vocab).zip(theirs.chunks(case.vocab)).enumerate() {
                let (best, gap) = winner(b);
                let same = winner(a).0 == best;
                assert!(same || gap <= allowed, "{} {oracle}: argmax of position {i}", case.name);
            }
        }
    }
}
