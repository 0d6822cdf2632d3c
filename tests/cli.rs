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
fn what_is_wrong_is_said_in_one_line() {
    let q8_0 = model(Q8_0);
    fails(&wick(&["run", "-m", "/nowhere.gguf", "hi"]), 3, "/nowhere.gguf: No such file");
    fails(&wick(&["inspect", "@index.json"]), 3, "index.json: ");
    fails(&wick(&["run", "-m", &q8_0, "--context", "4", "a longer prompt"]), 5, "larger --context");
    fails(&wick(&["run", "-m", &q8_0, "--context", "0", "hi"]), 5, "context 0");
    fails(&wick(&["run", "-m", &q8_0, "--context", "99999999", "hi"]), 2, "context: 1 to 16777216");
    fails(&wick(&["run", "-m", &q8_0, "--output", "profiler", "hi"]), 3, "lm_head_profiler.weight");
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
    fails(&wick(&arguments), 4, "for a context of 16777216 take 524");
    let arguments = ["bench", "-m", path.to_str().unwrap(), "-p", "16777215", "-n", "1"];
    fails(&wick(&arguments), 4, "for a context of 16777216 take 524");
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
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    reader.join().unwrap().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("decode: "), "figures in {err:?}");
}
