//! `wick eval`: perplexity, and the skills of nano.

use crate::program::{fails, golden, model, stdout, wick, wick_with};
use serde_json::Value;

#[test]
fn perplexity_is_that_of_the_logits() {
    let folder = tempfile::tempdir().unwrap();
    let (text, out) = (folder.path().join("text"), folder.path().join("logits"));
    std::fs::write(&text, "the lamp in the hall is on, the lamp in the kitchen is off").unwrap();
    let (text, out) = (text.to_str().unwrap(), out.to_str().unwrap());
    let model = model("f16-softmax-untied.gguf");
    let eval = ["eval", "-m", &model, "--text", text, "--context", "20", "--json"];
    let found: Value = serde_json::from_str(&stdout(&wick(&eval))).unwrap();

    let ids = stdout(&wick_with(&std::fs::read(text).unwrap(), &["tokenize", "-m", &model]));
    let ids: Vec<&str> = ids.split_whitespace().collect();
    let mut losses = Vec::new();
    for window in ids.chunks_exact(20) {
        stdout(&wick(&["logits", "-m", &model, "--ids", &window.join(" "), "--out", out]));
        let bytes = std::fs::read(out).unwrap();
        let logits: Vec<f64> =
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect();
        for (at, row) in logits.chunks(320).enumerate().take(19).skip(10) {
            let next: usize = window[at + 1].parse().unwrap();
            losses.push(row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[next]);
        }
    }
    let expected = (losses.iter().sum::<f64>() / losses.len() as f64).exp();
    let perplexity = found["perplexity"].as_f64().unwrap();
    assert!((perplexity / expected - 1.0).abs() < 1e-4, "{expected} expected, {perplexity} found");
    assert_eq!(found["scored"].as_u64(), Some(losses.len() as u64));
}

#[test]
fn skills_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (model, path, wrong) =
        (model("q4_0-tied.gguf"), folder.path().join("questions"), "x".into());
    let greedy = ["run", "-m", &model, "--temperature", "0", "-n", "5", "what?"];
    let answer = stdout(&wick(&greedy));
    let line =
        |skill, answer| serde_json::json!({"skill": skill, "prompt": "what?", "answer": answer});
    let message = serde_json::json!([{"role": "user", "content": "what?"}]);
    let longer = serde_json::json!({"skill": "b", "messages": message, "answer": answer.trim()});
    let lines = format!("{}\n\n{}\n{longer}\n", line("a", &answer), line("b", &wrong));
    std::fs::write(&path, lines).unwrap();
    let eval = ["eval", "-m", &model, "-n", "5", "--json", "--skills", path.to_str().unwrap()];
    let found: Value = serde_json::from_str(&stdout(&wick(&eval))).unwrap();
    let expected = serde_json::json!({"a": {"right": 1, "of": 1}, "b": {"right": 1, "of": 2}});
    assert_eq!(found, expected);

    // One that does not fit is named, and the others are asked.
    let long = serde_json::json!({"skill": "b", "prompt": "what ".repeat(300), "answer": ""});
    std::fs::write(&path, format!("{}\n\n{long}\n{longer}\n", line("a", &answer))).unwrap();
    let output = wick(&[&eval[..], &["--context", "200"]].concat());
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let expected = serde_json::json!({
        "a": {"right": 1, "of": 1},
        "b": {"right": 1, "of": 1, "left_out": 1}
    });
    assert_eq!(found, expected);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.contains("questions, line 3: ") && err.contains("the context 200"), "{err}");
}

/// What is wrong is said before anything is asked, with the line of the file and nothing of ours.
#[test]
fn questions_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("questions");
    let eval = ["eval", "--json", "--skills", path.to_str().unwrap()];
    let right = r#"{"skill": "sums", "prompt": "what is 2 plus 3?", "answer": "2 + 3 = 5."}"#;
    for (wrong, error) in [
        (r#"{"skill": "a", "answer": "b"}"#, r#"either "prompt" or "messages" expected"#),
        (
            r#"{"skill": "a", "answer": "b", "prompt": "c", "messages": []}"#,
            r#"either "prompt" or "messages" expected"#,
        ),
        (r#"{"skill": 1, "answer": "b", "prompt": "c"}"#, r#""skill": a text expected"#),
        (r#"{"skill": "a", "prompt": "c"}"#, r#""answer" expected"#),
        (
            r#"{"skill": "a", "answer": "b", "messages": [["user", "c"]]}"#,
            r#""messages": a list of {"role": …, "content": …} expected"#,
        ),
        (r#"["a", "b", "c"]"#, "an object expected"),
        ("null", "an object expected"),
        (r#"{"skill": "a", "#, "EOF while parsing a value at column 15"),
        ("{} {}", "trailing characters at column 4"),
    ] {
        std::fs::write(&path, format!("{right}\n\n{wrong}\n")).unwrap();
        let output = wick(&eval);
        fails(&output, 5, &format!("questions, line 3: {error}\n"));
    }
    for empty in ["", "\n \n", "\u{feff}"] {
        std::fs::write(&path, empty).unwrap();
        fails(&wick(&eval), 5, "questions: no question is in it");
    }
    std::fs::write(&path, b"\xff").unwrap();
    fails(&wick(&eval), 5, "questions: UTF-8 expected, byte 0 is not");
    let expected = "{\"sums\":{\"right\":1,\"of\":1}}\n";
    std::fs::write(&path, format!("\u{feff}{right}\r\n")).unwrap();
    assert_eq!(stdout(&wick(&eval)), expected);
    let eval = ["eval", "--json", "--skills", "-"];
    assert_eq!(stdout(&wick_with(right.as_bytes(), &eval)), expected);
    fails(&wick_with(b"[]", &eval), 5, "stdin, line 1: an object expected");
    let text = ["eval", "--json", "--text", "-"];
    assert!(stdout(&wick_with(&b"turn on the light. ".repeat(9), &text)).contains("perplexity"));
}

/// The aims that `tests/models/nano/README.md` states, on every third or sixth of the held-out
/// questions; all of them would take minutes.
#[test]
fn nano_reaches_its_aims() {
    let folder = tempfile::tempdir().unwrap();
    let skills = golden("../models/nano/skills");
    for (skill, stride, percent) in [("commands", 3, 95), ("arithmetic", 3, 90), ("recall", 6, 95)]
    {
        let all = std::fs::read_to_string(skills.join(format!("{skill}.jsonl"))).unwrap();
        let some: Vec<&str> = all.lines().step_by(stride).collect();
        let path = folder.path().join(skill);
        std::fs::write(&path, some.join("\n")).unwrap();
        let eval = ["eval", "--json", "--skills", path.to_str().unwrap()];
        let found: Value = serde_json::from_str(&stdout(&wick(&eval))).unwrap();
        println!("{found}");
        let count = |name| found[skill][name].as_u64().unwrap();
        assert_eq!(count("of"), some.len() as u64);
        assert!(
            100 * count("right") >= percent * count("of"),
            "{percent} % expected, {found} found"
        );
    }
}
