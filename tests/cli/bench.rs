//! `wick bench`: figures that fit each other.

use crate::person::Person;
use crate::program::{fails, interrupt, least, nano, stdout, wick};
use serde_json::Value;

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

/// Side by side, sequences share what they read.
#[test]
fn sequences_are_measured_side_by_side() {
    let bench = |more: &[&str]| {
        let bench = ["bench", "-p", "3", "-n", "4", "-r", "1", "--no-bandwidth"];
        stdout(&wick(&[&bench[..], more].concat()))
    };
    let json = |more: &[&str]| -> Value {
        serde_json::from_str(&bench(&[more, &["--json"]].concat())).unwrap()
    };
    let (one, three) = (json(&[]), json(&["--parallel", "3"]));
    assert_eq!((&one["sequences"], &three["sequences"]), (&1.into(), &3.into()));
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    // Of nano's 16 experts, 4 are chosen for a token.
    assert_eq!(number(&one["experts"]), 4.0, "{one}");
    assert!((4.0..=12.0).contains(&number(&three["experts"])), "{three}");
    let dense = |found: &Value| number(&found["weights"]["dense"]);
    assert!((0.3..0.4).contains(&(dense(&three) / dense(&one))), "{one} {three}");
    let total = |found: &Value| number(&found["weights"]["total"]);
    assert!(total(&three) < total(&one), "{one} {three}");
    let text = bench(&["--parallel", "3"]);
    assert!(text.contains("rounds of 4 tokens in each of 3 sequences"), "{text}");
    assert!(text.contains(" different ones in a layer of a step"), "{text}");
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
    let on_board = bench(&["--emulate", "pi4"]);
    let moved = on_board["decode_experts"]["device_bytes_per_second"].as_f64().unwrap();
    assert!(moved < 50e6, "{on_board}");
    let preferring = bench(&["--prefer-resident", "100"]);
    let read = |report: &Value| report["decode_experts"]["bytes_per_token"].as_f64().unwrap();
    assert!(read(&preferring) < read(&report), "{preferring}");
}

/// By default all fits into what the model was made for, and what does not fit into --context is refused.
#[test]
fn a_measurement_fits_into_the_context() {
    let output = wick(&["bench", "-r", "1", "--no-bandwidth", "--json"]);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&found["prompt"], &found["decoded"]), (&384.into(), &128.into()));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let bench = |arguments: &[&str]| wick(&[&["bench", "-r", "1"], arguments].concat());
    let error = "-p 512 and -n 128 need 640 positions; --context 10 is less";
    fails(&bench(&["-c", "10"]), 2, error);
    fails(&bench(&["-c", "10", "-p", "9", "-n", "2"]), 2, "-p 9 and -n 2 need 11 positions");
    stdout(&bench(&["-c", "10", "-n", "2", "--no-bandwidth"]));
}

#[test]
fn a_long_measurement_shows_how_far_it_is() {
    let mut person = Person::new(&["bench", "--rounds", "1000"]);
    person.sees_then("measuring ", " of 512000 tokens, ");
    interrupt(&person.child);
    person.sees_it_end(130);
}
