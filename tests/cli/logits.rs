//! `wick logits`.

use crate::program::{fails, model, stdout, wick};
use serde_json::Value;
use wick_tests::tiny::Tiny;

#[test]
fn logits_are_written_in_full_or_in_short() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("logits.f32");
    let (model, path) = (model("f32-sigmoid-tied.gguf"), out.to_str().unwrap());
    // 40 tokens are more than one batch.
    let ids: Vec<String> = (0..40).map(|i| (i * 7 % 307).to_string()).collect();
    let full = wick(&["logits", "-m", &model, "--ids", &ids.join(" "), "--out", path]);
    assert!(stdout(&full).is_empty());
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(bytes.len(), 40 * 307 * 4);
    let floats: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();

    let short = stdout(&wick(&["logits", "-m", &model, "--ids", &ids.join(",")]));
    let lines: Vec<Value> = short.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 40);
    for (i, (line, row)) in lines.iter().zip(floats.chunks(307)).enumerate() {
        assert_eq!((line["position"].as_u64(), &line["id"].to_string()), (Some(i as u64), &ids[i]));
        let top = line["top"].as_array().unwrap();
        assert_eq!(top.len(), 5);
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(top[0]["logit"].as_f64().unwrap() as f32, largest);
        assert_eq!(row[top[0]["id"].as_u64().unwrap() as usize], largest);
    }
}

#[test]
fn keys_and_values_are_kept_as_asked() {
    let logits = |kv: &[&str]| stdout(&wick(&[&["logits", "--ids", "1 2 3 4 5"], kv].concat()));
    assert_eq!(logits(&["--kv", "f16"]), logits(&[]));
    assert_ne!(logits(&["--kv", "q8_0"]), logits(&[]));
}

#[test]
fn numbers_need_no_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mute.gguf");
    let mut writer = Tiny::default().writer();
    for key in ["model", "pre", "tokens", "token_type", "merges", "eos_token_id", "add_bos_token"] {
        writer.remove(&format!("tokenizer.ggml.{key}"));
    }
    std::fs::write(&path, writer.to_bytes()).unwrap();
    let path = path.to_str().unwrap();
    let line: Value =
        serde_json::from_str(&stdout(&wick(&["logits", "-m", path, "--ids", "7"]))).unwrap();
    assert!(line["top"][0]["logit"].is_f64() && line["top"][0].get("text").is_none());
    assert!(stdout(&wick(&["inspect", path])).contains("tokenizer   none"));
    fails(&wick(&["run", "-m", path, "hi"]), 3, "tokenizer.ggml.tokens");
}
