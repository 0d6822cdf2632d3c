//! `wick doctor`.

use crate::program::{fails, model, nano, stdout, wick};
use serde_json::Value;
use std::fs;
use wick_tests::machine::{MACHINES, machine};

/// What the doctor says of a machine where half of nano's experts have room.
fn doctor(name: &str, place: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.gguf");
    fs::copy(nano(), &model).unwrap();
    let root = machine(name);
    let model = model.display().to_string();
    // The file lies elsewhere on that machine.
    let mounts = root.path().join("proc/self/mountinfo");
    let told = fs::read_to_string(&mounts).unwrap();
    let here = folder.path().display().to_string();
    let lines = told.lines().filter(|line| !line.is_empty());
    let moved = |line: &str| {
        let mut fields: Vec<&str> = line.split(' ').collect();
        fields[4] = if fields[4] == place { &here } else { fields[4] };
        fields.join(" ") + "\n"
    };
    fs::write(&mounts, lines.map(moved).collect::<String>()).unwrap();
    let root = root.path().display().to_string();
    let arguments = ["doctor", &model, "--root", &root, "--memory", "21M", "--json"];
    let mut report: Value = serde_json::from_str(&stdout(&wick(&arguments))).unwrap();
    // Each of them has more memory than this.
    let advice = report["advice"].as_array_mut().unwrap();
    let unused = |what: &str| what.starts_with("experts are read though");
    let is_unused = |advice: &Value| unused(advice["what"].as_str().unwrap());
    assert!(advice.iter().any(is_unused), "{name}");
    advice.retain(|advice| !is_unused(advice));
    for advice in advice {
        let what = advice["what"].as_str().unwrap().replace(&model, "@");
        advice["what"] = what.into();
    }
    report
}

/// The beginnings of what should be changed, in its order.
fn advice(report: &Value) -> Vec<String> {
    let all = report["advice"].as_array().unwrap();
    let first = |what: &str| what.split(' ').take(3).collect::<Vec<_>>().join(" ");
    all.iter().map(|advice| first(advice["what"].as_str().unwrap())).collect()
}

/// Each kind of trouble is found where it is, and nowhere else.
#[test]
fn machines_are_told_what_to_change() {
    let swap = "memory may be";
    let groups = "the kernel limits";
    let packed = "the file is";
    let card = "experts are read";
    for (name, place, expected) in [
        ("pi5", "/", vec![card, packed, swap, groups]),
        ("pi5", "/mnt/models\\040and\\040more", vec!["the drive runs", packed, swap, groups]),
        ("pi4", "/", vec!["the voltage is", "the board is", card, packed, "the governor of", swap]),
        (
            "pi4",
            "/media/stick",
            vec![
                "the voltage is",
                "the board is",
                "the drive hangs",
                packed,
                "the governor of",
                swap,
            ],
        ),
        ("zero2w", "/", vec!["the voltage is", card, packed, "memory is swapped", groups]),
        ("rk3588", "/", vec!["the board is", packed]),
        (
            "rk3566",
            "/",
            vec![packed, "the kernel is", "processors that are", "the control group", swap],
        ),
        ("rdk-x5", "/", vec![card, packed]),
        ("virtual", "/", vec![packed, "io_uring is forbidden"]),
        ("rk3588", "/tmp", vec!["the board is", "@ lies in", packed]),
    ] {
        let report = doctor(name, place);
        assert_eq!(advice(&report), expected, "{name} {place}: {report}");
    }
}

#[test]
fn boards_have_their_expectation() {
    let report = doctor("pi5", "/");
    assert_eq!(report["board"], "Raspberry Pi 5, SD card");
    assert_eq!(report["disk"]["kind"], "sd");
    assert_eq!(report["expected"].as_array().unwrap().len(), 1);
    assert_eq!(report["expected"][0]["by"], "reads of storage");
    assert!(report["plan"]["expert_slots"].as_u64() < Some(128), "{report}");
    assert!(report["measured"].is_null());
    let whole = machine("pi5");
    let root = whole.path().display().to_string();
    let text = stdout(&wick(&["doctor", "--root", &root]));
    for said in [
        "machine        Raspberry Pi 5 Model B Rev 1.0",
        "4 × Cortex-A76 at up to 2400 MHz, governor ondemand",
        "pages of 16 KiB",
        "heat           52 °C",
        "128 of 128 experts",
        "  1. memory may be swapped",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    for name in MACHINES {
        let root = machine(name);
        stdout(&wick(&["doctor", "--root", &root.path().display().to_string(), "--json"]));
    }
}

/// On this machine, whatever it is.
#[test]
fn this_machine_is_measured() {
    let file = model("f16-softmax-untied.gguf");
    let report: Value = serde_json::from_str(&stdout(&wick(&["doctor", &file, "--json"]))).unwrap();
    assert!(report["measured"]["memory"].as_f64() > Some(0.0), "{report}");
    assert!(report["measured"]["storage"].is_null(), "too small a file to tell: {report}");
    assert!(report["machine"]["memory"]["total"].as_u64() > Some(0), "{report}");
    let tight: Value = serde_json::from_str(&stdout(&wick(&[
        "doctor",
        &file,
        "--memory",
        "1M",
        "--no-measure",
        "--json",
    ])))
    .unwrap();
    assert!(tight["shortage"].as_str().unwrap().contains("is the least"), "{tight}");
    assert!(tight["plan"].is_null() && tight["measured"].is_null());
    assert_eq!(advice(&tight)[0], "the model does");
    let much = wick(&["doctor", &file, "--memory", "4000G", "--no-measure", "--json"]);
    let much: Value = serde_json::from_str(&stdout(&much)).unwrap();
    assert_eq!(advice(&much)[0], "--memory is 4096000.0", "{much}");
    fails(&wick(&["doctor", "--root", "/nowhere"]), 2, "a folder with proc and sys");
    fails(&wick(&["doctor", "/nowhere/model.gguf"]), 3, "No such file");
}
