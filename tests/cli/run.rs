//! `wick run`: text from a prompt, and how it ends.

use crate::program::{
    Q8_0, fails, golden, interrupt, model, start, start_with, stdout, wick, wick_with,
};
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

#[test]
fn the_same_seed_gives_the_same_text() {
    let text = |threads, seed| {
        let model = model(Q8_0);
        let arguments = [
            "run",
            "-m",
            &model,
            "-n",
            "30",
            "--threads",
            threads,
            "--seed",
            seed,
            "--temperature",
            "1.5",
        ];
        stdout(&wick(&[&arguments[..], &["hello"]].concat()))
    };
    assert_eq!(text("1", "5"), text("2", "5"));
    assert_ne!(text("1", "5"), text("1", "6"));
}

#[test]
fn a_prompt_comes_from_stdin_too() {
    let model = model("q4_0-tied.gguf");
    let greedy = ["run", "-m", &model, "-n", "12", "--temperature", "0"];
    let given = stdout(&wick(&[&greedy[..], &["a lamp"]].concat()));
    assert_eq!(stdout(&wick_with(b"a lamp", &greedy)), given);
    assert_eq!(stdout(&wick_with(b"a lamp\r\n", &greedy)), given, "a file's last line break");
    assert_eq!(stdout(&wick_with(b"a lamp", &[&greedy[..], &["-"]].concat())), given);
    let raw = stdout(&wick(&[&greedy[..], &["--raw", "a lamp"]].concat()));
    assert_ne!(raw, given, "the chat template makes a difference");
    // An empty text begins after an end of text.
    stdout(&wick_with(b"", &[&greedy[..], &["--raw"]].concat()));
}

#[test]
fn without_a_file_nano_answers() {
    let said = stdout(&wick(&["run", "--temperature", "0", "dim the kitchen light to 40 percent"]));
    let expected = r#"{"device":"light","room":"kitchen","action":"set","level":40}"#;
    assert_eq!(said.trim_end(), expected);
    assert!(stdout(&wick(&["inspect"])).starts_with("file        nano, built in"));
}

#[test]
fn figures_go_to_stderr_on_request() {
    let model = model(Q8_0);
    let output = wick(&["run", "-v", "-m", &model, "-n", "3", "--raw", "abc"]);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    for figure in ["prefill: ", "decode:  2 tokens", "drawn:   3 tokens", "MiB resident"] {
        assert!(err.contains(figure), "{figure:?} in {err}");
    }
    let quiet = wick(&["run", "-m", &model, "-n", "3", "--raw", "abc"]);
    assert!(stdout(&quiet).ends_with('\n'));
    let limit = "wick: the answer was ended after 3 tokens (--tokens)\n";
    assert_eq!(String::from_utf8_lossy(&quiet.stderr), limit);
}

#[test]
fn a_model_that_ends_short_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.gguf");
    let bytes = std::fs::read(golden(Q8_0)).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1000]).unwrap();
    let output = wick(&["run", "-m", path.to_str().unwrap(), "hi"]);
    fails(&output, 3, "short.gguf: ");
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let path = golden(Q8_0);
    let arguments = ["run", "-m", path.to_str().unwrap(), "-n", "4000", "--raw", "abc"];
    let mut child = start_with(Stdio::null(), &arguments);
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// The likeliest text of this model goes round in circles and never ends by itself.
#[test]
fn ctrl_c_ends_cleanly() {
    let path = golden(Q8_0);
    let arguments = [
        "run",
        "-v",
        "-m",
        path.to_str().unwrap(),
        "--temperature",
        "0",
        "-n",
        "100000000",
        "--context",
        "8000000",
        "--raw",
        "abc",
    ];
    let mut child = start(&arguments);
    drop(child.stdin.take());
    let mut text = vec![0; 20];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut text).unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    std::thread::sleep(Duration::from_millis(50));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    reader.join().unwrap().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("decode: "), "figures in {err:?}");
}

/// The likeliest text of this model repeats itself, unless that costs something.
#[test]
fn penalties_break_a_circle() {
    let model = model(Q8_0);
    let run = |more: &[&str]| {
        let greedy = ["run", "-m", &model, "--temperature", "0", "-n", "40", "--raw", "abc"];
        stdout(&wick(&[&greedy[..], more].concat()))
    };
    let plain = run(&[]);
    assert_eq!(run(&["--presence-penalty", "0", "--frequency-penalty", "-0.0"]), plain);
    assert_ne!(run(&["--presence-penalty", "2"]), plain);
    assert_ne!(run(&["--frequency-penalty", "2"]), plain);
    assert_ne!(run(&["--presence-penalty", "-2"]), run(&["--presence-penalty", "2"]));
}

/// What a line at the end of an answer says, numbers of which -1 is no limit, and words without quotes.
#[test]
fn an_answer_ends_where_it_is_told_to() {
    let run = |arguments: &[&str]| wick(&[&["run", "--temperature", "0"], arguments].concat());
    let whole = stdout(&run(&["what can you do?"]));
    assert_eq!(stdout(&run(&["-n", "-1", "what can you do?"])), whole);
    assert_eq!(stdout(&run(&["-n", "-1", "what", "can", "you", "do?"])), whole);
    let cut = run(&["-n", "3", "what can you do?"]);
    assert!(whole.starts_with(stdout(&cut).trim_end()));
    let err = String::from_utf8_lossy(&cut.stderr);
    assert_eq!(err, "wick: the answer was ended after 3 tokens (--tokens)\n");
    let word = whole.split(' ').nth(2).unwrap();
    let stopped = stdout(&run(&["--stop", "nowhere", "--stop", word, "what can you do?"]));
    assert_eq!(stopped.trim_end(), whole.split(word).next().unwrap().trim_end());
    fails(&run(&["4b.gguf", "hello"]), 2, "wick run -m 4b.gguf");
    stdout(&run(&["--seed", "-1", "--top-k", "-1", "-n", "1", "hi"]));
    fails(&run(&["--top-k", "-2", "hi"]), 2, "0 or -1 for all");
    fails(&run(&["-n", "-2", "hi"]), 2, "-1 for as many as the context has room for");
    fails(&run(&["--seed", "x", "hi"]), 2, "-1 for a new one each time");
}

/// Words are an instruction, and what stdin has is the document that it is about.
#[test]
fn a_document_on_stdin_follows_the_words() {
    let run = |input: &str, arguments: &[&str]| {
        wick_with(input.as_bytes(), &[&["run", "--temperature", "0"], arguments].concat())
    };
    let words = "turn on the light in";
    let expected = stdout(&run("", &["-e", &format!(r"{words}\n\nthe kitchen")]));
    assert_ne!(stdout(&run("", &[words])), expected);
    for arguments in [&[words][..], &[words, "-"], &["turn", "on", "the", "light", "in", "-"]] {
        assert_eq!(stdout(&run("the kitchen\n", arguments)), expected, "{arguments:?}");
    }
    assert_eq!(stdout(&run("the kitchen", &["-"])), stdout(&run("", &["the kitchen"])));
    fails(&run("\u{e9}", &["--bad"]), 2, "--bad");
    fails(&wick_with(b"a\xff", &["run", words]), 5, "stdin: UTF-8 expected, byte 1 is not");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("document");
    std::fs::write(&path, "the kitchen\n").unwrap();
    let command = format!("\"$0\" run --temperature 0 '{words}' < '{}'", path.display());
    let shell = ["-c", &command, env!("CARGO_BIN_EXE_wick")];
    assert_eq!(stdout(&Command::new("sh").args(shell).output().unwrap()), expected);
}

#[test]
fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
    let expected = stdout(&wick(&["run", "--temperature", "0", "hello"]));
    let mut child = start(&["run", "--temperature", "0", "hello"]);
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(stdout(&output), expected);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.starts_with("wick: nothing comes from stdin") && err.lines().count() == 1, "{err}");
}

/// Runs commands of a shell, in a process group of their own as from a terminal; `wick` is the binary.
fn shell(script: &str) -> Output {
    use std::os::unix::process::CommandExt;
    let folder = Path::new(env!("CARGO_BIN_EXE_wick")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("PATH", path).stdin(Stdio::null()).process_group(0);
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Before it, two seconds pass without a byte.
#[test]
fn a_pipeline_is_waited_for() {
    let words = "turn on the light in";
    let ask = format!("wick run --temperature 0 '{words}'");
    let expected = stdout(&shell(&format!("echo the kitchen | {ask}")));
    let late = shell(&format!("(sleep 4; echo the kitchen) | {ask}"));
    assert_eq!((stdout(&late), stderr(&late)), (expected, "wick: waiting for stdin\n".into()));
}

#[test]
fn an_empty_prompt_is_refused_and_an_empty_document_is_said() {
    for output in [wick(&["run"]), wick_with(b"", &["run"]), wick(&["run", ""])] {
        fails(&output, 5, "the prompt is empty");
    }
    fails(&wick_with(b"\n", &["run", "-"]), 5, "the prompt is empty");
    let output = wick_with(b"", &["run", "--temperature", "0", "hello"]);
    assert_eq!(stdout(&output), stdout(&wick(&["run", "--temperature", "0", "hello"])));
    // Programs leave an empty pipe for those who want nothing of it: only who asks is told.
    assert_eq!(stderr(&output), "");
    let told = wick_with(b"", &["run", "-v", "--temperature", "0", "hello"]);
    assert!(stderr(&told).contains("wick: stdin is empty; the prompt is the argument alone\n"));
}

#[test]
fn a_system_message_stands_before_the_prompt() {
    let run = |arguments: &[&str]| {
        let greedy = ["run", "--temperature", "0", "-n", "24"];
        stdout(&wick(&[&greedy[..], arguments].concat()))
    };
    let raw = "<|im_start|>system\nBe\tbrief.<|im_end|>\n<|im_start|>user\nwho are you?<|im_end|>\n\
               <|im_start|>assistant\n";
    let system = ["-e", "--system", r"Be\tbrief.", "who are you?"];
    assert_eq!(run(&system), run(&["--raw", raw]));
    let figures = |arguments: &[&str]| {
        stderr(&wick(&[&["run", "-v", "-n", "1"], arguments].concat()))
            .lines()
            .find(|line| line.starts_with("prefill: "))
            .map(|line| line.split(' ').nth(1).unwrap().to_owned())
    };
    assert_eq!(figures(&system), figures(&["--raw", raw]));
    fails(&wick(&["run", "--raw", "--system", "x", "y"]), 2, "cannot be used with");
}

/// What is said beside an answer is no reason to fail; an answer that cannot be written is one, and the only.
#[test]
fn a_notice_that_cannot_be_written_is_none() {
    let ask = "wick run --temperature 0 -n 2 'what can you do?'";
    let whole = stdout(&shell(ask));
    assert_eq!(stdout(&shell(&format!("{ask} 2>/dev/full"))), whole);
    fails(&shell(&format!("{ask} >/dev/full")), 1, "the output cannot be written");
    fails(&shell(&format!("{ask} --json >/dev/full")), 1, "the output cannot be written");
    let talk = shell("echo /system | wick chat 2>/dev/full");
    assert!(talk.status.success(), "{:?}", talk.status);
}

#[test]
fn an_answer_is_one_object_on_request() {
    let run = |arguments: &[&str]| wick(&[&["run", "what can you do?"], arguments].concat());
    let object = |arguments: &[&str]| -> Value {
        let output = run(&[arguments, &["--json"]].concat());
        let text = stdout(&output);
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let found = object(&["-n", "4", "--seed", "7"]);
    let text = stdout(&run(&["-n", "4", "--seed", "7"]));
    assert_eq!(found["text"].as_str().unwrap(), text.trim_end_matches('\n'));
    assert_eq!((&found["finish"], &found["answer_tokens"]), (&"length".into(), &4.into()));
    assert_eq!((&found["cached_tokens"], &found["seed"]), (&0.into(), &7.into()));
    assert!(found["prompt_tokens"].as_u64().unwrap() > 4);
    assert!(found["seconds"]["prefill"].as_f64().unwrap() > 0.0, "{found}");

    let again = object(&[]);
    let seed = again["seed"].to_string();
    // Also where numbers are 64-bit floats.
    assert!(again["seed"].as_u64().unwrap() < 1 << 53, "{seed}");
    assert_eq!(object(&["--seed", &seed])["text"], again["text"]);
    assert_eq!(object(&["--temperature", "0"])["finish"], "stop");
    assert_eq!(object(&["--temperature", "0", "--stop", "a"])["finish"], "stop");
    let context = (found["prompt_tokens"].as_u64().unwrap() + 2).to_string();
    let full = object(&["--context", &context, "--temperature", "0"]);
    assert_eq!(full["finish"], "context", "{full}");
}
