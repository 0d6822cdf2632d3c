//! A service that keeps prompts, killed at any moment: what it has kept is whole, and the next start leaves nothing else.
//!
//! `WICK_KILLS` says at how many moments; CI does with a few.

use crate::client::{Service, few, nano};
use serde_json::{Value, json};
use std::path::Path;
use std::thread::sleep;
use std::time::Instant;
use std::{env, fs};

/// Bytes of a tile's file before the tile, and where among them its length stands.
const HEAD: usize = 16;
const LENGTH: std::ops::Range<usize> = 8..12;

fn kills() -> u32 {
    env::var("WICK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(few(6, 2) as u32)
}

fn start(folder: &Path) -> Service {
    let (cache, nano) = (folder.to_str().unwrap(), nano());
    Service::start(&["--cache-dir", cache, "--context", "2048", "--parallel", "1", &nano])
}

/// A prompt of several tiles that is like no other but in the first.
fn question(number: u32) -> Value {
    let rule = |i: u32| format!("Rule {i}: lamp {} is in room {}. ", i * 7 + number, number % 9);
    let same = "Lamps are in rooms, and each room has its lamps and no other. ".repeat(4);
    let prompt = same + &(0..16).map(rule).collect::<String>();
    json!({"prompt": prompt, "temperature": 0, "max_tokens": 8})
}

fn ask(service: &Service, number: u32) -> Value {
    service.post("/v1/completions", &question(number)).json()
}

/// Checks that there is nothing in a folder but whole tiles and notes, and what is left of one at most if it `was_killed`.
fn look(folder: &Path, was_killed: bool) -> usize {
    let (mut tiles, mut left) = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().map(|end| end.to_str().unwrap()) {
            Some("kv") => {
                let bytes = fs::read(&path).unwrap();
                let length = u32::from_le_bytes(bytes[LENGTH].try_into().unwrap());
                assert_eq!(bytes.len(), HEAD + length as usize, "{}", path.display());
                tiles += 1;
            }
            Some("part") => left += 1,
            _ => assert!(path.ends_with("lock") || path.ends_with("written-today"), "{path:?}"),
        }
    }
    assert!(left <= usize::from(was_killed), "{left} files are left behind");
    tiles
}

#[test]
fn what_a_killed_service_has_kept_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let expected = ask(&start(folder.path()), 0)["choices"].clone();
    let whole = begun.elapsed();
    for moment in 1..=kills() {
        let service = start(folder.path());
        look(folder.path(), false);
        let asked = service.send("POST", "/v1/completions", "", &question(moment).to_string());
        sleep(whole.mul_f64(f64::from(moment) / f64::from(kills())));
        // Killed without a word.
        drop(service);
        drop(asked);
        look(folder.path(), true);
    }
    let last = start(folder.path());
    let tiles = look(folder.path(), false);
    assert_eq!(ask(&last, 0)["choices"], expected);
    let alone = start(tempfile::tempdir().unwrap().path());
    for moment in 1..=kills().min(6) {
        assert_eq!(ask(&last, moment)["choices"], ask(&alone, moment)["choices"]);
    }
    assert!(last.metric("wick_saved_tokens") > 0.0);
    last.signal(rustix::process::Signal::TERM);
    // Nothing was found to be damaged.
    assert_eq!(last.end(), (Some(0), String::new()));
    println!("{} kills, {tiles} tiles, {whole:?} for a start and a prompt", kills());
}
