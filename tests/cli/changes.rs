//! Model files that change while they are in use: no other text, no signal, but exit code 3 and the file's name.

use crate::program::{Q8_0, fails, golden, least, nano, start, stdout, wick};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Output};

/// What somebody does to a model's file.
type Change = fn(&Path);

/// What makes it another file's bytes, or none.
const CHANGES: [(&str, Change); 4] = [
    ("emptied", |path| open(path).set_len(0).unwrap()),
    ("cut short", |path| {
        let file = open(path);
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }),
    ("written over", |path| {
        let bytes = vec![0x55; fs::metadata(path).unwrap().len() as usize];
        open(path).write_all(&bytes).unwrap();
    }),
    // As `cp` does.
    ("copied over", |path| _ = fs::copy(golden("window8.gguf"), path).unwrap()),
];

fn open(path: &Path) -> fs::File {
    OpenOptions::new().write(true).open(path).unwrap()
}

/// A copy of a model that may be changed.
fn copied(folder: &Path, from: &Path) -> PathBuf {
    let path = folder.join("model.gguf");
    fs::copy(from, &path).unwrap();
    path
}

/// Checks that the process ended because the file is not what it was.
fn ended(output: &Output, path: &Path, how: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{how}: {:?} {err}", output.status);
    let line = err.lines().last().unwrap_or_default();
    let name = path.to_str().unwrap();
    assert!(line.starts_with(&format!("wick: {name}: ")), "{how}: {err}");
    assert!(line.contains("changed") || line.contains("error 5"), "{how}: {err}");
    assert!(!err.contains("panicked"), "{how}: {err}");
}

/// Asks a chat, and reads its answer.
fn ask(child: &mut Child, answers: &mut impl BufRead, message: &str) -> String {
    writeln!(child.stdin.as_mut().unwrap(), "{message}").unwrap();
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    // The empty line behind it.
    answers.read_line(&mut String::new()).unwrap();
    line
}

/// nano as it is, packed, and with a memory in which its experts are read when they are wanted.
fn settings(folder: &Path) -> Vec<(PathBuf, Vec<String>)> {
    let (nano, packed) = (PathBuf::from(nano()), folder.join("packed.gguf"));
    stdout(&wick(&["pack", nano.to_str().unwrap(), "-o", packed.to_str().unwrap()]));
    let refused =
        wick(&["run", "-m", packed.to_str().unwrap(), "--memory", "1M", "--context", "512", "hi"]);
    let memory = format!("{}K", least(&refused) + 1024);
    let narrow = ["--memory", &memory, "--context", "512"].map(String::from);
    vec![(nano, vec![]), (packed.clone(), vec![]), (packed, narrow.into())]
}

#[test]
fn a_model_that_changes_while_a_chat_waits_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    for (from, more) in settings(folder.path()) {
        for (how, change) in CHANGES {
            let path = copied(folder.path(), &from);
            let mut arguments = vec!["chat", "-m", path.to_str().unwrap(), "--temperature", "0"];
            arguments.extend(more.iter().map(String::as_str));
            let mut child = start(&arguments);
            let mut answers = BufReader::new(child.stdout.take().unwrap());
            assert_eq!(
                ask(&mut child, &mut answers, "turn on the light"),
                "In which room is the light?\n"
            );
            change(&path);
            assert_eq!(ask(&mut child, &mut answers, "the kitchen").trim_end(), "", "{how}");
            ended(&child.wait_with_output().unwrap(), &path, how);
        }
    }
}

/// Whoever has a file open has it whole, when another one takes its name.
#[test]
fn a_model_that_is_replaced_or_deleted_is_used_on() {
    let folder = tempfile::tempdir().unwrap();
    for (from, more) in settings(folder.path()) {
        let path = copied(folder.path(), &from);
        let mut arguments = vec!["chat", "-m", path.to_str().unwrap(), "--temperature", "0"];
        arguments.extend(more.iter().map(String::as_str));
        let mut child = start(&arguments);
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        ask(&mut child, &mut answers, "turn on the light");
        let other = folder.path().join("other.gguf");
        fs::copy(golden(Q8_0), &other).unwrap();
        fs::rename(&other, &path).unwrap();
        let answer = r#"{"device":"light","room":"kitchen","action":"on"}"#;
        assert_eq!(ask(&mut child, &mut answers, "the kitchen"), format!("{answer}\n"));
        fs::remove_file(&path).unwrap();
        ask(&mut child, &mut answers, "turn on the light");
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_model_that_changes_while_a_text_is_written_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    for name in [Q8_0, "q4_0-tied.gguf", "q4_k_m.gguf", "legacy-mix.gguf"] {
        for (how, change) in CHANGES {
            let path = copied(folder.path(), &golden(name));
            let file = path.to_str().unwrap();
            let endless =
                ["-n", "20000", "--context", "20100", "--temperature", "0", "--raw", "light"];
            let mut child = start(&[&["run", "-m", file][..], &endless].concat());
            let mut first = [0; 1];
            child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
            change(&path);
            ended(&child.wait_with_output().unwrap(), &path, &format!("{name} {how}"));
        }
    }
}

/// Verbs that take no steps, or many at a time.
#[test]
fn a_model_that_changes_under_any_verb_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    stdout(&wick(&["synth", "--shape", "tiny,layers=4", "--no-run", "-o", path.to_str().unwrap()]));
    let good = fs::read(&path).unwrap();
    let file = path.to_str().unwrap();
    let out = folder.path().join("out.gguf");
    let ids = "1 2 3 4 5 6 7 8 ".repeat(400);
    let text = folder.path().join("text.txt");
    fs::write(&text, "the light in the kitchen ".repeat(2000)).unwrap();
    let (out, text) = (out.to_str().unwrap(), text.to_str().unwrap());
    for verb in [
        &["logits", "-m", file, "--ids", &ids][..],
        &["eval", "-m", file, "--text", text],
        &["bench", "-m", file],
        &["pack", file, "-o", out],
        &["inspect", file],
        &["tokenize", file],
        &["plan", "-m", file],
    ] {
        for (how, change) in CHANGES {
            for wait in [0, 3, 10, 30] {
                fs::write(&path, &good).unwrap();
                let mut child = start(verb);
                drop(child.stdin.take());
                std::thread::sleep(std::time::Duration::from_millis(wait));
                change(&path);
                let output = child.wait_with_output().unwrap();
                let err = String::from_utf8_lossy(&output.stderr);
                // Whoever was done before, or began after, has its own answer.
                let code = output.status.code();
                assert!(matches!(code, Some(0 | 3)), "{verb:?} {how} {:?} {err}", output.status);
            }
        }
    }
}

#[test]
fn what_is_no_model_any_more_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = copied(folder.path(), &golden(Q8_0));
    open(&path).set_len(0).unwrap();
    fails(&wick(&["run", "-m", path.to_str().unwrap(), "hi"]), 3, "the file is empty");
}
