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
