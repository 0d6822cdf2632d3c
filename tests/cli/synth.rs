//! `wick synth`: models of random weights.

use crate::program::{fails, stdout, wick};
use serde_json::Value;

/// The numbers of a line.
fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn synthetic_models_have_the_statistics_of_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let path = path.to_str().unwrap();
    let synth = ["synth", "--shape", "tiny,experts=32", "--like", "report", "--tokens", "400"];
    let said = stdout(&wick(&[&synth[..], &["-o", path]].concat()));
    let layers: Vec<Vec<f64>> = said.lines().skip(4).take(4).map(numbers).collect();
    // The report's first layer, its last and two between.
    let wanted: Vec<f64> = layers.iter().map(|layer| layer[1]).collect();
    assert_eq!(wanted, [99.6, 74.9, 72.3, 66.8], "{said}");
    for layer in &layers {
        let &[_, wanted, reached, off, chance, most, chosen] = &layer[..] else { panic!("{said}") };
        assert!((reached - wanted).abs() < 2.5, "{said}");
        assert!(off < 2.5 * chance && (chosen - most).abs() < 12.0, "{said}");
    }

    let json: Value = serde_json::from_str(&stdout(&wick(&["inspect", path, "--json"]))).unwrap();
    assert_eq!(json["shape"]["experts"], 32);
    assert_eq!(json["shape"]["tied_output"], true);
    assert_eq!(json["tokenizer"]["entries"], 1024);
    assert_eq!(json["tokenizer"]["chat_template"], true);
    let run = ["run", "-m", path, "-n", "20", "--seed", "1", "what is a lamp?"];
    assert!(!stdout(&wick(&run)).trim().is_empty());
}

#[test]
fn synthetic_models_have_the_types_and_sizes_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slice.gguf");
    let path = path.to_str().unwrap();
    let synth = ["synth", "--shape", "tiny,width=96,window=64", "--layers", "2", "--vocab", "300"];
    let types = ["--type", "q8_0", "--output-type", "q6_k", "--no-run", "-o", path];
    assert_eq!(stdout(&wick(&[&synth[..], &types].concat())).lines().count(), 1);
    let json: Value = serde_json::from_str(&stdout(&wick(&["inspect", path, "--json"]))).unwrap();
    let shape = &json["shape"];
    assert_eq!((&shape["layers"], &shape["vocabulary"]), (&2.into(), &300.into()));
    assert_eq!((&shape["expert_width"], &shape["window"]), (&96.into(), &64.into()));
    assert_eq!(shape["tied_output"], false);
    assert_eq!(json["types"]["Q6_K"]["tensors"], 1);
    assert_eq!(json["types"]["Q8_0"]["tensors"], 15);
}

#[test]
fn shapes_that_make_no_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let synth = |shape, more: &[&str]| {
        wick(&[&["synth", "--shape", shape, "-o", path.to_str().unwrap()], more].concat())
    };
    fails(&synth("5b", &[]), 2, "4b, 21b or tiny expected, \"5b\" found");
    fails(&synth("tiny,layers", &[]), 2, "NAME=SIZE expected");
    fails(&synth("tiny,layers=0", &[]), 2, "layers: 1 to 96 expected, 0 found");
    fails(&synth("tiny,active=17", &["--like", "report"]), 2, "active experts: 1 to 16 expected");
    fails(&synth("tiny,hidden=100", &[]), 2, "hidden size: a multiple of 32, 64 or more");
    fails(&synth("tiny,width=100", &[]), 2, "ffn_down_exps.weight: rows of a multiple of 32");
    fails(&synth("tiny", &["--type", "q6_k"]), 2, "rows of a multiple of 256 weights");
    fails(&synth("tiny", &["--type", "q3_k"]), 2, "one of F32, F16, BF16, Q4_0, Q8_0, Q6_K");
    fails(&synth("tiny", &["--tied", "--output-type", "f16"]), 2, "--output-type");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_model_that_cannot_be_written_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/a.gguf");
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    for (path, why) in [(&missing, "No such file"), (&taken, "no regular file")] {
        let output = wick(&["synth", "--shape", "tiny", "-o", path.to_str().unwrap()]);
        fails(&output, 1, "bytes cannot be written: ");
        fails(&output, 1, why);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
