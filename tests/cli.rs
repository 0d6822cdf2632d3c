//! The binary as its users meet it: what it prints, what it says when something is wrong, how it ends.

use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use wick_core::Config;
use wick_tests::tiny::Tiny;

const Q8_0: &str = "q8_0.gguf";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_wick"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs wick with this input; `@NAME` in an argument is the path of a golden file.
fn wick_with(input: &[u8], arguments: &[&str]) -> Output {
    let path = |a: &str| a.strip_prefix('@').map(|name| golden(name).display().to_string());
    let arguments: Vec<String> = arguments.iter().map(|a| path(a).unwrap_or((*a).into())).collect();
    let mut child = start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    // A process that refuses its arguments does not read its input.
    let _refused = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn wick(arguments: &[&str]) -> Output {
    wick_with(b"", arguments)
}

/// What wick prints where all is well.
fn stdout(output: &Output) -> String {
    let (out, err) = (output.stdout.clone(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}: {err}", output.status);
    String::from_utf8(out).unwrap()
}

/// Checks that wick ends with this code and one line on stderr that has `text` in it.
fn fails(output: &Output, code: i32, text: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(err.contains(text), "{text:?} expected, {err:?} found");
    if code != 2 || err.starts_with("wick:") {
        assert!(err.starts_with("wick: ") && err.trim_end().lines().count() == 1, "{err:?}");
    }
    assert!(output.stdout.is_empty());
}

/// What ctrl-C does.
fn interrupt(child: &Child) {
    let id = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
}

fn model(name: &str) -> String {
    format!("@{name}")
}

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

/// A message as the models of these tests read it.
fn chatml(role: &str, content: &str) -> String {
    format!("<|im_start|>{role}\n{content}<|im_end|>\n")
}

/// The likeliest answer to messages, in a run of its own.
fn fresh(messages: &[String]) -> String {
    let text = messages.concat() + "<|im_start|>assistant\n";
    stdout(&wick_with(text.as_bytes(), &["run", "--raw", "--temperature", "0", "-n", "24"]))
}

/// Talks with nano, which takes the likeliest tokens.
fn chat(lines: &str, arguments: &[&str]) -> Output {
    let greedy = ["chat", "--temperature", "0", "-n", "24"];
    wick_with(lines.as_bytes(), &[&greedy[..], arguments].concat())
}

/// The figure of this name for each answer.
fn figures(output: &Output, name: &str) -> Vec<usize> {
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    let values = err.lines().filter_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    values.map(|value| value.parse().unwrap()).collect()
}

#[test]
fn a_chat_remembers_what_was_said() {
    let output = chat("turn on the light\r\n\nthe kitchen", &["-v"]);
    let said = stdout(&output);
    let lines: Vec<&str> = said.lines().collect();
    let answer = r#"{"device":"light","room":"kitchen","action":"on"}"#;
    assert_eq!(lines, ["In which room is the light?", answer]);

    // The cache keeps what was read and drawn: the second answer is that of a run that reads all.
    let mut messages = vec![chatml("user", "turn on the light")];
    assert_eq!(fresh(&messages).trim_end(), lines[0]);
    messages.extend([chatml("assistant", lines[0]), chatml("user", "the kitchen")]);
    assert_eq!(fresh(&messages).trim_end(), lines[1]);
    let ids = stdout(&wick_with(messages.concat().as_bytes(), &["tokenize"]));
    let read = figures(&output, "prefill:");
    assert!(read.len() == 2 && read[1] < ids.split(' ').count() / 2, "{read:?} tokens read");
}

#[test]
fn a_new_chat_remembers_nothing() {
    let said = stdout(&chat("turn on the light\n/new\nthe kitchen\n/quit\nhello\n", &[]));
    let alone = fresh(&[chatml("user", "the kitchen")]);
    assert_eq!(said, format!("In which room is the light?\n{alone}"));
    assert!(stdout(&chat("/help\n", &[])).contains("/new"));
}

/// Of a context of 96, 24 are for the answer: two commands fit, and with the system message.
#[test]
fn a_full_chat_drops_its_oldest_messages() {
    let system = chatml("system", "Be brief.");
    let commands = [
        "turn on the light in the kitchen",
        "set the bedroom heater to 21 degrees",
        "lock the garage door",
        "dim the office light to 40 percent",
        "turn off the fan in the hall",
    ];
    let output = chat(&commands.join("\n"), &["--context", "96", "--system", "Be brief."]);
    let said = stdout(&output);
    assert_eq!(said.lines().count(), commands.len());
    let mut messages = Vec::new();
    let mut dropped = 0;
    for (command, answer) in commands.iter().zip(said.lines()) {
        messages.push(chatml("user", command));
        let all = |messages: &[String]| [std::slice::from_ref(&system), messages].concat();
        let count = |text: String| {
            let text = text + "<|im_start|>assistant\n";
            stdout(&wick_with(text.as_bytes(), &["tokenize"])).split(' ').count()
        };
        while count(all(&messages).concat()) > 72 {
            messages.drain(..2);
            dropped += 1;
        }
        assert_eq!(fresh(&all(&messages)).trim_end(), answer, "{command}");
        messages.push(chatml("assistant", answer));
    }
    assert!(dropped > 1, "{dropped} messages dropped");
    let told = "wick: the context of 96 is full; the oldest messages are forgotten\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), told);
}

#[test]
fn a_chat_from_a_pipe_ends_at_what_is_wrong() {
    fails(&chat(&"lamp ".repeat(600), &[]), 5, "612 tokens and the context 512, of which 24");
    fails(&chat("/fly\nhello\n", &[]), 5, "no command /fly");
    fails(&wick_with(b"a\xffb\n", &["chat"]), 5, "the message: UTF-8 expected, byte 1 is not");
    fails(&chat("hello", &["--context", "0"]), 2, "context: 1 to 16777216");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.gguf");
    std::fs::write(&path, Tiny::default().to_bytes()).unwrap();
    fails(&chat("hello", &["-m", path.to_str().unwrap()]), 3, "wick run --raw");
}

#[test]
fn ctrl_c_ends_a_chat_that_waits() {
    let mut child = start(&["chat", "--temperature", "0"]);
    // Kept open: waiting for the child would close it, which is another end.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"turn on the light\n").unwrap();
    let mut answer = [0; 28];
    child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"In which room is the light?\n");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// A person at a terminal.
struct Person {
    child: Child,
    terminal: std::fs::File,
}

impl Person {
    fn new(arguments: &[&str]) -> Person {
        use rustix::fs::{Mode, OFlags, open};
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let end = || open(&name, flags, Mode::empty()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_wick"))
            .args(arguments)
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Person { child, terminal: terminal.into() }
    }

    /// Waits for `text` on the screen and for a prompt after it.
    fn sees(&mut self, text: &str) {
        self.sees_then(text, "> ");
    }

    fn sees_then(&mut self, text: &str, after: &str) {
        let mut screen = Vec::new();
        let mut byte = [0];
        loop {
            let shown = String::from_utf8_lossy(&screen);
            if shown.split_once(text).is_some_and(|(_, rest)| rest.contains(after)) {
                return;
            }
            assert!(screen.len() < 20_000, "{text:?} expected, {shown:?} found");
            let read = self.terminal.read_exact(&mut byte);
            read.unwrap_or_else(|e| panic!("{text:?} expected, {shown:?} found: {e}"));
            screen.push(byte[0]);
        }
    }

    fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    fn sees_it_end(mut self, code: i32) {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code));
    }
}

impl Drop for Person {
    /// A test that fails leaves no process behind.
    fn drop(&mut self) {
        let _has_ended = self.child.kill();
    }
}

#[test]
fn a_person_talks_at_a_terminal() {
    let mut person = Person::new(&["chat", "--temperature", "0"]);
    person.sees("nano, built in; /help");
    person.types("turn on the lightt\x7f\r");
    person.sees("In which room is the light?");
    // Pasted at once; typed, each line that fills up would be drawn again.
    person.types(&format!("\x1b[200~{}\x1b[201~\r", "lamp ".repeat(600)));
    person.sees("wick: the message has ");
    person.types("/fly\r");
    person.sees("wick: no command /fly");
    person.types("not this\x03the kitchen\r");
    person.sees(r#"{"device":"light","room":"kitchen","action":"on"}"#);
    person.types("\x04");
    person.sees_it_end(0);

    let mut person = Person::new(&["chat"]);
    person.sees("nano, built in");
    person.types("\x03");
    person.sees_it_end(130);
}

/// The likeliest text of this model never ends by itself.
#[test]
fn a_person_stops_an_answer() {
    let path = golden(Q8_0);
    let model = path.to_str().unwrap();
    let endless = ["-n", "100000000", "--context", "8000000", "--temperature", "0"];
    let mut person = Person::new(&[&["chat", "-v", "-m", model], &endless[..]].concat());
    person.sees("/help");
    person.types("abc\r");
    person.sees_then("abc", "\u{FFFD}");
    interrupt(&person.child);
    person.sees("drawn: ");
    person.types("/quit\r");
    person.sees_it_end(0);
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
    assert!(stdout(&quiet).ends_with('\n') && quiet.stderr.is_empty());
}

#[test]
fn text_survives_the_tokenizer() {
    let model = model("f16-softmax-untied.gguf");
    let text = "Naïve café — 東京 🦀\r\n\tfn main() {}   <|im_start|> \u{0301}";
    let ids = stdout(&wick_with(text.as_bytes(), &["tokenize", "-m", &model]));
    assert_eq!(ids.lines().count(), 1);
    assert!(ids.trim_end().split(' ').all(|id| id.parse::<u32>().is_ok()), "{ids}");
    let back = wick_with(ids.as_bytes(), &["detokenize", "-m", &model]);
    assert_eq!(stdout(&back), text);

    let json = stdout(&wick_with(text.as_bytes(), &["tokenize", "-m", &model, "--json"]));
    let list: Vec<u32> = serde_json::from_str(&json).unwrap();
    assert_eq!(list.iter().map(u32::to_string).collect::<Vec<_>>().join(" "), ids.trim_end());
    assert_eq!(stdout(&wick_with(json.as_bytes(), &["detokenize", "-m", &model])), text);

    let plain = stdout(&wick_with(b"<|im_end|>", &["tokenize", "-m", &model, "--plain"]));
    let special = stdout(&wick_with(b"<|im_end|>", &["tokenize", "-m", &model]));
    assert!(plain.split(' ').count() > 1 && special.split(' ').count() == 1);
}

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
    let (model, path) = (model("q4_0-tied.gguf"), folder.path().join("questions"));
    let greedy = ["run", "-m", &model, "--temperature", "0", "-n", "5", "what?"];
    let answer = stdout(&wick(&greedy));
    let line =
        |skill, answer| serde_json::json!({"skill": skill, "prompt": "what?", "answer": answer});
    let message = serde_json::json!([{"role": "user", "content": "what?"}]);
    let longer = serde_json::json!({"skill": "b", "messages": message, "answer": answer.trim()});
    let lines = format!("{}\n\n{}\n{longer}\n", line("a", &answer), line("b", &"x".to_owned()));
    std::fs::write(&path, lines).unwrap();
    let eval = ["eval", "-m", &model, "-n", "5", "--json", "--skills", path.to_str().unwrap()];
    let found: Value = serde_json::from_str(&stdout(&wick(&eval))).unwrap();
    let expected = serde_json::json!({"a": {"right": 1, "of": 1}, "b": {"right": 1, "of": 2}});
    assert_eq!(found, expected);
    std::fs::write(&path, "{\"skill\": 1}").unwrap();
    fails(&wick(&eval), 5, "questions, line 1: ");
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

#[test]
fn speed_is_measured() {
    let bench = ["bench", "-p", "3", "-n", "2", "-r", "2", "-t", "2"];
    let text = stdout(&wick(&bench));
    for line in ["kernels    ", "prefill    ", "decode     ", "weights    ", "bandwidth  "] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let json = stdout(&wick(&[&bench[..], &["--no-bandwidth", "--json"]].concat()));
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&found["prompt"], &found["decoded"]), (&3.into(), &2.into()));
    assert_eq!((&found["rounds"], &found["threads"]), (&2.into(), &2.into()));
    assert!(found["kernels"].is_string() && found["memory_bandwidth"].is_null());
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {json}"));
    for rate in ["prefill", "decode"] {
        let [min, median, max] = ["min", "median", "max"].map(|key| number(&found[rate][key]));
        assert!(0.0 < min && min <= median && median <= max, "{json}");
    }
    let (load, first) = (number(&found["load_seconds"]), number(&found["first_token_seconds"]));
    assert!(0.0 < load && load < first, "{json}");
    assert!((0.0..=1.0).contains(&number(&found["active_neurons"])), "{json}");
    let weights = &found["weights"];
    let parts = ["dense", "gate", "up", "down", "output"].map(|part| number(&weights[part]));
    let total = number(&weights["total"]);
    assert!((total - parts.iter().sum::<f64>()).abs() <= 5.0, "{json}");
    let expected = total * number(&found["decode"]["median"]);
    assert!((number(&found["decode_bandwidth"]) / expected - 1.0).abs() < 1e-9, "{json}");
    assert!(number(&found["resident"]) <= number(&found["peak_resident"]), "{json}");
}

#[test]
fn every_golden_model_can_be_inspected() {
    let index: Value =
        serde_json::from_slice(&std::fs::read(golden("index.json")).unwrap()).unwrap();
    for case in index["models"].as_array().unwrap() {
        let file = model(case["file"].as_str().unwrap());
        let json: Value =
            serde_json::from_str(&stdout(&wick(&["inspect", &file, "--json"]))).unwrap();
        assert_eq!(json["shape"]["vocabulary"], case["vocabulary"]);
        assert_eq!(json["unused_tensors"], Value::Array(vec![]), "{file}");
        let text = stdout(&wick(&["inspect", &file]));
        assert!(text.contains("runs with") && text.contains("kernels"), "{text}");
    }
}

#[test]
fn keys_and_values_are_kept_as_asked() {
    let logits = |kv: &[&str]| stdout(&wick(&[&["logits", "--ids", "1 2 3 4 5"], kv].concat()));
    assert_eq!(logits(&["--kv", "f16"]), logits(&[]));
    assert_ne!(logits(&["--kv", "q8_0"]), logits(&[]));
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let q8_0 = model(Q8_0);
    fails(&wick(&["run", "-m", "/nowhere.gguf", "hi"]), 3, "/nowhere.gguf: No such file");
    fails(&wick(&["inspect", "@index.json"]), 3, "index.json: ");
    fails(&wick(&["run", "-m", &q8_0, "--context", "4", "a longer prompt"]), 5, "larger --context");
    fails(&wick(&["run", "-m", &q8_0, "--context", "0", "hi"]), 5, "context 0");
    fails(&wick(&["run", "-m", &q8_0, "--context", "99999999", "hi"]), 2, "context: 1 to 16777216");
    fails(&wick(&["run", "-m", &q8_0, "--output", "profiler", "hi"]), 3, "lm_head_profiler.weight");
    let head_16 = model("window8.gguf");
    for verb in [&["run", "hi"][..], &["logits", "--ids", "1 2"], &["bench"]] {
        let refused = wick(&[verb, &["-m", &head_16, "--kv", "q8_0"]].concat());
        fails(&refused, 2, "a head size that is a multiple of 32 expected, 16 found");
    }
    let text = "@index.json";
    fails(&wick(&["eval", "--output", "profiler", "--text", text]), 2, "--output exact expected");
    fails(&wick(&["run", "-m", &q8_0, "--top-p", "1.5", "hi"]), 2, "a number from 0 to 1 expected");
    fails(&wick(&["run", "-m", &q8_0, "--temperature", "NaN", "hi"]), 2, "0 or more expected");
    fails(&wick_with(b"a\xffb", &["run", "-m", &q8_0]), 5, "stdin: UTF-8 expected, byte 1 is not");
    fails(&wick_with(b"a\xffb", &["tokenize", "-m", &q8_0]), 5, "byte 1");
    fails(&wick_with(b"1 x", &["detokenize", "-m", &q8_0]), 5, "\"x\" found");
    fails(&wick_with(b"99999", &["detokenize", "-m", &q8_0]), 5, "token 99999: the vocabulary has");
    fails(&wick(&["logits", "-m", &q8_0, "--ids", ""]), 5, "at least one");
    fails(&wick(&["logits", "-m", &q8_0, "--ids", "1 99999"]), 5, "token 99999");
    fails(&wick(&["logits", "-m", &q8_0, "--ids", "1", "--out", "/nowhere/x"]), 1, "/nowhere/x: ");
    for nonsense in [["-p", "0"], ["-n", "0"], ["-r", "0"], ["-t", "0"], ["-p", "many"]] {
        fails(&wick(&[&["bench"][..], &nonsense].concat()), 2, nonsense[1]);
    }
    fails(&wick(&["bench", "-p", "99999999"]), 2, "context: 1 to 16777216 expected");
    fails(&wick(&["fly"]), 2, "fly");
}

#[test]
fn a_missing_part_of_a_split_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("m-00001-of-00002.gguf");
    std::fs::copy(golden("split-00001-of-00002.gguf"), &first).unwrap();
    fails(&wick(&["inspect", first.to_str().unwrap()]), 3, "m-00002-of-00002.gguf: No such file");
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

/// The numbers of a line.
fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn synthetic_models_have_the_statistics_of_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let path = path.to_str().unwrap();
    let synth = ["synth", "--shape", "tiny,experts=32", "--like", "report", "--tokens", "400"];
    let said = stdout(&wick(&[&synth[..], &["-o", path]].concat()));
    let layers: Vec<Vec<f64>> = said.lines().skip(4).take(4).map(numbers).collect();
    // The report's first layer, its last and two between.
    let wanted: Vec<f64> = layers.iter().map(|layer| layer[1]).collect();
    assert_eq!(wanted, [99.6, 74.9, 72.3, 66.8], "{said}");
    for layer in &layers {
        let &[_, wanted, reached, off, chance, most, chosen] = &layer[..] else { panic!("{said}") };
        assert!((reached - wanted).abs() < 2.5, "{said}");
        assert!(off < 2.5 * chance && (chosen - most).abs() < 12.0, "{said}");
    }

    let json: Value = serde_json::from_str(&stdout(&wick(&["inspect", path, "--json"]))).unwrap();
    assert_eq!(json["shape"]["experts"], 32);
    assert_eq!(json["shape"]["tied_output"], true);
    assert_eq!(json["tokenizer"]["entries"], 1024);
    assert_eq!(json["tokenizer"]["chat_template"], true);
    let run = ["run", "-m", path, "-n", "20", "--seed", "1", "what is a lamp?"];
    assert!(!stdout(&wick(&run)).trim().is_empty());
}

#[test]
fn synthetic_models_have_the_types_and_sizes_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slice.gguf");
    let path = path.to_str().unwrap();
    let synth = ["synth", "--shape", "tiny,width=96,window=64", "--layers", "2", "--vocab", "300"];
    let types = ["--type", "q8_0", "--output-type", "q6_k", "--no-run", "-o", path];
    assert_eq!(stdout(&wick(&[&synth[..], &types].concat())).lines().count(), 1);
    let json: Value = serde_json::from_str(&stdout(&wick(&["inspect", path, "--json"]))).unwrap();
    let shape = &json["shape"];
    assert_eq!((&shape["layers"], &shape["vocabulary"]), (&2.into(), &300.into()));
    assert_eq!((&shape["expert_width"], &shape["window"]), (&96.into(), &64.into()));
    assert_eq!(shape["tied_output"], false);
    assert_eq!(json["types"]["Q6_K"]["tensors"], 1);
    assert_eq!(json["types"]["Q8_0"]["tensors"], 15);
}

#[test]
fn shapes_that_make_no_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let synth = |shape, more: &[&str]| {
        wick(&[&["synth", "--shape", shape, "-o", path.to_str().unwrap()], more].concat())
    };
    fails(&synth("5b", &[]), 2, "4b, 21b or tiny expected, \"5b\" found");
    fails(&synth("tiny,layers", &[]), 2, "NAME=SIZE expected");
    fails(&synth("tiny,layers=0", &[]), 2, "layers: 1 to 96 expected, 0 found");
    fails(&synth("tiny,active=17", &["--like", "report"]), 2, "active experts: 1 to 16 expected");
    fails(&synth("tiny,hidden=100", &[]), 2, "hidden size: a multiple of 32, 64 or more");
    fails(&synth("tiny,width=100", &[]), 2, "ffn_down_exps.weight: rows of a multiple of 32");
    fails(&synth("tiny", &["--type", "q6_k"]), 2, "rows of a multiple of 256 weights");
    fails(&synth("tiny", &["--type", "q3_k"]), 2, "one of F32, F16, BF16, Q4_0, Q8_0, Q6_K");
    fails(&synth("tiny", &["--tied", "--output-type", "f16"]), 2, "--output-type");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_model_that_cannot_be_written_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/a.gguf");
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    for (path, why) in [(&missing, "No such file"), (&taken, "no regular file")] {
        let output = wick(&["synth", "--shape", "tiny", "-o", path.to_str().unwrap()]);
        fails(&output, 1, "bytes cannot be written: ");
        fails(&output, 1, why);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn packing_gives_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["q4_0-tied.gguf", "split-00001-of-00002.gguf", "powerinfer.gguf"] {
        let (model, packed, unpacked) = (model(name), path("packed"), path("unpacked"));
        let said = stdout(&wick(&["pack", &model, "-o", &packed]));
        assert!(said.starts_with(&packed) && said.contains(" experts, "), "{said}");
        let said = stdout(&wick(&["pack", "--verify", &packed]));
        assert!(said.contains("as it was packed"), "{said}");
        stdout(&wick(&["unpack", &packed, "-o", &unpacked]));
        if !name.starts_with("split") {
            assert!(std::fs::read(&unpacked).unwrap() == std::fs::read(golden(name)).unwrap());
        }
        let run = |file: &str| stdout(&wick(&["run", "-m", file, "-n", "20", "--seed", "3", "hi"]));
        assert_eq!(run(&packed), run(&model), "{name}");
        assert_eq!(run(&unpacked), run(&model), "{name}");
        let inspect = |file: &str| -> Value {
            serde_json::from_str(&stdout(&wick(&["inspect", file, "--json"]))).unwrap()
        };
        let (before, after) = (inspect(&model), inspect(&packed));
        for key in ["shape", "parameters", "types", "unused_tensors", "tokenizer"] {
            assert_eq!(before[key], after[key], "{name}: {key}");
        }
        assert!(before["packed"].is_null() && after["alignment"] == 4096);
    }
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 2, "nothing else is left behind");
}

#[test]
fn a_file_is_packed_for_one_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed").display().to_string();
    let model = model("powerinfer.gguf");
    let run = |more: &[&str]| {
        wick(&[&["run", "-n", "9", "--temperature", "0", "hi", "-m"], more].concat())
    };
    let chosen = ["--output", "profiler"];
    stdout(&wick(&["pack", &model, "-o", &path]));
    fails(&run(&[&[&path[..]][..], &chosen].concat()), 3, "pack it again with --output profiler");
    stdout(&wick(&[&["pack", &model, "-o", &path][..], &chosen].concat()));
    fails(&run(&[&path]), 3, "packed for --output profiler: run it with that, or pack it again");
    let packed = stdout(&run(&[&[&path[..]][..], &chosen].concat()));
    assert_eq!(packed, stdout(&run(&[&[&model[..]][..], &chosen].concat())));
    fails(
        &wick(&[&["pack", "@q8_0.gguf", "-o", &path][..], &chosen].concat()),
        3,
        "lm_head_profiler",
    );
}

#[test]
fn coarse_output_draws_the_same_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, packed) = (path("model.gguf"), path("packed"));
    stdout(&wick(&["synth", "--shape", "tiny,vocab=2048", "-o", &model]));
    stdout(&wick(&["pack", &model, "-o", &packed, "--output", "coarse"]));
    for sampling in [["--temperature", "0"], ["--top-k", "5"], ["--repeat-penalty", "1.3"]] {
        let run = |file: &str, more: &[&str]| {
            let common = ["run", "-n", "20", "--seed", "7", "hi", "-m", file];
            stdout(&wick(&[&common[..], &sampling, more].concat()))
        };
        let exact = run(&model, &[]);
        assert_eq!(run(&model, &["--output", "coarse"]), exact, "{sampling:?}");
        assert_eq!(run(&packed, &["--output", "coarse"]), exact, "{sampling:?}");
        assert_eq!(run(&packed, &[]), exact, "{sampling:?}");
    }
    let exact = path("exact");
    stdout(&wick(&["pack", &model, "-o", &exact]));
    let refused = wick(&["run", "-m", &exact, "--output", "coarse", "hi"]);
    fails(&refused, 3, "packed for --output exact: run it with that, or pack it again with");
    let odd = path("odd.gguf");
    stdout(&wick(&["synth", "--shape", "tiny,vocab=2049", "-o", &odd]));
    let refused = wick(&["run", "-m", &odd, "--output", "coarse", "hi"]);
    fails(&refused, 3, "multiples of 8 rows and of 32 columns expected, 2049 and");
    let bench =
        ["bench", "-m", &model, "-p", "4", "-n", "4", "-r", "1", "--no-bandwidth", "--json"];
    let figures: Value =
        serde_json::from_str(&stdout(&wick(&[&bench[..], &["--output", "coarse"]].concat())))
            .unwrap();
    assert!(figures["output_rows"].as_f64().unwrap() < 1.0, "{figures}");
}

#[test]
fn packing_refuses_what_makes_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (original, packed, other) = (path("original"), path("packed"), path("other"));
    std::fs::copy(golden("q4_0-tied.gguf"), &original).unwrap();
    stdout(&wick(&["pack", &original, "-o", &packed]));
    fails(&wick(&["pack", &original, "-o", &original]), 2, "is the input; name another file");
    std::fs::hard_link(&original, &other).unwrap();
    fails(&wick(&["pack", &original, "-o", &other]), 2, "is the input");
    std::fs::remove_file(&other).unwrap();
    fails(&wick(&["unpack", &packed, "-o", &packed]), 2, "is the input");
    fails(&wick(&["pack", &packed, "-o", &other]), 3, "packed already");
    fails(&wick(&["unpack", &original, "-o", &other]), 3, "is not packed");
    fails(&wick(&["pack", "--verify", &original]), 3, "is not packed");
    fails(&wick(&["pack", "/nowhere.gguf", "-o", &other]), 3, "No such file");
    fails(&wick(&["pack", &original, "-o", "/nowhere/x"]), 1, "bytes cannot be written");
    fails(&wick(&["pack", &original]), 2, "-o");
    fails(&wick(&["pack"]), 2, "<IN>");
    fails(&wick(&["pack", &original, "--verify", &packed]), 2, "--verify");

    let mut bytes = std::fs::read(&packed).unwrap();
    let last = bytes.len() - 5000;
    bytes[last] ^= 4;
    std::fs::write(&packed, &bytes).unwrap();
    let output = wick(&["pack", "--verify", &packed]);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("damaged in 1 place"), "{err}");
    assert!(
        out.starts_with("blk.") && out.contains(", expert ") && out.contains(", at byte "),
        "{out}"
    );
    fails(&wick(&["unpack", &packed, "-o", &other]), 3, "the file is damaged");
    std::fs::write(&packed, &bytes[..last]).unwrap();
    fails(&wick(&["pack", "--verify", &packed]), 3, "the file is incomplete");
    let mut files: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["original", "packed"]);
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let path = golden(Q8_0);
    let arguments = ["run", "-m", path.to_str().unwrap(), "-n", "4000", "--raw", "abc"];
    let mut child = start(&arguments);
    drop(child.stdin.take());
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

/// nano as a file, which has experts to be read.
fn nano() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/nano/nano.gguf");
    path.display().to_string()
}

/// The least memory that a refusal names, as `--memory` takes it.
fn least(refusal: &Output) -> usize {
    fails(refusal, 4, "is the least that would do");
    let err = String::from_utf8_lossy(&refusal.stderr).into_owned();
    let (_, rest) = err.split_once(" (").unwrap();
    rest.split_once("K)").unwrap().0.parse().unwrap()
}

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
fn plans_tell_what_memory_is_for() {
    let nano = nano();
    let least = least(&wick(&["plan", "-m", &nano, "--memory", "100K"]));
    let memory = format!("{}K", least + 1024);
    let text = wick(&["plan", "-m", &nano, "--memory", &memory, "--board", "pi5", "--json"]);
    let plan: Value = serde_json::from_str(&stdout(&text)).unwrap();
    let number = |key: &str| plan[key].as_u64().unwrap() as usize;
    let parts = ["dense_weights", "kv", "scratch", "sampler", "program", "margin", "slots"];
    let sum: usize = parts.into_iter().map(number).sum();
    // What aligns the arena is no part.
    assert!((sum..sum + 4096).contains(&number("total")), "{plan}");
    assert!(number("total") <= (least + 1024) * 1024, "{plan}");
    assert!(number("expert_slots") >= 4 && number("expert_slots") < number("experts"), "{plan}");
    assert!(plan["bounds"][0]["storage"].as_f64().unwrap() > 0.0, "{plan}");
    let text = stdout(&wick(&["plan", "-m", &nano]));
    assert!(text.contains("128 of 128 in memory"), "{text}");
    fails(&wick(&["plan", "--memory", "lots"]), 2, "a size such as 512M");
    fails(&wick(&["plan", "--board", "toaster"]), 2, "pi5");
    fails(&wick(&["plan", "--memory", "100K"]), 4, "is the least that would do");
}

#[test]
fn a_device_can_be_emulated_and_results_approximated() {
    let nano = nano();
    let least = least(&wick(&["plan", "-m", &nano, "--memory", "100K", "-c", "128"]));
    let memory = format!("{}K", least + 1024);
    let bench = |more: &[&str]| -> Value {
        let mut arguments = vec!["bench", "-m", &nano, "--memory", &memory, "--json"];
        arguments.extend(["--no-bandwidth", "-p", "16", "-n", "16", "-r", "1"]);
        arguments.extend(more);
        serde_json::from_str(&stdout(&wick(&arguments))).unwrap()
    };
    let report = bench(&["--emulate", "sd"]);
    let decode = &report["decode_experts"];
    assert!(decode["hit_rate"].as_f64().unwrap() < 1.0, "{report}");
    assert!(decode["bytes_per_token"].as_f64().unwrap() > 0.0, "{report}");
    // As much as the device moves, and what rounding adds.
    assert!(decode["device_bytes_per_second"].as_f64().unwrap() < 95e6, "{report}");
    let preferring = bench(&["--prefer-resident", "100"]);
    let read = |report: &Value| report["decode_experts"]["bytes_per_token"].as_f64().unwrap();
    assert!(read(&preferring) < read(&report), "{preferring}");
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
