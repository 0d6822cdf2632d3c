//! Limits of the system: small stacks, no more threads, little address space, few processors.

use crate::program::{fails, golden, least, nano, stdout, wick};
use std::io::{Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Runs wick under a limit that the shell sets, such as `ulimit -s 256`.
fn under(limit: &str, input: &str, words: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"{limit} && exec "$0" "$@""#), env!("CARGO_BIN_EXE_wick")]);
    let mut stdin = tempfile::tempfile().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    stdin.rewind().unwrap();
    command.args(words).stdin(stdin).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every verb in something short, with the input that it takes.
struct Verbs {
    _folder: TempDir,
    verbs: Vec<(String, &'static str)>,
}

impl Verbs {
    fn new() -> Verbs {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let [packed, out] = ["packed.wick.gguf", "out"].map(file);
        let (nano, text) = (nano(), golden("index.json").display().to_string());
        stdout(&wick(&["pack", &nano, "-o", &packed]));
        let least = least(&wick(&["run", "-m", &packed, "--memory", "1M", "hi"])) + 512;
        let verbs = [
            ("--help", ""),
            ("run --temperature 0 -n 4 hi", ""),
            (&format!("run -m {nano} --memory {least}K --temperature 0 -n 4 hi"), ""),
            (&format!("run -m {packed} --memory {least}K --temperature 0 -n 4 hi"), ""),
            ("chat --temperature 0 -n 4", "hi\n"),
            ("tokenize", "hello"),
            ("detokenize", "100 101"),
            ("logits --ids 1,2", ""),
            ("inspect", ""),
            (&format!("inspect {packed}"), ""),
            (&format!("eval --text {text} --context 64"), ""),
            ("bench -r 1 -p 4 -n 4 --no-bandwidth", ""),
            ("plan", ""),
            (&format!("synth --shape tiny -n 8 -o {out}"), ""),
            (&format!("pack --low-bit {nano} -o {out}"), ""),
            (&format!("pack --verify {packed}"), ""),
            (&format!("unpack {packed} -o {out}"), ""),
        ];
        let verbs = verbs.map(|(words, input)| (words.to_owned(), input)).into();
        Verbs { _folder: folder, verbs }
    }

    /// Runs each under a limit of the shell.
    fn under(&self, limit: &str) -> impl Iterator<Item = (&str, Output)> {
        self.verbs.iter().map(move |(words, input)| {
            let output = under(limit, input, &words.split(' ').collect::<Vec<_>>());
            (&words[..], output)
        })
    }
}

#[test]
fn every_verb_runs_on_a_small_stack() {
    let verbs = Verbs::new();
    for (words, output) in verbs.under("ulimit -s 256") {
        assert_eq!(output.status.code(), Some(0), "{words}: {}", stderr(&output));
    }
}

/// The least address space, in MiB, with which the process comes so far as to say something itself.
fn least_space() -> usize {
    let begins = |mib: &usize| {
        let output = under(&format!("ulimit -v {}", mib * 1024), "", &["--version"]);
        matches!(output.status.code(), Some(0 | 4))
    };
    (1..400).find(begins).unwrap()
}

/// With any address space a verb does what it does, or says what is refused; it never aborts.
#[test]
fn refused_memory_ends_a_verb_with_one_line() {
    let verbs = Verbs::new();
    let (begin, mut refused) = (least_space(), 0);
    // Below, the binary itself may have no room, and its loader ends it.
    for mib in (begin + 1..begin + 30).step_by(4) {
        for (words, output) in verbs.under(&format!("ulimit -v {}", mib * 1024)) {
            let said = stderr(&output);
            match output.status.code() {
                Some(0) => {}
                Some(4) => {
                    refused += 1;
                    let last = said.lines().last().unwrap();
                    let limit = format!("of memory, ulimit -v is {mib}.0 MiB");
                    let says = last.starts_with("wick: ") && last.ends_with(&limit);
                    assert!(says && last.contains("the system refuses "), "{mib}, {words}: {said}");
                }
                code => panic!("{mib}, {words}: {code:?}, {said}"),
            }
        }
    }
    assert!(refused > 0);
    // No more is asked for than is needed, however many threads there are.
    for (words, output) in verbs.under("ulimit -v 400000") {
        assert_eq!(output.status.code(), Some(0), "{words}: {}", stderr(&output));
    }
}

/// A file that is being written goes when memory is refused.
#[test]
fn refused_memory_leaves_no_unfinished_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    let mut refused = 0;
    for mib in (least_space()..).step_by(2).take(15) {
        let words = ["synth", "--no-run", "--shape", "tiny,vocab=60000", "-o", &out];
        let output = under(&format!("ulimit -v {}", mib * 1024), "", &words);
        if !output.status.success() {
            refused += 1;
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{mib}");
        } else {
            std::fs::remove_file(&out).unwrap();
        }
    }
    assert!(refused > 0);
}

/// It is no fault of the file.
#[test]
fn too_many_open_files_are_said_with_the_limit() {
    let nano = nano();
    let ask = ["run", "-m", &nano, "--temperature", "0", "hi"];
    let least = least(&wick(&[&ask[..], &["--memory", "1M"]].concat()));
    let memory = format!("{}K", least + 512);
    let streamed = [&ask[..], &["--memory", &memory]].concat();
    for words in [&ask[..], &streamed] {
        let runs = (4..20).map(|limit| (limit, under(&format!("ulimit -n {limit}"), "", words)));
        // The loader has files to open too.
        let begun = runs.skip_while(|(_, output)| output.status.code() == Some(127));
        let refused: Vec<_> = begun.take_while(|(_, output)| !output.status.success()).collect();
        assert!(!refused.is_empty() && refused.len() < 10, "{}", refused.len());
        for (limit, output) in refused {
            let said = format!("Too many open files (os error 24), ulimit -n is {limit}");
            fails(&output, 1, &said);
        }
    }
}

/// A folder that every user can read, with wick and nano in it.
fn public() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_wick"), folder.path().join("wick")).unwrap();
    std::fs::copy(nano(), folder.path().join("nano.gguf")).unwrap();
    folder
}

/// Runs wick there under a limit of the shell, as a user that may have no second thread. Root may always have
/// one, so it is another user then.
fn alone(folder: &Path, limit: &str, words: &[&str]) -> Output {
    let mut command = Command::new("prlimit");
    command.current_dir(folder).arg("--nproc=1");
    if rustix::process::geteuid().is_root() {
        command.args(["setpriv", "--reuid=64321", "--regid=64321", "--clear-groups"]);
    }
    command.args(["sh", "-c", &format!(r#"{limit} && exec ./wick "$@""#), "sh"]);
    command.args(words).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn where_no_thread_is_to_be_had_one_computes_and_reads() {
    let (folder, nano) = (public(), nano());
    let question = "remember: the code is 4711. set a timer for 5 minutes";
    let ask = ["run", "--temperature", "0", question];
    let expected = stdout(&wick(&ask));
    let least = least(&wick(&[&ask[..], &["-m", &nano, "--memory", "1M"]].concat()));
    let memory = format!("{}K", least + 512);
    let more = ["-m", "nano.gguf", "--memory", &memory];
    let output = alone(folder.path(), "true", &[&ask[..], &more].concat());
    assert_eq!(stdout(&output), expected);
    let said = stderr(&output);
    assert!(said.contains("reading on the computing thread, which is slower"), "{said}");
    assert!(said.lines().all(|line| line.contains("RLIMIT_NPROC is 1")), "{said}");
    if wick_linux::Cpus::detect().numbers.len() > 1 {
        let words = "synth --threads 2 --no-run --shape tiny,vocab=5000 -o /dev/null";
        let output = alone(folder.path(), "true", &words.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(0));
        let said = stderr(&output);
        assert!(said.contains("1 of 2 threads compute, more are refused"), "{said}");
    }
    let output = alone(folder.path(), "ulimit -s 256", &["inspect"]);
    fails(
        &output,
        1,
        "ulimit -s is 256 KiB: Resource temporarily unavailable (os error 11) (RLIMIT_NPROC is 1",
    );
}

#[test]
fn more_threads_than_processors_are_refused_with_a_warning() {
    let cpus = wick_linux::Cpus::detect().numbers.len();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    let text = stdout(&wick(&["run", "--temperature", "0", "hello"]));
    let nano = nano();
    let verbs: [&[&str]; 3] = [
        &["run", "--temperature", "0", "hello"],
        &["pack", &nano, "-o", &out],
        &["synth", "--shape", "tiny", "-n", "4", "-o", &out],
    ];
    for verb in verbs {
        let output = wick(&[verb, &["--threads", "4096"]].concat());
        let out = stdout(&output);
        assert!(verb[0] != "run" || out == text);
        let said = stderr(&output);
        let warning = format!(
            "wick: warning: --threads 4096: this process has {cpus} processors; {cpus} threads compute"
        );
        assert_eq!(said.matches(&warning).count(), 1, "{said}");
    }
    let output = wick(&["run", "--temperature", "0", "--threads", "1", "hello"]);
    assert_eq!((stdout(&output), stderr(&output)), (text, String::new()));
}
