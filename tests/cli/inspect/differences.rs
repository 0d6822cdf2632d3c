//! `wick inspect` of two files.

use super::{Folder, json, tensors, weights};
use crate::program::{Q8_0, fails, golden, interrupt, nano, start, stdout, wick};
use serde_json::Value;
use std::collections::BTreeSet;
use wick_format::Gguf;
use wick_kernels::Format;
use wick_tests::gguf::Value as Metadata;

#[test]
fn a_file_does_not_differ_from_itself() {
    let (nano, q8_0) = (nano(), golden(Q8_0).display().to_string());
    for path in [&nano, &q8_0] {
        let text = stdout(&wick(&["inspect", path, path]));
        assert_eq!(text.lines().last(), Some("same"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        let shown = json(&["inspect", path, path]);
        assert_eq!((&shown["same"], &shown["differences"]), (&true.into(), &0.into()));
    }
    let split = golden("split-00001-of-00002.gguf").display().to_string();
    assert_eq!(stdout(&wick(&["inspect", &split, &split])).lines().last(), Some("same"));
}

/// As they are computed from the weights of both.
#[test]
fn quantizations_are_compared_by_their_weights() {
    let folder = Folder::new();
    let (nano, small) = (nano(), folder.path("small"));
    stdout(&wick(&["quantize", &nano, "-o", &small, "--type", "q8_0"]));
    let (a, b) = (tensors(&nano), tensors(&small));
    let shown = json(&["inspect", &nano, &small]);
    let different = shown["tensors"]["different"].as_array().unwrap();
    let found: Vec<&str> = different.iter().map(|t| t["a"]["name"].as_str().unwrap()).collect();
    let mut expected: Vec<&str> = a.keys().map(String::as_str).collect();
    expected.retain(|name| a[*name] != b[*name]);
    let sorted: BTreeSet<&str> = found.iter().copied().collect();
    assert_eq!(sorted.into_iter().collect::<Vec<_>>(), expected);
    assert!(expected.len() > 10 && expected.len() < a.len(), "{}", expected.len());
    for (name, tensor) in found.iter().zip(different) {
        let (x, y) = (weights(&a[*name]), weights(&b[*name]));
        let apart = || x.iter().zip(&y).map(|(x, y)| f64::from(*x) - f64::from(*y));
        let squares = |all: &mut dyn Iterator<Item = f64>| all.map(|x| x * x).sum::<f64>();
        let rms = squares(&mut apart()) / squares(&mut x.iter().map(|x| f64::from(*x)));
        let told = &tensor["weights"];
        assert_eq!(told["all"], x.len(), "{name}");
        assert_eq!(told["differing"], apart().filter(|x| *x != 0.0).count(), "{name}");
        assert_eq!(told["largest"], apart().fold(0.0, |most, x| x.abs().max(most)), "{name}");
        let relative = told["relative"].as_f64().unwrap();
        assert!((relative / rms.sqrt() - 1.0).abs() < 1e-9 && relative > 0.001, "{name}");
        assert_eq!(tensor["b"]["type"], b[*name].0.name());
    }
    let keys = shown["keys"]["different"].as_array().unwrap();
    assert!(keys.iter().any(|key| key["key"] == "general.file_type"), "{shown}");
    let text = stdout(&wick(&["inspect", &nano, &small]));
    let last = format!("{} differences", shown["differences"]);
    assert_eq!(text.lines().last(), Some(&*last), "{text}");
    assert!(text.contains("in b Q8_0 [") && text.contains(" % in RMS\n"), "{text}");
    // Weights that are the same in another type are told to be.
    let (f16, f32) = (golden("f16-softmax-untied.gguf").display().to_string(), folder.path("f32"));
    stdout(&wick(&["quantize", &f16, "-o", &f32, "--type", "f32"]));
    let text = stdout(&wick(&["inspect", &f16, &f32]));
    let (same, count) = (text.matches(" weights are the same").count(), text.matches("in b F32"));
    assert!(same > 10 && same == count.count() && !text.contains("in RMS"), "{text}");
}

#[test]
fn what_differs_is_named() {
    let folder = Folder::new();
    let q8_0 = golden(Q8_0).display().to_string();
    let name = "blk.1.ffn_up_exps.weight";
    // The scale of the last block: 32 weights at most.
    let byte = folder.changed("byte", &q8_0, |writer| {
        let data = &mut writer.tensor(name).data;
        let at = data.len() - 33;
        data[at] ^= 1;
    });
    let shown = json(&["inspect", &q8_0, &byte]);
    assert_eq!(shown["differences"], 1, "{shown}");
    let tensor = &shown["tensors"]["different"][0];
    assert_eq!((&tensor["a"]["name"], &tensor["b"]["type"]), (&name.into(), &"Q8_0".into()));
    let differing = tensor["weights"]["differing"].as_u64().unwrap();
    assert!((1..=32).contains(&differing), "{tensor}");
    let text = stdout(&wick(&["inspect", &q8_0, &byte]));
    assert_eq!(text.lines().last(), Some("1 difference"));

    let other = folder.changed("other", &q8_0, |writer| {
        writer.tensor("output_norm.weight").name = b"norm\x1b[2J".into();
        let reshaped = writer.tensor("blk.0.attn_q.weight");
        let dims = reshaped.dims.clone();
        reshaped.dims = vec![dims[0], dims[1] / 2, 2];
        let typed = writer.tensor("blk.0.attn_k.weight");
        let (number, bytes) = (Format::F32.ggml(), typed.dims.iter().product::<u64>() * 4);
        (typed.number, typed.data) = (number, vec![0; bytes as usize]);
        writer.set("general.name", "Löwe\x07").set("one.more\x1b", 1.5f32);
        let tokens = writer.entries.iter_mut().find(|(key, _)| key == b"tokenizer.ggml.tokens");
        let Metadata::Array(_, tokens) = &mut tokens.unwrap().1 else { panic!("tokens") };
        (tokens[7], tokens[9]) = ("x\x1b".into(), "y".into());
    });
    let shown = json(&["inspect", &q8_0, &other]);
    let (keys, tensors) = (&shown["keys"], &shown["tensors"]);
    assert_eq!(keys["only_b"][0]["key"], "one.more\x1b");
    assert_eq!(keys["only_a"], Value::Array(vec![]));
    let tokens = &keys["different"].as_array().unwrap()[1];
    assert_eq!((&tokens["differing"], &tokens["first"]["at"]), (&2.into(), &7.into()), "{tokens}");
    assert_eq!((&tokens["first"]["b"]), r#""x\u{1b}""#);
    assert_eq!(tensors["only_a"][0]["name"], "output_norm.weight");
    assert_eq!(tensors["only_b"][0]["name"], "norm\x1b[2J");
    let different = tensors["different"].as_array().unwrap();
    let named = |name: &str| different.iter().find(|t| t["a"]["name"] == name).unwrap();
    assert_eq!(named("blk.0.attn_q.weight")["weights"], Value::Null);
    assert_eq!(named("blk.0.attn_k.weight")["weights"]["relative"], 1.0);
    assert_eq!((different.len(), &shown["differences"]), (2, &7.into()), "{shown}");
    let text = stdout(&wick(&["inspect", &q8_0, &other]));
    assert!(text.lines().all(|line| !line.contains(char::is_control)), "{text:?}");
    assert!(text.contains("2 entries differ, first 7: ") && text.ends_with("\n7 differences\n"));
    assert!(text.contains(r"key         only in b: one.more\x1b = 1.5"), "{text}");
    assert!(text.contains(r"tensor      only in b: norm\x1b[2J: F32 ["), "{text}");
}

/// The bytes of a packed file are no weights in the order of a file.
#[test]
fn packed_files_are_compared_by_their_bytes() {
    let folder = Folder::new();
    let (nano, packed) = (nano(), folder.path("packed"));
    stdout(&wick(&["pack", &nano, "-o", &packed]));
    assert_eq!(stdout(&wick(&["inspect", &packed, &packed])).lines().last(), Some("same"));
    let mut bytes = std::fs::read(&packed).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let at = gguf.tensor("blk.0.attn_q.weight").unwrap().range().unwrap().start;
    bytes[at] ^= 1;
    let damaged = folder.path("damaged");
    std::fs::write(&damaged, &bytes).unwrap();
    let shown = json(&["inspect", &packed, &damaged]);
    let tensor = &shown["tensors"]["different"][0];
    assert_eq!((&tensor["differing_bytes"], &tensor["weights"]), (&1.into(), &Value::Null));
    assert!(json(&["inspect", &nano, &packed])["differences"].as_u64().unwrap() > 10);
}

#[test]
fn comparing_is_refused_what_is_no_file_and_interrupted() {
    let nano = nano();
    fails(&wick(&["inspect", &nano, "/nowhere.gguf"]), 3, "/nowhere.gguf: No such file");
    fails(&wick(&["inspect", &nano, "@index.json"]), 3, "index.json: ");
    for more in [&["--template"][..], &["--board", "pi5"], &["--context", "5"]] {
        fails(&wick(&[&["inspect", &nano, &nano], more].concat()), 2, "cannot be used with");
    }
    let folder = Folder::new();
    let (a, b) = (folder.sparse("a", Format::Q8_0, 4096), folder.sparse("b", Format::Q4_0, 4096));
    let child = start(&["inspect", &a, &b]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
