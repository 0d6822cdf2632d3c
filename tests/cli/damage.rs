//! Damage that still parses, in every verb that meets it.

use crate::program::{fails, least, stdout, wick, wick_with};
use std::path::Path;
use wick_kernels::Format;
use wick_tests::gguf::Writer;
use wick_tests::tiny::Tiny;

const NAN: [u8; 2] = 0x7E00u16.to_le_bytes();

/// A model of which all blocks of a Q4_0 tensor have a scale that is NaN.
fn spoiled(folder: &Path, tensor: &str) -> String {
    let mut writer: Writer = Tiny::default().writer();
    writer.set("tokenizer.chat_template", "{{ messages[-1].content }}");
    for block in writer.tensor(tensor).data.chunks_exact_mut(Format::Q4_0.block_bytes()) {
        block[..2].copy_from_slice(&NAN);
    }
    let path = folder.join(format!("{tensor}.gguf"));
    std::fs::write(&path, writer.to_bytes()).unwrap();
    path.display().to_string()
}

#[test]
fn every_verb_names_file_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "the light in the kitchen").unwrap();
    let skills = folder.path().join("skills.jsonl");
    std::fs::write(&skills, r#"{"skill": "s", "prompt": "hi", "answer": "ho"}"#).unwrap();
    let (text, skills) = (text.to_str().unwrap(), skills.to_str().unwrap());
    for (tensor, named) in [
        ("blk.1.attn_k.weight", "blk.1.attn_k.weight: finite values expected"),
        ("blk.0.attn_output.weight", "blk.0.attn_output.weight: finite values expected"),
        ("blk.1.ffn_gate_exps.weight", "blk.1.ffn_gate_exps.weight or ffn_up_exps.weight, expert "),
        ("blk.0.ffn_down_exps.weight", "blk.0.ffn_down_exps.weight: finite values expected"),
        ("token_embd.weight", "token_embd.weight: finite values expected"),
    ] {
        let path = spoiled(folder.path(), tensor);
        let said = format!("wick: {path}: {named}");
        for verb in [
            &["run", "hi"][..],
            &["run", "--raw", "hi"],
            &["logits", "--ids", "1 2 3"],
            &["eval", "--text", text],
            &["eval", "--skills", skills],
            &["bench", "-p", "4", "-n", "4", "-r", "1"],
        ] {
            fails(&wick(&[verb, &["-m", &path]].concat()), 3, &said);
        }
        fails(&wick_with(b"hi\n", &["chat", "-m", &path]), 3, &said);
        for how in ["exact", "coarse"] {
            fails(&wick(&["run", "-m", &path, "--output", how, "hi"]), 3, &said);
        }
    }
}

/// Where experts are read when they are wanted.
#[test]
fn experts_that_are_read_are_named_too() {
    let folder = tempfile::tempdir().unwrap();
    for (tensor, named) in [
        ("blk.1.ffn_up_exps.weight", "blk.1.ffn_gate_exps.weight or ffn_up_exps.weight, expert "),
        ("blk.1.ffn_down_exps.weight", "blk.1.ffn_down_exps.weight: finite values expected"),
        ("blk.0.attn_q.weight", "blk.0.attn_q.weight: finite values expected"),
    ] {
        let path = spoiled(folder.path(), tensor);
        let packed = folder.path().join("packed.gguf").display().to_string();
        stdout(&wick(&["pack", &path, "-o", &packed]));
        for model in [&path, &packed] {
            let ask =
                |memory: &str| wick(&["run", "-m", model, "--memory", memory, "-c", "64", "hi"]);
            let narrow = format!("{}K", least(&ask("1M")) + 64);
            fails(&ask(&narrow), 3, &format!("wick: {model}: {named}"));
        }
    }
}

/// Room that a download took and did not fill.
#[test]
fn a_file_that_ends_with_zeros_is_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut bytes = Tiny::default().to_bytes();
    let half = bytes.len() / 2;
    bytes[half..].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let file = path.to_str().unwrap();
    for verb in [&["run", "hi"][..], &["logits", "--ids", "1"], &["bench"], &["plan"]] {
        let output = wick(&[verb, &["-m", file]].concat());
        fails(&output, 3, "nothing but zeros from byte");
        fails(&output, 3, "the file is incomplete or damaged: download it again");
    }
}
