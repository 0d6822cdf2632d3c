//! The flags of the verbs, side by side: one word for one thing, and none that a verb has no use for.

use crate::program::{golden, stdout, wick_with};
use std::collections::BTreeMap;

const VERBS: [&str; 12] = [
    "run",
    "chat",
    "tokenize",
    "detokenize",
    "logits",
    "inspect",
    "eval",
    "bench",
    "plan",
    "synth",
    "pack",
    "unpack",
];

/// What wick prints without input.
fn wick(arguments: &[&str]) -> String {
    stdout(&wick_with(b"", arguments))
}

/// The path of a golden model.
fn model(name: &str) -> String {
    golden(name).display().to_string()
}

/// An option that a verb shows: its heading, its short form and its long one.
type Shown = (String, Option<char>, String);

fn options(verb: &str) -> Vec<Shown> {
    let help = wick(&[verb, "-h"]);
    let (mut heading, mut found) = (String::new(), Vec::new());
    for line in help.lines() {
        let word = line.trim_start();
        if let Some(title) = line.strip_suffix(':').filter(|title| !title.starts_with(' ')) {
            heading = title.into();
        } else if word.starts_with('-') {
            let (flags, _) = word.split_once("  ").unwrap();
            let name = |start: &str| {
                flags.split([' ', ',', '.']).find_map(|f| Some(f.strip_prefix(start)?.to_owned()))
            };
            let short =
                name("-").filter(|f| !f.starts_with('-')).map(|f| f.chars().next().unwrap());
            let long = name("--").unwrap_or_else(|| panic!("{verb}: {flags} has no long form"));
            found.push((heading.clone(), short, long));
        }
    }
    assert!(found.len() > 1, "{help}");
    found
}

#[test]
fn a_short_flag_is_one_long_flag_in_every_verb() {
    let mut shorts = BTreeMap::new();
    let mut headings = BTreeMap::new();
    for verb in VERBS {
        for (heading, short, long) in options(verb) {
            if let Some(short) = short {
                let known = shorts.entry(short).or_insert_with(|| long.clone());
                assert_eq!(*known, long, "{verb} -{short}");
            }
            // What a file is packed for is no approximation, and weights have a seed of their own.
            if ![("pack", "output"), ("pack", "low-bit"), ("synth", "seed")]
                .contains(&(verb, &*long))
            {
                let known =
                    headings.entry(long.clone()).or_insert_with(|| (heading.clone(), short));
                assert_eq!(*known, (heading, short), "{verb} --{long}");
            }
        }
    }
    for (short, long) in [('m', "model"), ('n', "tokens"), ('o', "out"), ('c', "context")] {
        assert_eq!(shorts[&short], long);
    }
    for (long, heading) in [
        ("memory", "Memory and streaming"),
        ("emulate", "Memory and streaming"),
        ("low-bit", "Approximations"),
        ("output", "Approximations"),
        ("top-k", "Sampling"),
        ("presence-penalty", "Sampling"),
        ("frequency-penalty", "Sampling"),
        ("threads", "Options"),
    ] {
        assert_eq!(headings[long].0, heading, "--{long}");
    }
}

#[test]
fn a_verb_shows_flags_that_it_has_use_for() {
    let all = VERBS.map(|verb| (verb, options(verb)));
    let of = |flag: &str| {
        let shows = |options: &[Shown]| options.iter().any(|(.., long)| long == flag);
        let verbs = all.iter().filter(|(_, options)| shows(options)).map(|(verb, _)| *verb);
        verbs.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of("temperature"), "run chat");
    assert_eq!(of("low-bit"), "run chat eval bench pack");
    assert_eq!(of("emulate"), "run chat eval bench");
    assert_eq!(of("output"), "run chat eval bench plan pack");
    assert_eq!(of("threads"), "run chat logits eval bench synth pack");
    assert_eq!(of("memory"), "run chat logits eval bench plan synth");
    assert_eq!(of("out"), "logits synth pack unpack");
    assert_eq!(of("json"), "run chat tokenize inspect eval bench plan");
    assert_eq!(of("verbose"), VERBS.join(" "));
}

#[test]
fn a_file_needs_no_flag() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, text) = (model("q4_0-tied.gguf"), path("text"));
    std::fs::write(&text, "the lamp in the hall is on").unwrap();
    let cases: [(&str, &[&str]); 7] = [
        ("the lamp", &["tokenize"]),
        ("300 301", &["detokenize"]),
        ("", &["logits", "--ids", "1 2 3"]),
        ("", &["inspect"]),
        ("", &["eval", "--text", &text, "-c", "8"]),
        ("", &["plan", "--json", "--memory", "1G"]),
        ("hello", &["chat", "--temperature", "0", "-n", "9"]),
    ];
    for (input, verb) in cases {
        let with = |more: &[&str]| wick_with(input.as_bytes(), &[verb, more].concat());
        // What the process has taken already differs a little from run to run.
        let same = |output| {
            let lines = stdout(&output);
            let varies = ["\"program\"", "\"total\"", "memory  ", "fits  "];
            let lines = lines.lines().filter(|line| varies.iter().all(|v| !line.contains(v)));
            lines.collect::<Vec<_>>().join("\n")
        };
        let given = same(with(&[&file]));
        assert!(!given.is_empty());
        assert_eq!(same(with(&["-m", &file])), given, "{verb:?}");
        assert_eq!(same(with(&["--model", &file])), given, "{verb:?}");
        assert_ne!(same(with(&[])), given, "{verb:?}: nano");
        let both = with(&[&file, "-m", &file]);
        let err = String::from_utf8_lossy(&both.stderr);
        assert!(both.status.code() == Some(2) && err.contains("cannot be used with"), "{err}");
    }
    let bench = ["bench", &file, "-p", "2", "-n", "2", "-r", "1", "--no-bandwidth"];
    assert!(wick(&bench).contains(&file));
}

#[test]
fn files_are_packed_and_unpacked_with_and_without_flags() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, packed, unpacked) = (model("q4_0-tied.gguf"), path("packed"), path("unpacked"));
    let read = |path: &str| std::fs::read(path).unwrap();
    wick(&["pack", &file, "-o", &packed]);
    let expected = read(&packed);
    wick(&["pack", "-m", &file, "--out", &packed]);
    assert!(read(&packed) == expected);
    for arguments in [["unpack", &packed, "--out", &unpacked], ["unpack", "-o", &unpacked, &packed]]
    {
        wick(&arguments);
        assert!(read(&unpacked) == read(&file));
    }
    wick(&["unpack", "--model", &packed, "-o", &unpacked]);
    for refused in [
        &["pack", &file, "-m", &file, "-o", &unpacked][..],
        &["pack", "-o", &unpacked],
        &["pack", "-m", &file, "--verify", &packed],
        &["unpack", &packed, "-m", &packed, "-o", &unpacked],
        &["unpack", "-m", &packed],
        &["unpack", "-o", &unpacked],
    ] {
        assert_eq!(wick_with(b"", refused).status.code(), Some(2), "{refused:?}");
    }
}

#[test]
fn old_spellings_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf").display().to_string();
    wick(&["synth", "--shape", "tiny", "--no-run", "--output", &path]);
    let run = ["run", "--raw", "--temperature", "0", "abc", "-m", &path];
    let text = |flag| wick(&[&run[..], &[flag, "5"]].concat());
    assert_eq!(text("--n"), text("--tokens"));
    assert_eq!(text("--n"), text("-n"));
    assert_ne!(text("--n"), wick(&[&run[..], &["-n", "9"]].concat()));
}
