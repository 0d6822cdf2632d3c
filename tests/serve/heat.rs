//! A service on a board that becomes hot.

use crate::client::{Service, until};
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use wick_tests::machine::machine;

#[test]
fn a_hot_board_takes_fewer_threads_and_says_so() {
    let rock = machine("rk3588");
    let root = rock.path().to_str().unwrap();
    let state = rock.path().join("sys/class/thermal/cooling_device1/cur_state");
    fs::write(&state, "0\n").unwrap();
    let service = Service::start(&["--machine", root]);
    let threads = service.metric("wick_threads");
    assert_eq!(service.metric("wick_board_celsius"), 87.769);
    assert_eq!(service.metric("wick_board_throttled"), 0.0);
    let ask = || {
        let body = json!({"prompt": "turn", "max_tokens": 24, "temperature": 0});
        service.post("/v1/completions", &body).json()["choices"].clone()
    };
    let cool = ask();
    fs::write(&state, "3\n").unwrap();
    until("the board is hot", || service.metric("wick_board_throttled") == 1.0);
    let fewer = (threads - 1.0).max(1.0);
    until("fewer threads compute", || service.metric("wick_threads") == fewer);
    assert_eq!(ask(), cool, "no bit depends on it");
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, Some(0));
    let expected = format!("the board is hot (88 °C): {fewer} of {threads} threads compute");
    assert!(threads < 2.0 || said.contains(&expected), "{said}");
}

#[test]
fn too_little_voltage_is_told() {
    let zero = machine("zero2w");
    let alarm = zero.path().join("sys/class/hwmon/hwmon1/in0_lcrit_alarm");
    fs::write(&alarm, "0\n").unwrap();
    let service = Service::start(&["--machine", zero.path().to_str().unwrap()]);
    until("it is looked", || service.metric("wick_board_celsius") == 47.236);
    assert_eq!(service.metric("wick_board_under_voltage"), 0.0);
    fs::write(&alarm, "1\n").unwrap();
    until("the voltage is low", || service.metric("wick_board_under_voltage") == 1.0);
    service.signal(Signal::TERM);
    assert!(service.end().1.contains("the board has too little voltage"));
}
