//! `wick quantize`.

use crate::folder::Folder;
use crate::program::{fails, model, nano, stdout, wick};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use wick_format::Gguf;
use wick_kernels::{Format, scalar};
use wick_prepare::quantize_by;

impl Folder {
    /// A model with whole blocks of every type in its rows.
    fn synthetic(&self, name: &str, more: &[&str]) -> String {
        let (path, shape) =
            (self.path(name), "tiny,layers=2,experts=8,vocab=512,width=256,heads=8");
        let fixed = ["synth", "--shape", shape, "--no-run", "--seed", "5", "-o", &path];
        stdout(&wick(&[&fixed[..], more].concat()));
        path
    }
}

fn quantize(from: &str, to: &str, more: &[&str]) -> String {
    stdout(&wick(&[&["quantize", from, "-o", to][..], more].concat()))
}

/// Types and bytes of all tensors.
fn tensors(path: &str) -> BTreeMap<String, (u32, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let tensor =
        |t: wick_format::Tensor<'_>| (t.name().into(), (t.number(), t.bytes().unwrap().into()));
    gguf.tensors().map(tensor).collect()
}

/// How many tensors have each type.
fn types(path: &str) -> BTreeMap<String, u64> {
    let report: Value = serde_json::from_str(&stdout(&wick(&["inspect", path, "--json"]))).unwrap();
    let types = report["types"].as_object().unwrap();
    types.iter().map(|(name, total)| (name.clone(), total["tensors"].as_u64().unwrap())).collect()
}

/// A model that was written with a type is what the same weights become.
#[test]
fn weights_become_what_they_would_have_been_written_as() {
    let folder = Folder::new();
    let (new, untied) = (folder.path("new"), &["--untied"][..]);
    for (drawn, options, same) in [
        (
            &["--type", "f32"][..],
            &["--type", "q4_0"][..],
            &["--type", "q4_0", "--output-type", "q6_k"][..],
        ),
        (&["--type", "f32"], &["--type", "q4_0", "--pure"], &["--type", "q4_0"]),
        (
            &["--type", "f32"],
            &["--type", "q4_0", "--output-type", "q8_0"],
            &["--type", "q4_0", "--output-type", "q8_0"],
        ),
        (&["--type", "f32"], &["--type", "q8_0"], &["--type", "q8_0"]),
        (&["--type", "f32"], &["--type", "q6_k"], &["--type", "q6_k"]),
        (&["--type", "f32"], &["--type", "f16"], &["--type", "f16"]),
        (&["--type", "f32"], &["--type", "bf16"], &["--type", "bf16"]),
    ] {
        let drawn = folder.synthetic("drawn", &[drawn, untied].concat());
        let expected = folder.synthetic("expected", &[same, untied].concat());
        for threads in ["1", "3"] {
            let said = quantize(&drawn, &new, &[options, &["--threads", threads]].concat());
            assert!(said.contains(" bits a weight, "), "{said}");
            assert!(tensors(&new) == tensors(&expected), "{options:?}");
        }
        let run = |file: &str| stdout(&wick(&["run", "-m", file, "-n", "8", "--seed", "3", "hi"]));
        assert_eq!(run(&new), run(&expected), "{options:?}");
    }
}

/// Types as llama.cpp's rules have them; where rows are no whole blocks, one by one.
#[test]
fn types_go_by_the_rules() {
    let folder = Folder::new();
    let new = folder.path("new");
    let check = |from: &str, options: &[&str], expected: &[(&str, u64)]| {
        quantize(from, &new, options);
        let expected = expected.iter().map(|(name, count)| ((*name).to_owned(), *count));
        assert_eq!(types(&new), expected.collect(), "{from} {options:?}");
    };
    let tied = folder.synthetic("tied", &["--type", "f16"]);
    // Of each layer: four matrices of attention and three of experts; two norms and the router.
    check(&tied, &["--type", "q4_0"], &[("F32", 7), ("Q4_0", 14), ("Q6_K", 1)]);
    check(&tied, &["--type", "Q4_0", "--pure"], &[("F32", 7), ("Q4_0", 15)]);
    check(
        &tied,
        &["--type", "q8_0", "--output-type", "f16"],
        &[("F16", 1), ("F32", 7), ("Q8_0", 14)],
    );
    let untied = folder.synthetic("untied", &["--type", "f16", "--untied"]);
    check(&untied, &["--type", "q4_0"], &[("F32", 7), ("Q4_0", 15), ("Q6_K", 1)]);
    // What is as wanted already is kept.
    check(&tied, &["--type", "f16"], &[("F16", 15), ("F32", 7)]);
    // Rows of 128 weights are no block of Q6_K, those of 48 none of Q4_0.
    let odd = folder.path("odd");
    let shape = "tiny,layers=2,hidden=128,width=48,vocab=512";
    stdout(&wick(&["synth", "--shape", shape, "--no-run", "--type", "f16", "-o", &odd]));
    check(&odd, &["--type", "q4_0"], &[("F16", 2), ("F32", 7), ("Q4_0", 12), ("Q8_0", 1)]);
    check(&odd, &["--type", "q6_k"], &[("F16", 2), ("F32", 7), ("Q8_0", 13)]);
}

#[test]
fn a_split_model_becomes_one_file() {
    let folder = Folder::new();
    let (one, whole) = (folder.path("one"), folder.path("whole"));
    quantize(&model("split-00001-of-00002.gguf"), &one, &["--type", "f16"]);
    let keys = fs::read(&one).unwrap();
    let gguf = Gguf::parse(&keys).unwrap();
    assert!(gguf.entries().all(|entry| !entry.key.starts_with("split.")));
    assert_eq!(gguf.get("general.file_type").unwrap().u32(), Ok(1));
    // Parts and PowerInfer's files run as before.
    quantize(&model("powerinfer.gguf"), &whole, &["--type", "q8_0"]);
    for file in [&one, &whole] {
        stdout(&wick(&["run", "-m", file, "-n", "4", "hi"]));
    }
}

/// An importance of each column, drawn so that it matters, in the older form.
fn importance_matrix(path: &Path, entries: &[(&str, Vec<f32>)]) {
    let mut bytes = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, values) in entries {
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(2i32.to_le_bytes());
        bytes.extend((values.len() as i32).to_le_bytes());
        values.iter().for_each(|value| bytes.extend((value * 2.0).to_le_bytes()));
    }
    bytes.extend(9i32.to_le_bytes());
    bytes.extend(4i32.to_le_bytes());
    bytes.extend(b"text");
    fs::write(path, bytes).unwrap();
}

#[test]
fn weights_are_rounded_by_their_importance() {
    let folder = Folder::new();
    let drawn = folder.synthetic("drawn", &["--type", "f32", "--untied"]);
    let (matrix, plain, new) =
        (folder.path("imatrix.dat"), folder.path("plain"), folder.path("new"));
    let values = |seed: usize, len: usize| -> Vec<f32> {
        (0..len).map(|i| if (i * 7 + seed).is_multiple_of(5) { 40.0 } else { 0.25 }).collect()
    };
    // Experts have a row each; the LM head has one, and the other layer none.
    let entries = [
        ("blk.0.ffn_up_exps.weight", values(1, 8 * 256)),
        ("blk.0.attn_k.weight", values(2, 256)),
        ("output.weight", values(3, 256)),
    ];
    importance_matrix(Path::new(&matrix), &entries);
    quantize(&drawn, &plain, &["--type", "q4_0"]);
    quantize(&drawn, &new, &["--type", "q4_0", "--imatrix", &matrix]);
    let (drawn, plain, found) = (tensors(&drawn), tensors(&plain), tensors(&new));
    for (name, (number, bytes)) in &found {
        let Some((_, importance)) = entries.iter().find(|(entry, _)| entry == name) else {
            assert_eq!(plain[name].1, *bytes, "{name}");
            continue;
        };
        assert!(plain[name].1 != *bytes, "{name}");
        let format = Format::from_ggml(*number).unwrap();
        let mut weights = vec![0.0; drawn[name].1.len() / 4];
        scalar::dequantize(Format::F32, &drawn[name].1, &mut weights);
        let (rows, matrices) = (weights.len() / 256, importance.len() / 256);
        let mut expected = Vec::new();
        for (i, row) in weights.chunks(256).enumerate() {
            let important = &importance[i / (rows / matrices) * 256..][..256];
            assert!(quantize_by(format, row, Some(important), &mut expected));
        }
        assert!(expected == *bytes, "{name}");
    }
    let file = fs::read(&new).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let number = |key: &str| gguf.get(key).unwrap().u32().unwrap();
    assert_eq!(gguf.get("quantize.imatrix.file").unwrap().str(), Ok("imatrix.dat"));
    assert_eq!(gguf.get("quantize.imatrix.dataset").unwrap().str(), Ok("text"));
    assert_eq!(number("quantize.imatrix.entries_count"), 3);
    assert_eq!(number("quantize.imatrix.chunks_count"), 9);
}

#[test]
fn what_cannot_be_quantized_is_refused() {
    let folder = Folder::new();
    let (new, packed, broken) = (folder.path("new"), folder.path("packed"), folder.path("broken"));
    let refuse = |from: &str, more: &[&str], code: i32, text: &str| {
        fails(&wick(&[&["quantize", from, "-o", &new][..], more].concat()), code, text);
        assert!(!Path::new(&new).exists(), "nothing is left behind");
    };
    let to = &["--type", "q4_0"][..];
    stdout(&wick(&["pack", &nano(), "-o", &packed]));
    refuse(&packed, to, 3, "unpack it first");
    let drawn = folder.synthetic("drawn", &["--type", "f32"]);
    fails(&wick(&["quantize", &drawn, "-o", &drawn, "--type", "q4_0"]), 2, "is the input");

    // An infinity in the last matrix, and a weight that Q4_0 has no scale for.
    let whole = fs::read(&drawn).unwrap();
    let gguf = Gguf::parse(&whole).unwrap();
    let at = gguf.tensor("blk.1.ffn_down_exps.weight").unwrap().range().unwrap().end - 4;
    for (weight, text) in
        [(f32::INFINITY, "finite weights expected, inf found"), (1e6, "is too large for Q4_0")]
    {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&weight.to_le_bytes());
        fs::write(&broken, bytes).unwrap();
        refuse(&broken, to, 3, "blk.1.ffn_down_exps.weight, row 2047: ");
        refuse(&broken, to, 3, text);
    }
    let matrix = folder.path("imatrix.dat");
    importance_matrix(Path::new(&matrix), &[("blk.0.attn_k.weight", vec![1.0; 255])]);
    let by = ["--type", "q4_0", "--imatrix", &matrix];
    refuse(&drawn, &by, 3, "256 values expected, 255 found; it is of another model");
    importance_matrix(Path::new(&matrix), &[("other.weight", vec![1.0; 256])]);
    refuse(&drawn, &by, 3, "no entry is for a tensor of this model");
    fs::write(&matrix, "no matrix").unwrap();
    refuse(&drawn, &by, 5, "an importance matrix expected");
    fs::remove_file(&matrix).unwrap();
    refuse(&drawn, &by, 5, "No such file");
}

/// Who rounds twice is told.
#[test]
fn blocks_that_lose_again_are_told() {
    let folder = Folder::new();
    let new = folder.path("new");
    let said = wick(&["quantize", &nano(), "-o", &new, "--type", "q8_0"]);
    let err = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(err.contains("weights are Q4_0, and lose again"), "{err}");
}
