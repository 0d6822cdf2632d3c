//! Files that are no models for wick: what is said of them, and what `wick inspect` still shows.

use crate::program::{fails, stdout, wick, wick_with};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use wick_kernels::Format;
use wick_tests::gguf::Writer;
use wick_tests::tiny::Tiny;

/// A small model, changed and written.
fn changed(folder: &Path, name: &str, change: impl FnOnce(&mut Writer)) -> PathBuf {
    let mut writer = Tiny::default().writer();
    change(&mut writer);
    let path = folder.join(name);
    std::fs::write(&path, writer.to_bytes()).unwrap();
    path
}

fn inspected(path: &Path) -> Value {
    serde_json::from_str(&stdout(&wick(&["inspect", path.to_str().unwrap(), "--json"]))).unwrap()
}

/// A pipe that nobody writes to would hang whoever opens it.
#[test]
fn what_is_no_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let [fifo, socket] = ["fifo", "socket"].map(|name| folder.path().join(name));
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = UnixListener::bind(&socket).unwrap();
    let kinds = [
        (fifo.to_str().unwrap(), "a pipe found"),
        (socket.to_str().unwrap(), "a socket found"),
        (folder.path().to_str().unwrap(), "a directory found"),
        ("/dev/zero", "a character device found"),
    ];
    for (path, found) in kinds {
        for verb in [
            &["run", "hi"][..],
            &["chat"],
            &["inspect"],
            &["tokenize"],
            &["detokenize"],
            &["logits", "--ids", "1"],
            &["eval", "--text", "/dev/null"],
            &["bench"],
            &["plan"],
        ] {
            fails(&wick(&[verb, &["-m", path]].concat()), 3, found);
        }
        fails(&wick(&["pack", path, "-o", "/nowhere/x"]), 3, found);
        fails(&wick(&["pack", "--verify", path]), 3, found);
        fails(&wick(&["unpack", path, "-o", "/nowhere/x"]), 3, found);
    }
}

#[test]
fn what_is_taken_for_a_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (bytes, said) in [
        (&b"version https://git-lfs.github.com/spec/v1\n"[..], "a Git LFS pointer"),
        (b"<!doctype html>\n<html>", "a web page"),
        (b"\x08\0\0\0\0\0\0\0{\"a\": {}", "a safetensors file"),
        (b"", "the file is empty: download it again"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        fails(&wick(&["run", "-m", path.to_str().unwrap(), "hi"]), 3, said);
    }
}

#[test]
fn a_model_that_wick_cannot_run_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let llama = changed(at, "llama", |w| _ = w.set("general.architecture", "llama"));
    let iq4 = changed(at, "iq4", |w| w.tensor("blk.0.attn_q.weight").number = 20);
    let bias = changed(at, "bias", |w| {
        w.add("blk.1.attn_v.bias", Format::F32, &[32], vec![0; 128]);
    });
    for (path, architecture, refusal) in [
        (&llama, "llama", "\"smallthinker\" expected, \"llama\" found"),
        (&iq4, "smallthinker", "blk.0.attn_q.weight: IQ4_NL is not supported"),
        (&bias, "smallthinker", "blk.1.attn_v.bias: a bias"),
    ] {
        fails(&wick(&["run", "-m", path.to_str().unwrap(), "hi"]), 3, refusal);
        let json = inspected(path);
        assert_eq!(json["architecture"], architecture);
        assert!(json["refusal"].as_str().unwrap().contains(refusal), "{json}");
        assert_eq!((&json["shape"], &json["memory"]), (&Value::Null, &Value::Null));
        assert!(json["parameters"].as_u64().unwrap() > 100_000);
        assert_eq!(json["tokenizer"]["entries"], 288);
        let text = stdout(&wick(&["inspect", path.to_str().unwrap()]));
        assert!(text.contains("cannot run  ") && !text.contains("runs with"), "{text}");
    }
    let types = &inspected(&iq4)["types"];
    assert_eq!(types["IQ4_NL"]["bytes"], 96 * 64 / 32 * 18);
    let good = changed(at, "good", |_| ());
    assert_eq!(inspected(&good)["refusal"], Value::Null);
}

#[test]
fn special_ids_that_nothing_uses_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = changed(folder.path(), "model", |w| {
        w.set("tokenizer.ggml.bos_token_id", 99_999u32);
    });
    let output = wick_with(b"hi", &["tokenize", "-m", path.to_str().unwrap()]);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stdout(&output).trim().is_empty());
    assert!(
        err.contains("tokenizer.ggml.bos_token_id is 99999, but there are 288 tokens"),
        "{err}"
    );
    let path = changed(folder.path(), "model", |w| {
        w.set("tokenizer.ggml.bos_token_id", 99_999u32);
        w.set("tokenizer.ggml.add_bos_token", true);
    });
    let refused = wick_with(b"hi", &["tokenize", "-m", path.to_str().unwrap()]);
    fails(&refused, 3, "bos token id: below 288 expected, 99999 found");
}
