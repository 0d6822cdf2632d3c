//! What a service is told before it serves, and while it does: a file, variables, the command line.

use crate::client::{Service, is_emulated, nano, until, wick};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Output};

fn check(options: &[&str], variables: &[(&str, &str)]) -> Output {
    wick()
        .args(["serve", "--check"])
        .args(options)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn shown(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The text of an answer to a request that leaves open how tokens are drawn.
fn ask(service: &Service) -> Value {
    let body = json!({"prompt": "turn", "max_tokens": 24});
    service.post("/v1/completions", &body).json()["choices"][0]["text"].clone()
}

/// A variable is what an option would be, for each of them; the command line goes before it, and it goes before the file.
#[test]
fn every_option_is_a_variable_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wick.toml");
    fs::write(&file, "port = 8001\ncontext = 300\nmodel = \"nowhere.gguf\"\n").unwrap();
    let file = file.to_str().unwrap();
    let nano = nano();
    let variables = [("WICK_MODEL", nano.as_str()), ("WICK_PORT", "8002"), ("WICK_CONFIG", file)];
    let text = shown(&check(&[], &variables));
    assert!(text.contains("127.0.0.1:8002\n") && text.contains("300 positions"), "{text}");
    let text = shown(&check(&["--port", "8003"], &variables));
    assert!(text.contains("127.0.0.1:8003\n"), "{text}");
    // A file that is named without --model goes before all of them.
    let text = shown(&check(&["--config", file, &nano], &[]));
    assert!(text.contains("127.0.0.1:8001\n"), "{text}");
    let text = shown(&check(&[], &[("WICK_MEMORY", "64M"), ("WICK_KV", "q8_0")]));
    assert!(text.contains("64.0 MiB (--memory)"), "{text}");
    let open = [("WICK_HOST", "0.0.0.0"), ("WICK_INSECURE", "yes")];
    assert!(shown(&check(&[], &open)).contains("0.0.0.0:8080"));
    for (name, value) in
        [("WICK_TEMPERATURE", "hot"), ("WICK_INSECURE", "perhaps"), ("WICK_SEED", "x")]
    {
        let output = check(&[], &[(name, value)]);
        assert_eq!(output.status.code(), Some(2), "{name}={value}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(value), "{said}");
    }
}

/// What would keep a service from serving is said without one; that one runs already is no hindrance.
#[test]
fn a_configuration_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("keys"), "one\ntwo\n").unwrap();
    fs::write(path("system"), "Be brief.").unwrap();
    let also = format!("second={}", nano());
    let service = Service::start(&[]);
    let port = service.address.rsplit_once(':').unwrap().1;
    let (keys, system) = (path("keys"), path("system"));
    let text = shown(&check(
        &[
            "--port",
            port,
            "--api-key-file",
            &keys,
            "--system",
            &system,
            "--alias",
            "first",
            &nano(),
            "--also",
            &also,
        ],
        &[],
    ));
    assert!(text.starts_with(&format!("listens        http://127.0.0.1:{port}\n")), "{text}");
    for part in ["name           first\n", "name           second\n", "total", "KV cache"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let nowhere = path("nowhere");
    for (options, code, error) in [
        (&["--api-key-file", &nowhere][..], 2, "nowhere"),
        (&["--system", &nowhere], 2, "nowhere"),
        (&["--warm", &nowhere], 2, "nowhere"),
        (&["--chat-template", &nowhere], 2, "nowhere"),
        (&["--host", "0.0.0.0"], 2, "--api-key-file expected"),
        (&["--memory", "1M"], 4, "is the least that would do"),
        (&[&nowhere], 3, "nowhere"),
        (&["--also", &format!("b={nowhere}")], 3, "nowhere"),
        (&["--parallel", "2", "--skip-missing", "0.5"], 2, "--parallel 1 expected"),
    ] {
        let output = check(options, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{options:?}: {said}");
        assert!(said.contains(error), "{options:?}: {said}");
    }
}

/// At SIGHUP the file is read again for how tokens are drawn; what cannot be read leaves all as it was.
#[test]
fn sampling_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wick.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("temperature = 2.0\ntop_k = 0\ntop_p = 1.0\nseed = 7\n");
    let service = Service::start(&["--config", file.to_str().unwrap()]);
    let hot = ask(&service);
    assert_eq!(ask(&service), hot, "a seed that stands in the file is that of each request");
    let cold = {
        let body = json!({"prompt": "turn", "max_tokens": 24, "temperature": 0});
        service.post("/v1/completions", &body).json()["choices"][0]["text"].clone()
    };
    assert_ne!(cold, hot);
    write("temperature = 0\n");
    service.signal(Signal::HUP);
    until("it is read again", || ask(&service) == cold);
    // What is wrong in the file is told with its name.
    let other = folder.path().join("other.toml");
    for (text, error) in [
        ("prt = 8082\n", "other.toml: unexpected argument '--prt'"),
        ("port = \"eight\"\n", "other.toml: invalid value 'eight' for '--port"),
    ] {
        fs::write(&other, text).unwrap();
        let output = check(&["--config", other.to_str().unwrap()], &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(error), "{said}");
    }
    for broken in ["temperature = \"hot\"\n", "temperature = ", "no_such_option = 1\n"] {
        write(broken);
        service.signal(Signal::HUP);
        assert_eq!(ask(&service), cold);
    }
    write("temperature = 2.0\ntop_k = 0\ntop_p = 1.0\nseed = 7\n");
    service.signal(Signal::HUP);
    until("it is read again", || ask(&service) == hot);
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("tokens are drawn as they were: "), "{said}");
}

/// Lines in systemd's journal begin with their priority; elsewhere they say who speaks.
#[test]
fn lines_in_the_journal_have_a_priority() {
    if is_emulated() {
        // The emulator's own files have other numbers.
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = File::create(&path).unwrap();
    let found = journal.metadata().unwrap();
    let mut command: Command = wick();
    command.args(["serve", "--host", "0.0.0.0", "--port", "0"]).stderr(journal);
    let said = |stream: &str, command: &mut Command| {
        command.env("JOURNAL_STREAM", stream).status().unwrap();
        let mut text = String::new();
        File::open(&path).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    let here = format!("{}:{}", found.dev(), found.ino());
    let text = said(&here, &mut command);
    assert!(text.starts_with("<3>0.0.0.0:0 can be reached from elsewhere"), "{text}");
    let text = said("1:1", &mut command);
    assert!(text.contains("wick: 0.0.0.0:0 can be reached"), "{text}");
}
