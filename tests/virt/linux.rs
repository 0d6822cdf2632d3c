//! What wick answers on this machine.

use crate::machine::target;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// Prompts of nano's skills and what `wick run --temperature 0` answers.
pub(crate) static ANSWERS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let mut prompts = Vec::new();
    for (skill, count) in [("commands", 10), ("arithmetic", 8), ("identity", 4)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/nano/skills");
        let text = fs::read_to_string(path.join(format!("{skill}.jsonl"))).unwrap();
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

/// What `wick run` prints for a prompt.
pub(crate) fn answer(arguments: &[&str], prompt: &str) -> String {
    let mut wick = Command::new(target("debug/wick"));
    let output = wick.arg("run").args(arguments).arg("--").arg(prompt).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.strip_suffix('\n').expect("a line").to_owned()
}
