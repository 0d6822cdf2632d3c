//! What verbs write: whole or not there, never over what is read, to devices and pipes as they come.

use crate::program::{fails, golden, start, stdout, wick};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with a model of each kind that verbs read.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::copy(golden("q4_0-tied.gguf"), folder.path("model")).unwrap();
        stdout(&wick(&["pack", &folder.path("model"), "-o", &folder.path("packed")]));
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Names of all files, in order.
    fn names(&self) -> Vec<String> {
        names(self.0.path())
    }

    /// Runs each verb that writes, to `out`.
    fn write(&self, out: &str) -> [Output; 5] {
        let (model, packed) = (self.path("model"), self.path("packed"));
        [
            wick(&["logits", "-m", &model, "--ids", "1 2 3", "--out", out]),
            wick(&["pack", &model, "-o", out]),
            wick(&["unpack", &packed, "-o", out]),
            wick(&["quantize", &model, "-o", out, "--type", "f32"]),
            wick(&["synth", "--shape", "tiny", "--no-run", "-o", out]),
        ]
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_written_over_an_input() {
    let folder = Folder::new();
    fs::hard_link(folder.path("model"), folder.path("hard")).unwrap();
    symlink("hard", folder.path("soft")).unwrap();
    let before = fs::read(folder.path("model")).unwrap();
    for out in ["model", "hard", "soft"] {
        let (model, out) = (folder.path("model"), folder.path(out));
        let logits = wick(&["logits", "-m", &model, "--ids", "1 2 3", "--out", &out]);
        fails(&logits, 2, "is the input; name another file");
        fails(&wick(&["pack", &model, "-o", &out]), 2, "is the input; name another file");
        let quantize = wick(&["quantize", &model, "-o", &out, "--type", "q8_0"]);
        fails(&quantize, 2, "is the input; name another file");
        assert!(fs::read(folder.path("model")).unwrap() == before);
    }
    for part in ["split-00001-of-00002.gguf", "split-00002-of-00002.gguf"] {
        fs::copy(golden(part), folder.path(part)).unwrap();
    }
    let [first, second] = [1, 2].map(|n| folder.path(&format!("split-0000{n}-of-00002.gguf")));
    let before = fs::read(&second).unwrap();
    fails(&wick(&["logits", "-m", &first, "--ids", "1", "--out", &second]), 2, "is the input");
    fails(&wick(&["pack", &first, "-o", &second]), 2, "is the input");
    assert!(fs::read(&second).unwrap() == before);
}

/// An input that is named as what a killed process leaves is no rubbish.
#[test]
fn an_input_is_not_removed_as_left_behind() {
    let folder = Folder::new();
    let [model, packed] = ["model", "packed"].map(|name| {
        let left = folder.path(&format!("out.wick-0123456789abcde{}.part", name.len()));
        fs::rename(folder.path(name), &left).unwrap();
        left
    });
    symlink(&model, folder.path("link")).unwrap();
    symlink("out", folder.path("other")).unwrap();
    let before = folder.names();
    for out in ["out", "other"] {
        let out = folder.path(out);
        for output in [
            wick(&["logits", "-m", &model, "--ids", "1 2 3", "--out", &out]),
            wick(&["pack", &folder.path("link"), "-o", &out]),
            wick(&["unpack", &packed, "-o", &out]),
        ] {
            fails(&output, 2, "and would be removed; rename it");
        }
        assert_eq!(folder.names(), before);
    }
    stdout(&wick(&["unpack", &packed, "-o", &folder.path("fresh")]));
}

#[test]
fn links_are_kept_and_files_replaced_as_a_whole() {
    let folder = Folder::new();
    fs::create_dir(folder.path("far")).unwrap();
    symlink("far/out", folder.path("link")).unwrap();
    for verb in 0..5 {
        fs::write(folder.path("far/out"), "an older file").unwrap();
        let older = fs::File::open(folder.path("far/out")).unwrap();
        stdout(&folder.write(&folder.path("link"))[verb]);
        assert!(fs::symlink_metadata(folder.path("link")).unwrap().is_symlink());
        assert!(fs::metadata(folder.path("far/out")).unwrap().len() > 1000);
        // Who had the older one open still has it.
        assert_eq!(older.metadata().unwrap().len(), 13);
        assert_eq!(names(&folder.0.path().join("far")), ["out"]);
    }
    assert_eq!(folder.names(), ["far", "link", "model", "packed"]);
}

#[test]
fn devices_and_pipes_are_written_as_they_come() {
    let folder = Folder::new();
    let before = fs::metadata("/dev/null").unwrap().ino();
    folder.write("/dev/null").iter().for_each(|output| drop(stdout(output)));
    assert_eq!(fs::metadata("/dev/null").unwrap().ino(), before);
    for output in folder.write("/dev/full") {
        fails(&output, 1, "/dev/full: ");
    }
    stdout(&folder.write(&folder.path("file"))[4]);
    let [logits, pack, unpack, quantize, synth] = folder.write("/dev/stdout");
    // What is known last stands first in a packed file.
    fails(&pack, 2, "/dev/stdout: a file expected, since its beginning is written last");
    for output in folder.write("-") {
        fails(&output, 2, "-: the name of a file expected; stdout is /dev/stdout");
    }
    assert_eq!(logits.stdout.len() % 12, 0);
    assert!(unpack.stdout == fs::read(folder.path("model")).unwrap());
    assert!(quantize.stdout.starts_with(b"GGUF"));
    assert!(synth.stdout == fs::read(folder.path("file")).unwrap());
    assert!(String::from_utf8(synth.stderr).unwrap().starts_with("/dev/stdout: "));

    let pipe = folder.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let child = start(&["synth", "--shape", "tiny", "--no-run", "-o", &pipe]);
    let read = fs::read(&pipe).unwrap();
    stdout(&child.wait_with_output().unwrap());
    assert!(read == fs::read(folder.path("file")).unwrap());
    assert_eq!(folder.names(), ["file", "model", "packed", "pipe"]);
}

/// Control characters of names are not obeyed by a terminal.
#[test]
fn names_of_files_that_are_written_are_shown() {
    let folder = Folder::new();
    let out = folder.path("a\x1b[2J\nb");
    for output in
        [&folder.write(&out)[1..], &[wick(&["pack", "--verify", &folder.path("packed")])]].concat()
    {
        let said = stdout(&output);
        assert!(said.lines().count() == 1 && !said.contains('\x1b'), "{said:?}");
    }
    stdout(&wick(&["pack", &folder.path("model"), "-o", &out]));
    let said = stdout(&wick(&["pack", "--verify", &out]));
    assert!(said.contains(r"a\x1b[2J\nb: as it was packed"), "{said:?}");
}

/// A limit on sizes is an error like a full disk, and no end by a signal.
#[test]
fn what_does_not_fit_is_said_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let program = env!("CARGO_BIN_EXE_wick");
    let script = r#"ulimit -f 1; exec "$0" synth --shape tiny --no-run -o "$1""#;
    let output =
        Command::new("sh").args(["-c", script, program, &folder.path("out")]).output().unwrap();
    fails(&output, 1, "out: ");
    fails(&output, 1, " bytes cannot be written: File too large");
    // 44 TB, which no disk has.
    let large = "4b,layers=96,experts=1024,hidden=16384,width=16384,heads=64,head=256";
    let shape = ["synth", "--shape", large, "--no-run", "-o"];
    let output = wick(&[&shape[..], &[&folder.path("out")]].concat());
    fails(&output, 1, "out: ");
    fails(&output, 1, "No space left on device");
    assert_eq!(folder.names(), ["model", "packed"]);
}

/// Starts to write a large file and waits until it is being written.
fn writing(folder: &Folder) -> std::process::Child {
    let before = folder.names();
    let child = start(&["synth", "--shape", "4b", "--no-run", "-o", &folder.path("out")]);
    let end = Instant::now() + Duration::from_secs(60);
    let is_new = |name: &String| name.starts_with("out.wick-") && !before.contains(name);
    while !folder.names().iter().any(is_new) {
        assert!(Instant::now() < end, "nothing is written");
        sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_process_that_is_ended_leaves_nothing_behind() {
    let folder = Folder::new();
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let child = writing(&folder);
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(folder.names(), ["model", "packed"], "{signal:?}");
    }
}

#[test]
fn what_a_killed_process_leaves_is_removed_by_the_next() {
    let folder = Folder::new();
    let mut child = writing(&folder);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(folder.names().len(), 3);
    let mut busy = writing(&folder);
    assert_eq!(folder.names().len(), 3, "{:?}", folder.names());
    // What is being written stays.
    stdout(&wick(&["synth", "--shape", "tiny", "--no-run", "-o", &folder.path("out")]));
    assert_eq!(folder.names().len(), 4);
    busy.kill().unwrap();
    busy.wait().unwrap();
    stdout(&wick(&["synth", "--shape", "tiny", "--no-run", "-o", &folder.path("out")]));
    assert_eq!(folder.names(), ["model", "out", "packed"]);
}
