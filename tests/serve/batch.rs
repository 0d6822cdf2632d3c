//! Requests from a file.

use crate::client::{Service, damage, few, is_emulated, little_memory, packed, until, wick};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn ask(name: &str, url: &str, body: Value) -> Value {
    json!({"custom_id": name, "method": "POST", "url": url, "body": body})
}

/// Requests of all kinds, one of which is refused.
fn requests() -> Vec<Value> {
    let chat = |i: usize| {
        let messages = json!([{"role": "user", "content": format!("what is {i} plus 3?")}]);
        let body = json!({"messages": messages, "seed": i, "temperature": 1.5, "max_tokens": 20});
        ask(&format!("chat {i}"), "/v1/chat/completions", body)
    };
    let embed = ask("vector", "/v1/embeddings", json!({"input": ["a", "b"]}));
    let text = ask("text", "/v1/completions", json!({"prompt": "abc", "max_tokens": 3, "seed": 1}));
    let response = ask("response", "/v1/responses", json!({"input": "hi", "temperature": 0}));
    let wrong = ask("wrong", "/v1/completions", json!({"prompt": "a", "temperature": -1}));
    (0..12).map(chat).chain([embed, text, response, wrong]).collect()
}

fn write(path: &Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap();
}

/// Answers by name; each has one.
fn read(path: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut answers = BTreeMap::new();
    for line in lines {
        let name = line["custom_id"].as_str().unwrap().to_owned();
        assert!(answers.insert(name, line).is_none(), "{text}");
    }
    answers
}

struct Files {
    _folder: tempfile::TempDir,
    input: PathBuf,
    out: PathBuf,
}

fn files(lines: &[Value]) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in"), folder.path().join("out"));
    write(&input, lines);
    Files { _folder: folder, input, out }
}

impl Files {
    fn command(&self) -> Command {
        let mut command = wick();
        command.arg("batch").arg(&self.input).arg("-o").arg(&self.out).stdin(Stdio::null());
        command
    }

    fn run(&self) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = self.command().output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    }
}

/// What is the same each time in an answer: all but names, times and what was in the cache.
fn plain(mut body: Value) -> Value {
    for key in ["id", "created", "created_at", "usage"] {
        body.as_object_mut().unwrap().remove(key);
    }
    for item in body["output"].as_array_mut().into_iter().flatten() {
        item["id"] = Value::Null;
    }
    body
}

#[test]
fn a_batch_is_answered_as_the_service_answers() {
    let (files, service) = (files(&requests()), Service::start(&[]));
    let Output { status, stderr, .. } =
        files.command().args(["--threads", "4096"]).output().unwrap();
    let (code, said) = (status.code(), String::from_utf8(stderr).unwrap());
    assert!(code == Some(0) && said.contains("16 answered in "), "{said}");
    assert_eq!(said.matches("--threads 4096").count(), 1, "{said}");
    assert!(said.contains("1 of them with an error"), "{said}");
    let answers = read(&files.out);
    assert_eq!(answers.len(), requests().len());
    for request in requests() {
        let answer = &answers[request["custom_id"].as_str().unwrap()];
        let served = service.post(request["url"].as_str().unwrap(), &request["body"]);
        assert_eq!(
            (&answer["response"]["status_code"], &answer["error"]),
            (&served.status.into(), &Value::Null)
        );
        let expected: Value = serde_json::from_str(&served.body).unwrap();
        assert_eq!(plain(answer["response"]["body"].clone()), plain(expected));
    }
    // All are answered: the same command does nothing.
    let before = std::fs::read(&files.out).unwrap();
    let (code, said) = files.run();
    assert!(code == Some(0) && said.contains("all 16 are answered"), "{said}");
    assert_eq!(std::fs::read(&files.out).unwrap(), before);
}

/// Killed again and again, it goes on and comes to the same.
#[test]
fn a_batch_goes_on_after_a_kill() {
    let long = |i: usize| {
        let ends = json!({"2045": -100, "2047": -100});
        let tokens = few(100, 30);
        let body = json!({"prompt": "a b c", "max_tokens": tokens, "seed": i, "logit_bias": ends});
        ask(&format!("{i}"), "/v1/completions", body)
    };
    let lines: Vec<Value> = (0..30).map(long).collect();
    let whole = files(&lines);
    assert_eq!(whole.run().0, Some(0));
    let files = files(&lines);
    let count = || {
        std::fs::read(&files.out).map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count())
    };
    for (least, signal) in [(1, Signal::INT), (9, Signal::KILL)] {
        let mut child = files.command().stderr(Stdio::null()).spawn().unwrap();
        until("some are answered", || count() >= least);
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
    }
    let before = count();
    // A line that was not written to its end.
    let mut bytes = std::fs::read(&files.out).unwrap();
    bytes.extend(b"{\"custom_id\":\"29\",\"err");
    std::fs::write(&files.out, bytes).unwrap();
    let (code, said) = files.run();
    assert!(code == Some(0), "{said}");
    if before < 30 {
        assert!(said.contains(&format!("{before} before")), "{said}");
    }
    let texts = |path: &Path| {
        let answers = read(path).into_iter();
        answers
            .map(|(name, line)| (name, plain(line["response"]["body"].clone())))
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(&files.out), texts(&whole.out));
}

/// What fails is told and left for the next time.
#[test]
fn what_cannot_be_read_is_left_for_the_next_time() {
    if is_emulated() {
        // What an emulator takes of the budget is another amount each time: now all experts have room.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let model = packed(folder.path());
    let whole = damage(&model);
    let memory = little_memory(&model);
    let line = ask("a", "/v1/completions", json!({"prompt": "a b c", "max_tokens": 9}));
    let files = files(&[line]);
    let run = || {
        let mut command = files.command();
        command.args(["--parallel", "2", "--memory", &memory, "-m", &model]);
        let Output { status, stderr, .. } = command.output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    };
    let (code, said) = run();
    assert!(code == Some(1) && said.contains("1 requests failed"), "{said}");
    assert!(said.contains("packed.gguf: blk."), "{said}");
    assert_eq!(std::fs::read_to_string(&files.out).unwrap(), "");
    std::fs::write(&model, whole).unwrap();
    assert_eq!(run().0, Some(0));
    assert_eq!(read(&files.out)["a"]["response"]["status_code"], 200);
}

#[test]
fn what_is_no_batch_is_refused_before_anything_is_answered() {
    let line = &requests()[0];
    let twice = files(&[line.clone(), line.clone()]);
    let (code, said) = twice.run();
    assert!(code == Some(5) && said.contains("line 2: line 1 has the custom_id"), "{said}");
    assert!(!twice.out.exists());
    let mut other = line.clone();
    other["url"] = "/v1/models".into();
    let (code, said) = files(&[line.clone(), other]).run();
    assert!(code == Some(5) && said.contains("line 2: url: one of"), "{said}");
    // The input is no output, though its last line looks as if it had been cut off.
    let files = files(std::slice::from_ref(line));
    let asked = line.to_string();
    std::fs::write(&files.input, &asked).unwrap();
    std::fs::hard_link(&files.input, &files.out).unwrap();
    let (code, said) = files.run();
    assert!(code == Some(2) && said.contains("name another one"), "{said}");
    assert_eq!(std::fs::read_to_string(&files.input).unwrap(), asked);
    std::fs::remove_file(&files.out).unwrap();
    std::fs::write(&files.out, "my notes\n").unwrap();
    let (code, said) = files.run();
    assert!(code == Some(2) && said.contains("line 1 answers no request"), "{said}");
    assert_eq!(std::fs::read_to_string(&files.out).unwrap(), "my notes\n");
    // Nor is a pipe, which nobody can go on with, and reading which would have no end.
    for out in ["/dev/stdout", "-"] {
        let input = files.input.to_str().unwrap();
        let output = wick().args(["batch", input, "-o", out]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains("a file expected"), "{said}");
    }
}
