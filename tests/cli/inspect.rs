//! `wick inspect`.

use crate::program::{fails, golden, model, stdout, wick};
use serde_json::Value;

#[test]
fn every_golden_model_can_be_inspected() {
    let index: Value =
        serde_json::from_slice(&std::fs::read(golden("index.json")).unwrap()).unwrap();
    for case in index["models"].as_array().unwrap() {
        let file = model(case["file"].as_str().unwrap());
        let json: Value =
            serde_json::from_str(&stdout(&wick(&["inspect", &file, "--json"]))).unwrap();
        assert_eq!(json["shape"]["vocabulary"], case["vocabulary"]);
        assert_eq!(json["unused_tensors"], Value::Array(vec![]), "{file}");
        let text = stdout(&wick(&["inspect", &file]));
        assert!(text.contains("runs with") && text.contains("kernels"), "{text}");
    }
}

#[test]
fn a_missing_part_of_a_split_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("m-00001-of-00002.gguf");
    std::fs::copy(golden("split-00001-of-00002.gguf"), &first).unwrap();
    fails(&wick(&["inspect", first.to_str().unwrap()]), 3, "m-00002-of-00002.gguf: No such file");
}
