//! Models within `--memory`: experts that are read when they are wanted.

use crate::program::{fails, least, nano, stdout, wick};
use wick_core::Config;
use wick_tests::tiny::Tiny;

#[test]
fn a_model_answers_the_same_within_any_memory() {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("nano.wick.gguf").display().to_string();
    let nano = nano();
    stdout(&wick(&["pack", &nano, "-o", &packed]));
    let ask = |model: &str, more: &[&str]| {
        let question = "remember: the code is 4711. set a timer for 5 minutes";
        let mut arguments = vec!["run", "-m", model, "--temperature", "0", question];
        arguments.extend(more);
        wick(&arguments)
    };
    let expected = stdout(&ask(&nano, &[]));
    for model in [&nano, &packed] {
        let least = least(&ask(model, &["--memory", "1M"]));
        // What the process has taken already differs a little from run to run.
        for more in [256, 1024, 2048] {
            let memory = format!("{}K", least + more);
            let output = ask(model, &["-v", "--memory", &memory]);
            assert_eq!(stdout(&output), expected, "{memory}");
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(err.contains(" in a slot when wanted"), "{memory}: {err}");
        }
        let memory = format!("{}K", least + 1024);
        for depth in ["1", "3"] {
            let output = ask(model, &["--memory", &memory, "--depth", depth]);
            assert_eq!(stdout(&output), expected, "{depth} reads at once");
        }
        let output = ask(model, &["-v", "--memory", "1G"]);
        assert_eq!(stdout(&output), expected);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("in a slot"));
    }
}

#[test]
fn too_little_memory_is_said_with_numbers() {
    // 16 M positions of 64 KV heads take 512 GiB.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.gguf");
    let config = Config { heads: 64, kv_heads: 64, head: 64, ..Tiny::default().config };
    std::fs::write(&path, Tiny { config, ..Tiny::default() }.to_bytes()).unwrap();
    let arguments = ["run", "-m", path.to_str().unwrap(), "--context", "16777216", "hi"];
    fails(&wick(&arguments), 4, "for a context of 16777216 524");
    let arguments = ["bench", "-m", path.to_str().unwrap(), "-p", "16777215", "-n", "1"];
    fails(&wick(&arguments), 4, "for a context of 16777216 524");
}

#[test]
fn a_damaged_expert_ends_an_answer_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("nano.wick.gguf").display().to_string();
    stdout(&wick(&["pack", &nano(), "-o", &packed]));
    let within = |memory: &str| {
        wick(&["run", "-m", &packed, "--memory", memory, "--temperature", "0", "hello"])
    };
    let memory = format!("{}K", least(&within("1M")) + 512);
    let ask = || within(&memory);
    stdout(&ask());
    // The last layers' experts are at the end of the file: a bit in each of their blocks.
    let mut bytes = std::fs::read(&packed).unwrap();
    let len = bytes.len();
    (1..=16 * 15).for_each(|block| bytes[len - block * 4096 + 100] ^= 4);
    std::fs::write(&packed, &bytes).unwrap();
    let output = ask();
    fails(&output, 3, "the file is damaged");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains(&packed) && err.contains(": blk.") && err.contains("expert "), "{err}");
}
