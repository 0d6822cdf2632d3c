//! A service, and a client that writes and reads HTTP as it is.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A service of this process's own.
pub(crate) struct Service {
    pub(crate) child: Child,
    /// Where it listens.
    pub(crate) address: String,
    stderr: BufReader<ChildStderr>,
}

/// The path of nano as a file, whose experts can be read.
pub(crate) fn nano() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/nano/nano.gguf");
    path.display().to_string()
}

/// The program: that of this build, or the words of `WICK_PROGRAM`, such as an emulator and a program for a board.
pub(crate) fn wick() -> Command {
    let words = std::env::var("WICK_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_wick").into());
    let mut words = words.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

/// Whether another program runs wick.
pub(crate) fn is_emulated() -> bool {
    std::env::var_os("WICK_PROGRAM").is_some()
}

/// `whole`, or `short` where an emulator makes each token take tens of milliseconds: for what shows the same with fewer.
pub(crate) fn few(whole: usize, short: usize) -> usize {
    if is_emulated() { short } else { whole }
}

/// nano, packed, in a folder.
pub(crate) fn packed(folder: &Path) -> String {
    let path = folder.join("packed.gguf").display().to_string();
    assert!(wick().args(["pack", &nano(), "-o", &path]).output().unwrap().status.success());
    path
}

/// Damages experts of a packed model, and only these; returns the file as it was.
pub(crate) fn damage(path: &str) -> Vec<u8> {
    let whole = std::fs::read(path).unwrap();
    let mut bytes = whole.clone();
    let places = bytes.len() / 2..bytes.len() * 9 / 10;
    places.step_by(4096).for_each(|at| bytes[at] ^= 1);
    std::fs::write(path, bytes).unwrap();
    whole
}

/// A little more than the least memory that a model can be served within: hardly any of its experts have a place.
pub(crate) fn little_memory(model: &str) -> String {
    let refused = wick().args(["serve", "--port", "0", "--memory", "1M", model]).output().unwrap();
    assert_eq!(refused.status.code(), Some(4));
    let said = String::from_utf8(refused.stderr).unwrap();
    let (_, least) = said.split_once("MiB (").unwrap();
    let least: usize = least.split_once("K)").unwrap().0.parse().unwrap();
    format!("{}K", least + 1024)
}

/// Waits until something holds.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let holds = (0..4800).any(|_| {
        holds() || {
            std::thread::sleep(Duration::from_millis(25));
            false
        }
    });
    assert!(holds, "{what}");
}

impl Service {
    /// Starts a service with these options, at any free port.
    pub(crate) fn start(options: &[&str]) -> Service {
        Service::start_as(wick().args(["serve", "--port", "0"]).args(options))
    }

    /// Starts a service in this way.
    pub(crate) fn start_as(command: &mut Command) -> Service {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut address) = (String::new(), None);
        while !said.ends_with("answers\n") {
            said.clear();
            assert!(stderr.read_line(&mut said).unwrap() > 0, "the service does not start");
            let place = said.split_once("http://").and_then(|(_, rest)| rest.split_once(": "));
            address = address.or(place.map(|(address, _)| address.to_owned()));
        }
        Service { child, address: address.unwrap_or_default(), stderr }
    }

    /// What it has said on stderr since it answers, once it has ended.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (status.code(), said)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request and does not wait for what comes of it.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\
             {headers}\r\n"
        );
        // A request that is refused is not read to its end.
        let _refused = stream.write_all((head + body).as_bytes());
        stream
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        Answer::read(self.send("GET", path, "", ""))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::read(self.send("POST", path, "", &body.to_string()))
    }

    /// The figure of this name in `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _has_ended = self.child.kill();
        let _has_ended = self.child.wait();
    }
}

/// What a request was answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(mut stream: TcpStream) -> Answer {
        let mut bytes = Vec::new();
        let _reset_after_a_refusal = stream.read_to_end(&mut bytes);
        Answer::of(&bytes)
    }

    /// All that came.
    pub(crate) fn of(bytes: &[u8]) -> Answer {
        let text = str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunk(body) } else { body.into() };
        Answer { status, head: head.into(), body }
    }

    /// The body, of a request that went well.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// What is wrong, in OpenAI's form.
    pub(crate) fn error(&self) -> Value {
        assert!(self.status >= 400, "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["error"].clone()
    }

    /// The events of a stream; the last is `[DONE]`.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        let lines = self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let mut lines: Vec<&str> = lines.collect();
        assert_eq!(lines.pop(), Some("[DONE]"), "{}", self.body);
        lines.into_iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The objects of a stream, one a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A chunked body in one piece; it must be whole.
fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").unwrap_or_else(|| panic!("cut off: {whole:?}"));
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap();
    }
}
