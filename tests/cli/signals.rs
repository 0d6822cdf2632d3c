//! How every verb ends when it is told to, and when nobody can read what it says.

use crate::person::Person;
use crate::program::{Q8_0, fails, golden, nano, start, stdout, wick};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How processes are ended, and the codes with which they end.
const ENDS: [(Signal, i32); 3] = [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)];

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits until the process has a handler for SIGTERM.
fn watches(child: &Child) {
    let end = Instant::now() + Duration::from_secs(60);
    let caught = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() >> (Signal::TERM.as_raw() - 1) & 1 == 1
    };
    while !caught() {
        assert!(Instant::now() < end, "no handler");
        sleep(Duration::from_millis(2));
    }
}

/// Checks that a signal ends the process with this code, quickly and without a word.
fn ends(mut child: Child, signal: Signal, code: i32, what: &str) {
    send(&child, signal);
    let start = Instant::now();
    let status = child.wait().unwrap();
    // What is ended takes minutes otherwise; a busy machine may be slow to end it.
    assert!(start.elapsed() < Duration::from_secs(20), "{what}, {signal:?}: {:?}", start.elapsed());
    assert_eq!(status.code(), Some(code), "{what}, {signal:?}: {status}");
    let mut err = String::new();
    child.stderr.unwrap().read_to_string(&mut err).unwrap();
    let said = err.lines().any(|line| line.starts_with("wick: ") && !line.contains("warning: "));
    assert!(!said, "{what}, {signal:?}: {err}");
}

/// Every verb, in something that takes minutes if nobody ends it.
fn endless() -> Vec<String> {
    let [model, text] = [Q8_0, "index.json"].map(|name| golden(name).display().to_string());
    let ids = vec!["1"; 20_000].join(",");
    vec![
        "run".into(),
        "chat".into(),
        "tokenize".into(),
        "detokenize".into(),
        format!("run -m {model} --raw abc -n 100000000 --context 8000000 --temperature 0"),
        format!("logits -m {model} --ids {ids}"),
        "bench -r 1000000".into(),
        format!("eval -m {model} --text {text} --context 4 --batch 1"),
        "synth --shape 4b -o /dev/null".into(),
        "eval --text /dev/stdin".into(),
    ]
}

#[test]
fn every_verb_ends_at_once() {
    for verb in endless() {
        for (signal, code) in ENDS {
            let mut child = start(&verb.split(' ').collect::<Vec<_>>());
            // Kept open: an end of input is another end.
            let _stdin = child.stdin.take();
            watches(&child);
            // Whatever it is doing by then.
            sleep(Duration::from_millis(30));
            ends(child, signal, code, &verb);
        }
    }
}

/// Whoever cannot check, since nobody reads what it writes, ends as well; at once at a second signal.
#[test]
fn a_verb_that_is_stuck_ends() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe").display().to_string();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (signal, code) in ENDS {
        for times in [1, 2] {
            let child = start(&["synth", "--shape", "4b", "--no-run", "-o", &pipe]);
            let _nobody_reads = std::fs::File::open(&pipe).unwrap();
            sleep(Duration::from_millis(200));
            let first = Instant::now();
            if times == 2 {
                send(&child, signal);
                sleep(Duration::from_millis(50));
            }
            ends(child, signal, code, "synth");
            let took = first.elapsed().as_millis();
            assert_eq!(took < 700, times == 2, "{signal:?}, {times} times: {took} ms");
        }
    }
}

#[test]
fn sighup_that_is_ignored_stays_ignored() {
    let script = r#"trap '' HUP; exec "$0" chat --temperature 0"#;
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_wick")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    watches(&child);
    send(&child, Signal::HUP);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"turn on the light\n").unwrap();
    let mut answer = [0; 28];
    child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"In which room is the light?\n");
    ends(child, Signal::TERM, 143, "chat");
}

#[test]
fn a_chat_at_a_terminal_ends() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut person = Person::new(&["chat"]);
        person.sees("nano, built in; /help");
        send(&person.child, signal);
        person.sees_it_end(code);
        // And in an answer, which ctrl-C would only stop.
        let path = golden(Q8_0);
        let long = ["-n", "100000000", "--context", "8000000", "--temperature", "0", "-m"];
        let mut person = Person::new(&[&["chat"], &long[..], &[path.to_str().unwrap()]].concat());
        person.sees("/help");
        person.types("abc\r");
        person.sees_then("abc", "\u{FFFD}");
        send(&person.child, signal);
        person.sees_it_end(code);
    }
}

#[test]
fn the_terminal_is_left_as_it_was() {
    use rustix::termios::{LocalModes, tcgetattr};
    let mut person = Person::new(&["chat"]);
    let is_raw = |person: &Person| {
        !tcgetattr(person.terminal()).unwrap().local_modes.contains(LocalModes::ICANON)
    };
    person.sees("nano, built in; /help");
    let end = Instant::now() + Duration::from_secs(60);
    while !is_raw(&person) {
        assert!(Instant::now() < end, "no line editor");
        sleep(Duration::from_millis(2));
    }
    send(&person.child, Signal::TERM);
    assert_eq!(person.child.wait().unwrap().code(), Some(143));
    assert!(!is_raw(&person));
}

/// Runs a verb with its stdout there.
fn into(stdout: Stdio, input: &[u8], arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_wick"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _refused = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Every verb in something that it says, with the input that it takes.
fn speaking(folder: &str) -> Vec<(String, &'static str)> {
    let (nano, text) = (nano(), golden("index.json").display().to_string());
    let [out, packed, skills] = ["out", "packed", "skills"].map(|name| format!("{folder}/{name}"));
    std::fs::write(&skills, r#"{"skill": "a", "prompt": "hi", "answer": "x"}"#).unwrap();
    stdout(&wick(&["pack", &nano, "-o", &packed]));
    let bench = "bench -r 1 -p 4 -n 4 --no-bandwidth";
    let verbs = [
        ("--help", ""),
        ("--version", ""),
        ("help run", ""),
        ("pack --help", ""),
        ("run -n 4 hi", ""),
        ("run -n 4 -v hi", ""),
        ("chat -n 4", "hi\n"),
        ("chat", "/help\n"),
        ("tokenize", "hello"),
        ("tokenize --json", "hello"),
        ("detokenize", "100 101"),
        ("logits --ids 1,2", ""),
        ("inspect", ""),
        ("inspect --json", ""),
        (&format!("eval --text {text}"), ""),
        (&format!("eval --skills {skills} --json"), ""),
        (bench, ""),
        (&format!("{bench} --json"), ""),
        ("plan", ""),
        ("plan --json", ""),
        (&format!("synth --shape tiny -n 8 -o {out}"), ""),
        (&format!("synth --shape tiny --no-run -o {out}"), ""),
        (&format!("pack {nano} -o {out}"), ""),
        (&format!("pack --verify {packed}"), ""),
        (&format!("unpack {packed} -o {out}"), ""),
    ];
    verbs.map(|(words, input)| (words.to_owned(), input)).into()
}

#[test]
fn what_nobody_can_read_is_a_failure_and_a_closed_pipe_is_none() {
    let folder = tempfile::tempdir().unwrap();
    for (verb, input) in speaking(folder.path().to_str().unwrap()) {
        let (words, input): (Vec<&str>, _) = (verb.split(' ').collect(), input.as_bytes());
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut output = into(full.into(), input, &words);
        // Figures on stderr may come before.
        let err = String::from_utf8(output.stderr).unwrap();
        let (last, others) = err.trim_end().rsplit_once('\n').map_or((&*err, ""), |(o, l)| (l, o));
        assert!(others.is_empty() || words.contains(&"-v"), "{words:?}: {err}");
        output.stderr = last.into();
        fails(&output, 1, "the output cannot be written: No space left on device");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = into(writer.into(), input, &words);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {err}");
    }
}
