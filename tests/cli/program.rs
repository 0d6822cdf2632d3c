//! Running the binary, and what all tests ask of how it ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A golden model whose likeliest text never ends by itself.
pub(crate) const Q8_0: &str = "q8_0.gguf";

/// The path of a golden file.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// A golden model, as [`wick`] takes it.
pub(crate) fn model(name: &str) -> String {
    format!("@{name}")
}

/// nano as a file, which has experts to be read.
pub(crate) fn nano() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/nano/nano.gguf");
    path.display().to_string()
}

/// Starts wick, with pipes to its three streams.
pub(crate) fn start(arguments: &[&str]) -> Child {
    start_with(Stdio::piped(), arguments)
}

/// The same, with something else for stdin.
pub(crate) fn start_with(stdin: Stdio, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_wick"))
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs wick with this input; `@NAME` in an argument is the path of a golden file.
pub(crate) fn wick_with(input: &[u8], arguments: &[&str]) -> Output {
    let mut child = start_named(Stdio::piped(), arguments);
    // A process that refuses its arguments does not read its input.
    let _refused = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn start_named(stdin: Stdio, arguments: &[&str]) -> Child {
    let path = |a: &str| a.strip_prefix('@').map(|name| golden(name).display().to_string());
    let arguments: Vec<String> = arguments.iter().map(|a| path(a).unwrap_or((*a).into())).collect();
    start_with(stdin, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs wick without input.
pub(crate) fn wick(arguments: &[&str]) -> Output {
    start_named(Stdio::null(), arguments).wait_with_output().unwrap()
}

/// What wick prints where all is well.
pub(crate) fn stdout(output: &Output) -> String {
    let (out, err) = (output.stdout.clone(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}: {err}", output.status);
    String::from_utf8(out).unwrap()
}

/// Checks that wick ends with this code and one line on stderr that has `text` in it.
pub(crate) fn fails(output: &Output, code: i32, text: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(err.contains(text), "{text:?} expected, {err:?} found");
    if code != 2 || err.starts_with("wick:") {
        assert!(err.starts_with("wick: ") && err.trim_end().lines().count() == 1, "{err:?}");
    }
    assert!(output.stdout.is_empty());
}

/// What ctrl-C does.
pub(crate) fn interrupt(child: &Child) {
    let id = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
}

/// The least memory that a refusal names, as `--memory` takes it.
pub(crate) fn least(refusal: &Output) -> usize {
    fails(refusal, 4, "is the least that would do");
    let err = String::from_utf8_lossy(&refusal.stderr).into_owned();
    let (_, rest) = err.split_once(" (").unwrap();
    rest.split_once("K)").unwrap().0.parse().unwrap()
}
