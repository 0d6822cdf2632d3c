//! Verbs that make a file, ended at any moment: the older file stands, or the new one, and the next start leaves nothing else.
//!
//! `WICK_KILLS` says at how many moments each; CI does with a few.

use crate::fetch::{SOURCE, hub, nano_bytes};
use crate::hub::names;
use crate::program::{golden, stdout, wick};
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

const OLDER: &[u8] = b"an older file";

fn kills() -> u32 {
    env::var("WICK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// Ends `start` at moments from its beginning to after its end; what it writes is `out`, alone in its folder.
fn campaign(out: &Path, start: impl Fn() -> Child) {
    let folder = out.parent().unwrap();
    let begun = Instant::now();
    assert!(start().wait().unwrap().success());
    let (whole, new) = (begun.elapsed(), fs::read(out).unwrap());
    let mut finished = 0;
    for moment in 0..kills() {
        fs::write(out, OLDER).unwrap();
        let mut child = start();
        sleep(whole.mul_f64(f64::from(moment) * 1.2 / f64::from(kills())));
        child.kill().unwrap();
        let done = child.wait().unwrap().success();
        let found = fs::read(out).unwrap();
        assert!(found == OLDER || found == new, "{}: moment {moment}", out.display());
        assert!(!done || found == new, "{}: done, but not there", out.display());
        finished += u32::from(found == new);
    }
    assert!(start().wait().unwrap().success());
    assert!(fs::read(out).unwrap() == new);
    let name = out.file_name().unwrap().to_str().unwrap();
    assert_eq!(names(folder), [name], "something is left behind");
    println!("{name}: {} kills, {finished} after it was finished, {whole:?} alone", kills());
}

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wick"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn verbs_leave_the_older_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, packed) = (path("model.gguf"), path("packed.gguf"));
    let shape = "tiny,layers=8,vocab=4096";
    stdout(&wick(&["synth", "--shape", shape, "--type", "f32", "--no-run", "-o", &model]));
    stdout(&wick(&["pack", &model, "-o", &packed]));
    let published = golden("published/large").display().to_string();
    for verb in ["convert", "quantize", "pack", "unpack", "synth"] {
        let out = folder.path().join(format!("{verb}/{verb}.gguf"));
        fs::create_dir(out.parent().unwrap()).unwrap();
        let to = out.display().to_string();
        let arguments = match verb {
            "convert" => vec!["convert", &published, "-o", &to, "--type", "q4_0", "--pack"],
            "quantize" => vec!["quantize", &model, "-o", &to, "--type", "q4_0"],
            "pack" => vec!["pack", &model, "-o", &to],
            "unpack" => vec!["unpack", &packed, "-o", &to],
            _ => vec!["synth", "--shape", shape, "--no-run", "-o", &to],
        };
        campaign(&out, || start(&arguments));
    }
}

#[test]
fn a_fetch_leaves_the_older_file_or_the_new_one() {
    let hub = hub();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().display().to_string();
    let out = folder.path().join("nano.gguf");
    campaign(&out, || hub.start(&[SOURCE, "--to", &to, "--segment", "262144"]));
    assert!(fs::read(out).unwrap() == nano_bytes());
}
