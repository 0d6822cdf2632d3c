//! How a service begins and ends beside what starts it: signals while it is being loaded, sockets that it is given, rest.

use crate::client::{
    Answer, Service, damage, few, is_emulated, little_memory, nano, packed, until, wick,
};
use crate::service::long;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const ASK: &str = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 32\r\n\r\n\
                   {\"prompt\": \"a\", \"max_tokens\": 2}";

/// systemd is told when the model answers and when the service ends, and its watchdog is fed as long as anything goes on: while
/// nobody asks, in a long answer, and while another model is being loaded.
#[test]
fn systemd_is_told_and_its_watchdog_is_fed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let receive = || {
        let mut bytes = [0; 4096];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    let also = format!("other={}", nano());
    let mut command = wick();
    command.args([
        "serve",
        "--port",
        "0",
        "--parallel",
        "1",
        "--context",
        "100000",
        "--also",
        &also,
    ]);
    command.arg(nano()).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let service = Service::start_as(&mut command);
    let fed = |times: usize| (0..times).all(|_| receive().starts_with("WATCHDOG=1"));
    let told = || loop {
        let message = receive();
        if !message.starts_with("WATCHDOG=1") {
            break message;
        }
    };
    assert!(told().contains("is being loaded"));
    let ready = told();
    assert!(ready.contains("READY=1") && ready.contains("nano answers"), "{ready}");
    assert!(fed(5), "at rest");
    let running = service.send("POST", "/v1/completions", "", &long(90_000).to_string());
    until("it runs", || service.metric("wick_running_requests") == 1.0);
    assert!(fed(20), "in an answer");
    drop(running);
    let other =
        service.post("/v1/completions", &json!({"model": "other", "prompt": [5], "max_tokens": 1}));
    assert_eq!(other.json()["model"], "other");
    assert!(told().contains("is being loaded"));
    assert!(told().contains("other answers"));
    service.signal(Signal::TERM);
    assert_eq!(told().trim_end(), "STOPPING=1");
    assert_eq!(service.end().0, Some(0));
}

/// A process that does not outlive its test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Process {
        Process(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for it to end.
    fn end(mut self) -> Output {
        let (mut stderr, stdout) = (Vec::new(), Vec::new());
        self.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        Output { status: self.0.wait().unwrap(), stdout, stderr }
    }

    /// Asks it to end; it does so in order.
    fn terminate(self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let output = self.end();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _has_ended = self.0.kill();
        let _has_ended = self.0.wait();
    }
}

/// A service that was given a listening socket as its third file, as systemd does it.
fn given(socket: impl Into<OwnedFd>, options: &[&str]) -> Process {
    let shell = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    let (wick, mut command) = (wick(), Command::new("sh"));
    command.args(["-c", shell]).arg(wick.get_program()).args(wick.get_args());
    command.arg("serve").args(options).stdin(Stdio::from(socket.into()));
    Process::start(&mut command)
}

/// The settings of this one never come, so that it is being loaded for ever.
#[test]
fn a_service_that_is_being_loaded_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (pipe, socket) = (path("system"), path("socket"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let options = ["serve", "--unix", &socket, "--system", &pipe];
    let mut process = Process::start(wick().args(options));
    let mut said = String::new();
    BufReader::new(process.0.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.ends_with("is being loaded\n"), "{said}");
    let mut waiting = UnixStream::connect(&socket).unwrap();
    waiting.write_all(ASK.as_bytes()).unwrap();
    let mut health = UnixStream::connect(&socket).unwrap();
    health
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    health.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with(r#"{"status":"loading"}"#), "{answer}");
    process.terminate();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("is ending"), "{answer}");
    assert!(!std::path::Path::new(&socket).exists());
}

/// What is asked while the service is started waits in the socket.
#[test]
fn a_service_answers_at_a_socket_that_it_was_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut asking = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    asking.write_all(ASK.as_bytes()).unwrap();
    // What is asked for of the address is of no account, also if it is in use.
    let port = listener.local_addr().unwrap().port().to_string();
    let process = given(listener, &["--port", &port]);
    assert_eq!(Answer::read(asking).json()["object"], "text_completion");
    process.terminate();
}

#[test]
fn a_unix_socket_that_was_given_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut asking = UnixStream::connect(&path).unwrap();
    asking.write_all(ASK.as_bytes()).unwrap();
    let process = given(listener, &["--unix", path.to_str().unwrap()]);
    let mut answer = String::new();
    asking.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    process.terminate();
    assert!(path.exists());
}

#[test]
fn sockets_that_cannot_be_served_are_refused() {
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let said = |process: Process| {
        let output = process.end();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, message) = said(given(open.try_clone().unwrap(), &[]));
    assert!(code == Some(2) && message.contains("--api-key-file expected"), "{message}");
    let client = TcpStream::connect(open.local_addr().unwrap()).unwrap();
    let (code, message) = said(given(client, &[]));
    assert!(code == Some(2) && message.contains("socket 0 of LISTEN_FDS"), "{message}");
}

/// One that nobody asks anything ends; who looks after it does not keep it, who waits for an answer does.
#[test]
fn a_service_at_rest_ends() {
    let service = Service::start(&["--idle-exit", "1", "--context", "100000"]);
    // It takes longer than a service may rest.
    let tokens = few(4000, 200);
    let body = long(tokens).to_string();
    let answer = Answer::read(service.send("POST", "/v1/completions", "", &body));
    assert_eq!(answer.events().len(), tokens + 1);
    until("it has ended", || {
        let Ok(mut stream) = TcpStream::connect(&service.address) else { return true };
        let _ending = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        false
    });
    assert_eq!(service.end(), (Some(0), String::new()));
}

/// What has begun to come in when a service comes to rest is answered.
#[test]
fn a_request_that_comes_slowly_is_answered_at_rest() {
    let service = Service::start(&["--idle-exit", "1"]);
    let mut stream = service.connect();
    let (begin, rest) = ASK.split_at(30);
    stream.write_all(begin.as_bytes()).unwrap();
    until("no more is accepted", || TcpStream::connect(&service.address).is_err());
    stream.write_all(rest.as_bytes()).unwrap();
    assert_eq!(Answer::read(stream).json()["object"], "text_completion");
    assert_eq!(service.end(), (Some(0), String::new()));
}

/// An expert that cannot be read fails the requests that want it, and is named; the service stays.
/// Whoever updates a model need not start the service again: one that was written over fails what is answered at the moment, and
/// is loaded again as soon as it can be; the service says meanwhile what it waits for.
#[test]
fn a_model_that_is_written_over_is_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let model = packed(folder.path());
    let whole = std::fs::read(&model).unwrap();
    let service = Service::start(&["--parallel", "1", &model]);
    let ask = || service.post("/v1/completions", &json!({"prompt": "a b c", "seed": 1}));
    let text = ask().json()["choices"][0]["text"].clone();
    std::fs::write(&model, &whole[..whole.len() / 2]).unwrap();
    let answer = ask();
    assert!(matches!(answer.status, 500 | 503), "{answer:?}");
    until("it is not ready", || service.get("/health").status == 503);
    let health = service.get("/health").body;
    assert!(health.contains("packed.gguf"), "{health}");
    let refused = service.post("/v1/completions", &json!({"prompt": "a"}));
    assert_eq!(refused.status, 503, "{refused:?}");
    std::fs::write(&model, &whole).unwrap();
    until("it answers again", || service.get("/health").status == 200);
    assert_eq!(ask().json()["choices"][0]["text"], text);
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is loaded again once it can be read"), "{said}");
}

/// The same for one that cannot be read any more, such as on a device that has gone, once another file lies in its place.
#[test]
fn a_model_that_cannot_be_read_is_looked_for_in_its_place() {
    if is_emulated() {
        // What an emulator takes of the budget is another amount each time, and by much.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let model = packed(folder.path());
    let whole = damage(&model);
    let service = Service::start(&["--memory", &little_memory(&model), &model]);
    let ask = || service.post("/v1/completions", &json!({"prompt": "a b c", "max_tokens": 4}));
    assert_eq!(ask().status, 500);
    assert_eq!(service.get("/health").status, 200);
    let other = folder.path().join("other");
    std::fs::write(&other, whole).unwrap();
    std::fs::rename(other, &model).unwrap();
    until("it answers", || ask().status == 200);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = packed(folder.path());
    damage(&model);
    let memory = little_memory(&model);
    let service = Service::start(&["--memory", &memory, &model]);
    let kib: f64 = memory.strip_suffix('K').unwrap().parse().unwrap();
    assert_eq!(service.metric("wick_budget_bytes"), kib * 1024.0);
    for _ in 0..2 {
        let answer = service.post("/v1/completions", &json!({"prompt": "a b c"}));
        let message = answer.error()["message"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 500, "{message}");
        assert!(message.contains("packed.gguf: blk.") && message.contains("CRC-32"), "{message}");
    }
    assert_eq!(service.get("/health").status, 200);
}
