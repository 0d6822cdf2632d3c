//! `wick plan`.

use crate::program::{fails, least, nano, stdout, wick};
use serde_json::Value;

#[test]
fn plans_tell_what_memory_is_for() {
    let nano = nano();
    let least = least(&wick(&["plan", "-m", &nano, "--memory", "100K"]));
    let memory = format!("{}K", least + 1024);
    let text = wick(&["plan", "-m", &nano, "--memory", &memory, "--board", "pi5", "--json"]);
    let plan: Value = serde_json::from_str(&stdout(&text)).unwrap();
    let number = |key: &str| plan[key].as_u64().unwrap() as usize;
    let parts = ["dense_weights", "kv", "scratch", "sampler", "program", "slots"];
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
