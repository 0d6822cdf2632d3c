//! `wick plan`.

use crate::program::{fails, least, nano, stdout, wick};
use serde_json::Value;
use std::fs;
use std::process::Command;

#[test]
fn plans_tell_what_memory_is_for() {
    let nano = nano();
    let least = least(&wick(&["plan", "-m", &nano, "--memory", "100K"]));
    let memory = format!("{}K", least + 1024);
    let text = stdout(&wick(&["plan", "-m", &nano, "--memory", &memory]));
    assert!(text.contains(" of KV cache and scratch to "), "{text}");
    let text = wick(&["plan", "-m", &nano, "--memory", &memory, "--board", "pi5", "--json"]);
    let plan: Value = serde_json::from_str(&stdout(&text)).unwrap();
    let number = |key: &str| plan[key].as_u64().unwrap() as usize;
    let parts = ["dense_weights", "kv", "scratch", "sampler", "program", "requests", "slots"];
    let sum: usize = parts.into_iter().map(number).sum();
    // What aligns the arena is no part.
    assert!((sum..sum + 4096).contains(&number("total")), "{plan}");
    assert!(number("total") <= (least + 1024) * 1024, "{plan}");
    assert!(number("expert_slots") >= 4 && number("expert_slots") < number("experts"), "{plan}");
    assert!(plan["bounds"][0]["storage"].as_f64().unwrap() > 0.0, "{plan}");
    assert_eq!(number("budget"), (least + 1024) * 1024);
    let whole = stdout(&wick(&["plan", "-m", &nano, "--json"]));
    assert!(whole.contains("\"storage_bytes_per_token\": 0.0"), "{whole}");
    for (arguments, why) in [
        (&["plan", "--measure"][..], "--measure: nano, built in has no file to read from"),
        (&["plan", "--measure", &nano], "nano.gguf is too small a file to tell"),
    ] {
        let output = wick(arguments);
        stdout(&output);
        assert!(String::from_utf8(output.stderr).unwrap().contains(why), "{why}");
    }
    let text = stdout(&wick(&["plan", "-m", &nano]));
    assert!(text.contains("128 of 128 in memory"), "{text}");
    fails(&wick(&["plan", "--memory", "lots"]), 2, "a size such as 512M");
    fails(&wick(&["plan", "--board", "toaster"]), 2, "pi5");
    fails(&wick(&["plan", "--memory", "100K"]), 4, "is the least that would do");
}

/// A service takes as many sequences as leave all experts in memory; where there is little, one, then with fewer positions.
#[test]
fn a_service_is_planned_by_what_memory_there_is() {
    let nano = nano();
    let plan = |options: &[&str]| -> Value {
        let plan = ["plan", "-m", &nano, "--serve", "--json"];
        serde_json::from_str(&stdout(&wick(&[&plan[..], options].concat()))).unwrap()
    };
    let number = |plan: &Value, key: &str| plan[key].as_u64().unwrap() as usize;
    let whole = plan(&[]);
    assert_eq!((number(&whole, "sequences"), number(&whole, "slots")), (4, 0), "{whole}");
    let requests = number(&whole, "requests");
    assert!(requests > 10 << 20, "{whole}");
    assert_eq!(number(&plan(&["--parallel", "3"]), "sequences"), 3);
    let kib = |plan: &Value, less: usize| format!("{}K", (number(plan, "total") - less) / 1024);
    // Without 64 KiB, some experts would have to be read: two sequences leave all in memory.
    let small = plan(&["--memory", "64M"]);
    let two = plan(&["--memory", &kib(&small, 64 << 10)]);
    assert_eq!((number(&two, "sequences"), number(&two, "slots")), (2, 0), "{two}");
    let one = plan(&["--memory", &kib(&plan(&["--parallel", "1", "--memory", "64M"]), 64 << 10)]);
    assert_eq!(number(&one, "sequences"), 1, "{one}");
    assert!(number(&one, "slots") > 4 * number(&one, "kv"), "{one}");
}

/// Where a KV cache of the usual length leaves little for experts, it is shorter, but not where somebody says how long.
#[test]
fn a_service_has_fewer_positions_where_memory_is_scarce() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let file = path.to_str().unwrap();
    stdout(&wick(&["synth", "--shape", "tiny,layers=4,context=8192", "--no-run", "-o", file]));
    let serve = ["plan", "-m", file, "--serve", "--json"];
    let plan = |memory: &str, options: &[&str]| -> Value {
        let all = [&serve[..], &["--memory", memory], options].concat();
        serde_json::from_str(&stdout(&wick(&all))).unwrap()
    };
    let refused = wick(&[&serve[..], &["--memory", "1M"]].concat());
    let memory = format!("{}K", least(&refused) + 100);
    let short = plan(&memory, &[]);
    assert_eq!((&short["sequences"], &short["context"]), (&1.into(), &1024.into()), "{short}");
    let told = plan(&memory, &["--context", "700"]);
    assert_eq!(told["context"], 700);
    let whole = plan("1G", &[]);
    assert_eq!((&whole["sequences"], &whole["context"]), (&4.into(), &4096.into()), "{whole}");
}

/// The total is one: what `plan` and `inspect` show, with which all is in memory, and what is not taken.
#[test]
fn plan_inspect_and_the_process_name_the_same_total() {
    let nano = nano();
    let json =
        |arguments: &[&str]| -> Value { serde_json::from_str(&stdout(&wick(arguments))).unwrap() };
    let planned = json(&["plan", "-m", &nano, "--json"])["total"].as_u64().unwrap() as usize;
    let memory = &json(&["inspect", "-m", &nano, "--json"])["memory"];
    // What the two have allocated by themselves differs.
    let shown = memory["total"].as_u64().unwrap() as usize;
    assert!(planned.abs_diff(shown) < 1 << 20, "{planned} and {shown}");
    let within = |bytes: usize| {
        let memory = format!("{}K", bytes.div_ceil(1024));
        let bench = ["bench", "-m", &nano, "-p", "64", "-n", "8", "--memory", &memory, "--json"];
        json(&bench)
    };
    assert!(within(planned + (1 << 20))["decode_experts"].is_null());
    assert!(!within(planned - (1 << 20))["decode_experts"].is_null());
    let options =
        ["bench", "-m", &nano, "-p", "64", "-n", "8", "--context", "512", "--no-bandwidth"];
    let taken = json(&[&options[..], &["--json"]].concat())["peak_resident"].as_u64().unwrap();
    assert!((taken as usize) < planned && taken as usize > planned / 2, "{taken} of {planned}");
}

/// Boards are data: a user's own goes before one that is built in.
#[test]
fn boards_can_be_added() {
    let folder = tempfile::tempdir().unwrap();
    let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../../boards/linux/profiles/pi5.toml");
    let text = fs::read_to_string(built_in).unwrap();
    fs::write(folder.path().join("shelf.toml"), text.replace("Raspberry Pi 5", "Shelf")).unwrap();
    let plan = |board: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wick"));
        command.env("WICK_BOARDS", folder.path()).args(["plan", "--board", board, "--json"]);
        command.output().unwrap()
    };
    let report: Value = serde_json::from_str(&stdout(&plan("shelf"))).unwrap();
    assert_eq!(report["bounds"][0]["source"], "Shelf, SD card");
    assert!(report["bounds"][0]["expected"].as_f64() > Some(0.0), "{report}");
    assert!(["memory", "processors"].contains(&report["bounds"][0]["by"].as_str().unwrap()));
    fails(&plan("toaster"), 2, "no board \"toaster\"; known are shelf, pi3");
    fs::write(folder.path().join("shelf.toml"), text.replace("[storage]", "[storage]\nx = 1"))
        .unwrap();
    fails(&plan("shelf"), 2, "shelf.toml");
    stdout(&plan("pi5"));
    let escapes = text.replace("Raspberry Pi 5, SD card", "\\u001b[31mRed\\u0007");
    fs::write(folder.path().join("shelf.toml"), escapes).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wick"));
    command.env("WICK_BOARDS", folder.path()).args(["plan", "--board", "shelf"]);
    let shown = stdout(&command.output().unwrap());
    assert!(shown.contains("by             \\x1b[31mRed\\x07\n"), "{shown}");
}
