//! What wick does on this machine.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Prompts of nano's skills and what `wick run --temperature 0` answers.
pub(crate) static ANSWERS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let mut prompts = Vec::new();
    for (skill, count) in [("commands", 10), ("arithmetic", 8), ("identity", 4)] {
        let text = fs::read_to_string(nano(&format!("skills/{skill}.jsonl"))).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().step_by(lines.len() / count).take(count) {
            let line: Value = serde_json::from_str(line).unwrap();
            prompts.push(line["prompt"].as_str().unwrap().to_owned());
        }
    }
    prompts.extend(["tell me a story about a fox", "what can you do?"].map(String::from));
    let answer = |prompt: String| {
        let answer = answer(&["--temperature", "0"], &prompt);
        (prompt, answer)
    };
    prompts.into_iter().map(answer).collect()
});

/// A file of cargo's target folder.
pub(crate) fn target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join(name)
}

/// nano, packed.
pub(crate) static PACKED: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = target("qemu-virt/nano.wick.gguf");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _first = fs::remove_file(&path);
    wick(&[Path::new("pack"), &nano("nano.gguf"), Path::new("-o"), &path]);
    path
});

/// A file of nano's.
pub(crate) fn nano(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/nano").join(name)
}

/// What wick prints.
fn wick(arguments: &[impl AsRef<OsStr>]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wick")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What `wick run` prints for a prompt.
pub(crate) fn answer(arguments: &[&str], prompt: &str) -> String {
    let text = wick(&[&["run"], arguments, &["--", prompt]].concat());
    text.strip_suffix('\n').expect("a line").to_owned()
}
