//! Prompts that are kept over restarts.

use crate::client::{Answer, Service, few, is_emulated, little_memory, nano, until, wick};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Tokens of a tile, the part in which prompts are kept.
const TILE: f64 = 64.0;

/// A question behind a system message of several tiles.
fn question(text: &str) -> Value {
    let rules = (0..12).map(|i| format!("Rule {i}: lamp {} is in room {}. ", i * 7, i % 5));
    let system = rules.collect::<String>();
    let messages = json!([
        {"role": "system", "content": system},
        {"role": "user", "content": text},
    ]);
    json!({"messages": messages, "temperature": 1, "seed": 7, "max_tokens": 20, "logprobs": true})
}

/// A model whose windowed layers see so many positions, all of them if that is 0, as a file.
fn model(window: usize) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf").display().to_string();
    let shape = format!("tiny,context=4096,window={window}");
    let made = wick().args(["synth", "--no-run", "--shape", &shape, "-o", &path]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    (folder, path)
}

fn start(cache: &Path, model: &str, options: &[&str]) -> Service {
    Service::start(&[&["--cache-dir", cache.to_str().unwrap(), model], options].concat())
}

fn ask(service: &Service, text: &str) -> Value {
    service.post("/v1/chat/completions", &question(text)).json()
}

fn cached(answer: &Value) -> f64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_f64().unwrap()
}

/// Asks a service to end, which it does without a word.
fn end(service: Service) {
    service.signal(Signal::TERM);
    assert_eq!(service.end(), (Some(0), String::new()));
}

/// The tiles in a folder.
fn tiles(folder: &TempDir) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "kv")).collect()
}

#[test]
fn a_prompt_is_not_computed_again_after_a_restart() {
    // Windows that are as long as the text, shorter, and none.
    for window in [0, 256, 128] {
        let ((_kept, model), folder) = (model(window), TempDir::new().unwrap());
        let first = start(folder.path(), &model, &[]);
        let answer = ask(&first, "what is 2 plus 3?");
        let tokens = answer["usage"]["prompt_tokens"].as_f64().unwrap();
        assert!(tokens > 4.0 * TILE, "{tokens}");
        assert_eq!((cached(&answer), first.metric("wick_saved_tokens")), (0.0, 0.0));
        end(first);

        let second = start(folder.path(), &model, &[]);
        let again = ask(&second, "what is 2 plus 3?");
        assert_eq!(again["choices"], answer["choices"], "window {window}");
        assert!(cached(&again) >= tokens - TILE - 1.0, "{} of {tokens}", cached(&again));
        assert_eq!(second.metric("wick_saved_tokens"), cached(&again));
        assert!(second.metric("wick_saved_read_bytes") > 0.0);
    }
}

/// Windows of 64, as nano's, have forgotten most of a prompt when it is answered.
#[test]
fn short_windows_are_written_down_in_passing() {
    let folder = TempDir::new().unwrap();
    let nano = nano();
    let first = start(folder.path(), &nano, &["--context", "2048"]);
    let answer = ask(&first, "what is 2 plus 3?");
    // Killed before there was nothing to do.
    drop(first);
    let second = start(folder.path(), &nano, &["--context", "2048"]);
    let again = ask(&second, "what is 2 plus 3?");
    assert_eq!(again["choices"], answer["choices"]);
    let tokens = answer["usage"]["prompt_tokens"].as_f64().unwrap();
    assert!(cached(&again) >= tokens - TILE - 1.0, "{} of {tokens}", cached(&again));
    drop(second);

    let words = few(3000, 1200);
    // A prompt of many times what the rings hold, and another that has half of it in common.
    let long = |words: usize, last: &str| {
        let prompt = format!("{}{last}", "lamp ".repeat(words));
        json!({"prompt": prompt, "max_tokens": 8, "temperature": 0})
    };
    let folder = TempDir::new().unwrap();
    let ask_long = |body: &Value| {
        let service = start(folder.path(), &nano, &["--context", "8192", "--parallel", "1"]);
        service.post("/v1/completions", body).json()
    };
    let first = ask_long(&long(words, "door"));
    let tokens = first["usage"]["prompt_tokens"].as_f64().unwrap();
    assert!(tokens > words as f64, "{tokens}");
    let half = ask_long(&long(words / 2, "window"));
    assert!(cached(&half) > tokens / 2.0 - 2.0 * TILE, "{} of {tokens}", cached(&half));

    let folder = TempDir::new().unwrap();
    drop(
        start(folder.path(), &nano, &["--context", "2048"])
            .post("/v1/chat/completions", &question("hi")),
    );
    let third = start(folder.path(), &nano, &["--context", "2048", "--parallel", "1"]);
    let alone = ask(&Service::start(&["--context", "2048"]), "turn on the light");
    let other = ask(&third, "turn on the light");
    assert_eq!(other["choices"], alone["choices"]);
    assert!(cached(&other) >= TILE, "{}", cached(&other));
}

/// Another question has the beginning in common, and one that streams experts has the same keys and values.
#[test]
fn what_is_kept_serves_other_questions_and_settings() {
    let ((_kept, model), folder) = (model(0), TempDir::new().unwrap());
    let first = start(folder.path(), &model, &[]);
    ask(&first, "what is 2 plus 3?");
    end(first);
    let alone = ask(&Service::start(&[&model]), "turn on the light");
    let least = least_memory(&model);
    for options in [&["--threads", "1"][..], &["--context", "2048"], &["--memory", &least]] {
        let service = start(folder.path(), &model, options);
        let other = ask(&service, "turn on the light");
        assert_eq!(other["choices"], alone["choices"], "{options:?}");
        assert!(cached(&other) >= 4.0 * TILE, "{options:?}: {}", cached(&other));
        end(service);
    }
    // Keys and values in another format are no use, nor are those of another model.
    let other = ask(&start(folder.path(), &model, &["--kv", "q8_0"]), "turn on the light");
    assert_eq!(cached(&other), 0.0);
}

/// Little more memory than a service must have, in the form of `--memory`.
fn least_memory(model: &str) -> String {
    let refused = wick().args(["serve", "--port", "0", "--memory", "1M", model]).output().unwrap();
    let err = String::from_utf8(refused.stderr).unwrap();
    let (_, rest) = err.split_once("MiB (").unwrap_or_else(|| panic!("{err}"));
    let least: usize = rest.split_once("K)").unwrap().0.parse().unwrap();
    format!("{}K", least + 1024)
}

/// A service with nothing to do writes down what it knows; nothing is lost when it is killed.
#[test]
fn a_killed_service_finds_what_it_saved() {
    let ((_kept, model), folder) = (model(0), TempDir::new().unwrap());
    let first = start(folder.path(), &model, &[]);
    let answer = ask(&first, "what is 2 plus 3?");
    let whole = (answer["usage"]["prompt_tokens"].as_f64().unwrap() / TILE).floor();
    let is_saved = || tiles(&folder).len() as f64 >= whole;
    until("all is saved", is_saved);
    assert!(first.metric("wick_saved_written_bytes") > 0.0);
    // What it was killed at is cleared away.
    let part = folder.path().join(format!("{}.part", "ab".repeat(32)));
    fs::write(&part, "half a tile").unwrap();
    drop(first);
    let second = start(folder.path(), &model, &[]);
    let again = ask(&second, "what is 2 plus 3?");
    assert_eq!(again["choices"], answer["choices"]);
    assert!(cached(&again) >= (whole - 1.0) * TILE);
    assert!(!part.exists());
}

/// A text that had to give way to another comes back from the folder.
#[test]
fn what_gave_way_is_read_back() {
    let ((_kept, model), folder) = (model(0), TempDir::new().unwrap());
    let service = start(folder.path(), &model, &["--parallel", "1"]);
    let post = |word: &str| {
        let body =
            json!({"prompt": format!("{word} ").repeat(150), "max_tokens": 8, "temperature": 0});
        service.post("/v1/completions", &body).json()
    };
    let (first, _other) = (post("lamp"), post("door"));
    let saved = service.metric("wick_saved_tokens");
    let again = post("lamp");
    assert_eq!(again["choices"], first["choices"]);
    assert_eq!((saved, cached(&first)), (0.0, 0.0));
    assert!(cached(&again) >= TILE, "{again}");
    assert!(service.metric("wick_saved_tokens") >= TILE);
}

/// What was asked with one key is not found with another, since the time of an answer would tell; prompts of `--warm` are
/// found with any.
#[test]
fn keys_share_nothing_but_what_was_read_for_all() {
    let ((_kept, model), folder) = (model(0), TempDir::new().unwrap());
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("keys"), "one\ntwo\n").unwrap();
    let ask = |service: &Service, key: &str, text: &str| {
        let headers = format!("Authorization: Bearer {key}\r\n");
        let body = question(text).to_string();
        let found = service.send("POST", "/v1/chat/completions", &headers, &body);
        cached(&Answer::read(found).json())
    };
    let (keys, cache) = (path("keys"), folder.path().join("cache"));
    let options = ["--api-key-file", &keys];
    let service = start(&cache, &model, &options);
    assert_eq!(ask(&service, "one", "hi"), 0.0);
    end(service);
    // The keys are the same, in another order.
    fs::write(path("keys"), "three\ntwo\none\n").unwrap();
    let service = start(&cache, &model, &options);
    assert_eq!((ask(&service, "two", "hi"), ask(&service, "three", "hi")), (0.0, 0.0));
    assert!(ask(&service, "one", "hi") >= 4.0 * TILE);
    drop(service);

    let (warm, cache) = (path("warm.jsonl"), folder.path().join("other"));
    fs::write(&warm, format!("{}\n\n{{\"prompt\": \"a text\"}}\n", question("hello"))).unwrap();
    let service = start(&cache, &model, &["--api-key-file", &keys, "--warm", &warm]);
    let is_read = || {
        Answer::read(service.send("GET", "/metrics", "Authorization: Bearer one\r\n", ""))
            .body
            .contains("wick_generations_total{reason=\"Length\"} 2")
    };
    until("the prompts are read", is_read);
    for key in ["one", "two"] {
        assert!(ask(&service, key, "hi") >= 4.0 * TILE, "{key}");
    }
    end(service);
    assert!(ask(&start(&cache, &model, &options), "three", "hi") >= 4.0 * TILE);
}

#[test]
fn lines_that_are_no_prompts_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("warm.jsonl");
    let long = json!({"prompt": "lamp ".repeat(9000)}).to_string();
    for (line, expected) in [
        ("{\"prompt\": 7}", "expected"),
        ("hello", "expected"),
        ("{\"messages\": [{\"role\": \"user\", \"content\": 7}]}", "content"),
        (&*long, "context"),
    ] {
        fs::write(&path, format!("{{\"prompt\": \"a\"}}\n{line}\n")).unwrap();
        let output = wick()
            .args(["serve", "--port", "0", "--warm", path.to_str().unwrap()])
            .output()
            .unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains("line 2: ") && err.contains(expected), "{line}: {err}");
    }
}

/// Damage costs time, never the text.
#[test]
fn damaged_tiles_are_computed_again() {
    let ((_kept, model), folder) = (model(0), TempDir::new().unwrap());
    let first = start(folder.path(), &model, &[]);
    let answer = ask(&first, "what is 2 plus 3?");
    end(first);
    let paths = tiles(&folder);
    for path in &paths {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let second = start(folder.path(), &model, &[]);
    let again = ask(&second, "what is 2 plus 3?");
    assert_eq!((&again["choices"], cached(&again)), (&answer["choices"], 0.0));
    second.signal(Signal::TERM);
    let (code, said) = second.end();
    assert_eq!(code, Some(0));
    assert!(said.contains("CRC-32") && said.contains("is computed"), "{said}");
    // They were replaced by whole ones.
    let third = start(folder.path(), &model, &[]);
    assert!(cached(&ask(&third, "what is 2 plus 3?")) >= 4.0 * TILE);
}

#[test]
fn a_folder_that_cannot_be_used_is_done_without() {
    let ((_kept, model), folder) = (model(0), TempDir::new().unwrap());
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.as_path(), Path::new("/proc/wick")] {
        let service = start(path, &model, &[]);
        ask(&service, "hi");
        drop(service);
    }
    // What somebody has put in the place of its own notes is not read.
    let huge = fs::File::create(folder.path().join("written-today")).unwrap();
    huge.set_len(600 << 20).unwrap();
    let service = start(folder.path(), &model, &["--memory", "200M"]);
    ask(&service, "hi");
    drop(service);
    fs::remove_file(folder.path().join("written-today")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("written-today")).unwrap();
    ask(&start(folder.path(), &model, &[]), "hi");
    let (first, second) = (start(folder.path(), &model, &[]), start(folder.path(), &model, &[]));
    assert_eq!(ask(&first, "hi")["choices"], ask(&second, "hi")["choices"]);
}

/// Where experts are read as they are wanted, those that were used most are read before anybody asks.
#[test]
fn experts_that_were_used_are_there_again() {
    if is_emulated() {
        // What an emulator takes of the budget is another amount each time: now all experts have room, now none.
        return;
    }
    let (nano, folder) = (nano(), TempDir::new().unwrap());
    let least: usize = little_memory(&nano).trim_end_matches('K').parse().unwrap();
    let memory = format!("{}K", least + 1500);
    let options = ["--memory", &memory, "--parallel", "1"];
    let question = |text: &str| json!({"prompt": text, "max_tokens": 50, "temperature": 0});
    let ask = |service: &Service, text| service.post("/v1/completions", &question(text)).json();
    let hits = |service: &Service| {
        service.metric("wick_experts_resident") / service.metric("wick_experts_wanted")
    };
    let first = start(folder.path(), &nano, &options);
    for text in ["turn on the light", "turn off the light in the hall", "dim the light"] {
        ask(&first, text);
    }
    end(first);

    // One that nobody asks anything has nothing to add to that.
    let kept = |path: &PathBuf| fs::read(path).unwrap();
    let history: Vec<Vec<u8>> = tiles(&folder).iter().map(kept).collect();
    end(start(folder.path(), &nano, &options));
    assert_eq!(tiles(&folder).iter().map(kept).collect::<Vec<_>>(), history);

    let second = start(folder.path(), &nano, &options);
    until("experts are read", || second.metric("wick_read_bytes") > 0.0);
    let empty = TempDir::new().unwrap();
    let cold = start(empty.path(), &nano, &options);
    assert_eq!(cold.metric("wick_read_bytes"), 0.0);
    let text = "turn on the lamp";
    let answer = ask(&cold, text)["choices"].clone();
    assert_eq!(ask(&second, text)["choices"], answer);
    let (warm, cold) = (hits(&second), hits(&cold));
    println!("hits of the first tokens: {warm:.3} with, {cold:.3} without");
    assert!(warm > cold, "{warm}, {cold}");

    // What is damaged is done without.
    end(second);
    for path in tiles(&folder) {
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let third = start(folder.path(), &nano, &options);
    assert_eq!(ask(&third, text)["choices"], answer);
}
