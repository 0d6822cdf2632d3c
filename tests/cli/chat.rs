//! `wick chat`: conversations from a pipe and at a terminal.

use crate::person::Person;
use crate::program::{Q8_0, fails, golden, interrupt, start, stdout, wick_with};
use std::io::{Read, Write};
use std::process::Output;
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
