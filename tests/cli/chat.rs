//! `wick chat`: conversations from a pipe.

use crate::program::{fails, interrupt, nano, start, stdout, wick, wick_with};
use serde_json::Value;
use std::io::{Read, Write};
use std::process::{Command, Output};
use wick_tests::tiny::Tiny;

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
    assert_eq!(lines, ["In which room is the light?", "", answer, ""]);
    let lines = [lines[0], lines[2]];

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
    assert_eq!(said, format!("In which room is the light?\n\n{alone}\n"));
    assert!(stdout(&chat("/help\n", &[])).contains("/new"));
}

/// Of a context of 96, 24 are for the answer: two commands fit, with the system message. What is dropped leaves a
/// third of the room free, so that the next turn reads no more than its message.
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
    let output = chat(&commands.join("\n"), &["-v", "--context", "96", "--system", "Be brief."]);
    let said = stdout(&output);
    let read = figures(&output, "prefill:");
    let answers: Vec<&str> = said.lines().step_by(2).collect();
    assert_eq!((answers.len(), read.len()), (commands.len(), commands.len()));
    let mut messages = Vec::new();
    let mut dropped = 0;
    for ((command, answer), read) in commands.iter().zip(answers).zip(read) {
        messages.push(chatml("user", command));
        let all = |messages: &[String]| [std::slice::from_ref(&system), messages].concat();
        let count = |text: String| {
            let text = text + "<|im_start|>assistant\n";
            stdout(&wick_with(text.as_bytes(), &["tokenize"])).split(' ').count()
        };
        let whole = count(all(&messages).concat());
        if whole > 72 {
            while count(all(&messages).concat()) > 48 {
                messages.drain(..2);
                dropped += 1;
            }
        } else if messages.len() > 1 {
            assert!(read < whole / 2, "{read} of {whole} tokens read");
        }
        assert_eq!(fresh(&all(&messages)).trim_end(), answer, "{command}");
        messages.push(chatml("assistant", answer));
    }
    assert!(dropped > 1, "{dropped} messages dropped");
    let told = "wick: the context of 96 is full; the oldest messages are forgotten\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches(told).count(), 1);
}

#[test]
fn a_chat_that_cannot_begin_is_refused() {
    fails(&chat("hello", &["--context", "0"]), 2, "1 to 16777216");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.gguf");
    std::fs::write(&path, Tiny::default().to_bytes()).unwrap();
    fails(&chat("hello", &["-m", path.to_str().unwrap()]), 3, "wick run --raw");
}

/// A line that is wrong is said and no end; the exit code tells that there was one.
#[test]
fn a_chat_from_a_pipe_goes_on_after_what_is_wrong() {
    let right = stdout(&chat("hello\n", &[]));
    for (line, error) in [
        ("lamp ".repeat(600).as_bytes(), "612 tokens and the context 512, of which 24"),
        (b"/fly", "no command /fly"),
        (b"a\xffb", "the message: UTF-8 expected, byte 1 is not"),
        (b"/retry", "nothing was said yet"),
        (b"/undo", "nothing was said yet"),
        (b"/save", "/save FILE expected"),
        (b"/load /nowhere", "/nowhere: No such file"),
    ] {
        let lines = [line, b"\nhello\n"].concat();
        let output = wick_with(&lines, &["chat", "--temperature", "0", "-n", "24"]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{err}");
        assert!(err.lines().count() == 1 && err.contains(error), "{error:?}: {err}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), right, "{error:?}");

        let output = wick_with(&lines, &["chat", "--temperature", "0", "-n", "24", "--json"]);
        let objects = objects(&output);
        assert!(objects[0]["error"].as_str().unwrap().contains(error), "{objects:?}");
        assert_eq!(objects[1]["text"].as_str().unwrap().trim_end(), right.trim_end());
    }
    assert_eq!(stdout(&chat("//x\n", &[])).trim_end(), fresh(&[chatml("user", "/x")]).trim_end());
}

/// That is no wrong input, and no end.
#[test]
fn a_conversation_that_cannot_be_saved_goes_on() {
    for (lines, code) in
        [("/save /dev/null/x\nhello\n/fly\n", 1), ("/fly\n/save /dev/null/x\nhello", 5)]
    {
        let output = chat(lines, &[]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.contains("/dev/null/x: 3 bytes cannot be written: Not a directory"), "{err}");
        assert_eq!((output.status.code(), err.lines().count()), (Some(code), 2), "{err}");
        assert_eq!(output.stdout, chat("hello\n", &[]).stdout);
    }
}

/// What other programs have saved is taken as far as it can be, and what is unusual is said.
#[test]
fn conversations_of_others_are_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let load = |json: &str, after: &str| {
        std::fs::write(&file, json).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_wick"));
        program.args(["chat", "--temperature", "0", "-n", "24", "--system", "Be brief."]);
        let lines = folder.path().join("lines");
        std::fs::write(&lines, format!("/load ~/talk.json\n{after}")).unwrap();
        let stdin = std::fs::File::open(lines).unwrap();
        program.env("HOME", folder.path()).stdin(stdin).output().unwrap()
    };
    for wrong in ["{}", "[1]", r#"["user", "x"]"#, r#"[{"role": "user", "content": 1}]"#, "null"] {
        fails(&load(wrong, ""), 5, r#"talk.json: a list of {"role": …, "content": …} expected"#);
    }
    let said =
        |json: &str| String::from_utf8(load(json, "/system\n/save ~/again\n").stderr).unwrap();
    let again = || std::fs::read_to_string(folder.path().join("again")).unwrap();
    let one = said(r#"[{"role": "user", "content": "hello"}]"#);
    assert!(one.contains("talk.json: 1 message\n"), "{one}");
    assert!(one.contains("the system message is: Be brief."), "{one}");
    assert!(again().contains("Be brief.") && again().contains("hello"));
    let other = said(
        r#"[{"role": "system", "content": "Be long."}, {"role": "assistant", "content": "x"}]"#,
    );
    assert!(other.contains("the system message is: Be long."), "{other}");
    assert!(
        other.contains(r#"the conversation begins with role "assistant", not "user""#),
        "{other}"
    );
    let strange = said(r#"[{"role": "user", "content": "x"}, {"role": "bot", "content": "y"}]"#);
    assert!(strange.contains(r#"role "bot" is none of user, assistant, system"#), "{strange}");
}

/// What is written with `--json`, an object a line.
fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn answers_are_objects_on_request() {
    let output = chat("turn on the light\nthe kitchen", &["--json"]);
    let found = objects(&output);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        (&found[0]["text"], &found[0]["finish"]),
        (&"In which room is the light?".into(), &"stop".into())
    );
    let number = |i: usize, key: &str| found[i][key].as_u64().unwrap();
    assert_eq!(number(0, "cached_tokens"), 0);
    assert!(number(1, "cached_tokens") >= number(0, "prompt_tokens"), "{found:?}");
    assert!(number(1, "prompt_tokens") > number(1, "cached_tokens"), "{found:?}");
    assert!(found[1]["seconds"]["decode"].as_f64().unwrap() > 0.0);
    assert_eq!(number(0, "seed"), number(1, "seed"));

    // Nothing else is on stdout.
    let output = chat("/help\nturn on the light\n", &["--json"]);
    assert_eq!(objects(&output)[0]["text"], found[0]["text"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("/retry"));
}

#[test]
fn what_was_said_can_be_taken_back_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my talk.json").display().to_string();
    let light = "turn on the light";
    let whole = stdout(&chat(&format!("{light}\nthe kitchen\n"), &[]));
    let (first, second) = whole.split_once("\n\n").unwrap();
    let answers = |lines: &str| stdout(&chat(lines, &[]));
    assert_eq!(
        answers(&format!("{light}\nhello\n/undo\nthe kitchen\n")).lines().last(),
        second.lines().last()
    );
    assert_eq!(answers(&format!("{light}\n/retry\n")), format!("{first}\n\n{first}\n\n"));
    // Another choice at random.
    let lines = format!("{light}\n{}", "/retry\n".repeat(9));
    let drawn = wick_with(
        lines.as_bytes(),
        &["chat", "--temperature", "5", "--top-p", "1", "-n", "9", "--seed", "1", "--json"],
    );
    let texts: Vec<String> = objects(&drawn).iter().map(|o| o["text"].to_string()).collect();
    assert!(texts.len() == 10 && texts[1..].iter().any(|text| *text != texts[0]), "{texts:?}");

    let saved = chat(&format!("/system Be brief.\n{light}\n/save {path}\n/system\n"), &[]);
    assert!(String::from_utf8_lossy(&saved.stderr).contains("the system message is: Be brief."));
    let text = std::fs::read_to_string(&path).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let said = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    let system = said("system", "Be brief.");
    assert_eq!(json, serde_json::json!([system, said("user", light), said("assistant", first)]));
    let expected = fresh(&[
        chatml("system", "Be brief."),
        chatml("user", light),
        chatml("assistant", first),
        chatml("user", "the kitchen"),
    ]);
    assert_eq!(answers(&format!("/load {path}\nthe kitchen\n")).trim_end(), expected.trim_end());

    // Neither the model nor anything by halves.
    let refused = wick_with(format!("/save {}\n", nano()).as_bytes(), &["chat", &nano()]);
    fails(&refused, 5, "nano.gguf");
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    let broken = chat(&format!("{light}\n/load {path}\nthe kitchen\n"), &[]);
    assert_eq!(String::from_utf8_lossy(&broken.stdout), whole);
    assert!(String::from_utf8_lossy(&broken.stderr).contains("my talk.json: EOF while parsing"));
}

/// Neither the template nor what the lines come from.
#[test]
fn a_conversation_is_not_saved_over_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (template, link, lines) = (path("chat.jinja"), path("link"), path("lines"));
    std::fs::write(&template, "{{ messages[-1].content }}").unwrap();
    std::os::unix::fs::symlink("chat.jinja", &link).unwrap();
    let output = chat(&format!("/save {link}\n"), &["--chat-template", &template]);
    fails(&output, 5, "link: is the input; name another file");
    for name in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let output = chat(&format!("/save {name}\n"), &[]);
        fails(&output, 5, &format!("{name}: is the input; name another file"));
    }
    for name in ["/dev/stdin", &lines] {
        let said = format!("/save {name}\n/save /dev/null\n");
        std::fs::write(&lines, &said).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_wick"));
        let stdin = std::fs::File::options().read(true).write(true).open(&lines).unwrap();
        fails(&program.arg("chat").stdin(stdin).output().unwrap(), 5, ": is the input");
        assert_eq!(std::fs::read_to_string(&lines).unwrap(), said);
    }
    assert_eq!(std::fs::read_to_string(&template).unwrap(), "{{ messages[-1].content }}");
    assert_eq!(chat("/save /dev/stdout\n", &[]).stdout, b"[]\n");
}

/// Also where old messages are forgotten for it.
#[test]
fn an_answer_that_is_drawn_again_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (long, kept) = (path("long"), path("kept"));
    let said = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    let turn = [said("user", "turn on the light"), said("assistant", "the old answer")];
    std::fs::write(&long, Value::from([&turn[..]; 40].concat()).to_string()).unwrap();
    let lines = format!("/load {long}\n/retry\n/save {kept}\n");
    let answer = stdout(&chat(&lines, &["-c", "512"]));
    let saved: Vec<Value> = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    assert!(saved.len() < 80, "{}", saved.len());
    assert_eq!(*saved.last().unwrap(), said("assistant", answer.trim_end()));
    assert_ne!(answer.trim_end(), "the old answer");
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

/// What a model or a file says moves no cursor.
#[test]
fn control_characters_are_shown_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf").display().to_string();
    let name = "a\x1b[2Jb\nfile  x\u{9b}c";
    let bytes = Tiny::default().writer().set("general.name", name).to_bytes();
    std::fs::write(&path, bytes).unwrap();
    let text = stdout(&wick_with(b"", &["inspect", &path]));
    assert!(text.contains(r"name        a\x1b[2Jb\nfile  x\x9bc"), "{text}");
    let refused = wick(&["run", "-m", "/no\x1b[2J\nwhere", "hi"]);
    fails(&refused, 3, r"/no\x1b[2J where: No such file");
}
