//! A hub to fetch from: Hugging Face's API and what its redirects lead to, on two ports of this machine.

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The commit that every revision is.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The repository.
pub(crate) const REPOSITORY: &str = "some/model";
/// What stands before every path of the hub.
const BASE: &str = "/mirror";

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Whether it is where the bytes are, and not the hub.
    pub(crate) is_store: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    /// The first byte that is wanted, and the last.
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) token: Option<String>,
    pub(crate) at: Instant,
    /// How many have asked the same before.
    pub(crate) nth: usize,
}

impl Asked {
    /// Whether bytes of a file are asked for.
    pub(crate) fn is_for_bytes(&self) -> bool {
        self.is_store && self.method == "GET"
    }
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Usual,
    /// A status, and headers.
    Status(u16, &'static str),
    /// So many bytes, then the connection is cut.
    Cut(usize),
    /// So many bytes, then nothing until the other side closes.
    Stall(usize),
    /// The whole file with status 200, or so many bytes of it.
    Whole(usize),
    /// The bytes, of which one is another.
    Wrong,
    /// A range of a file of another size.
    OtherSize,
    /// A list, or another text.
    Text(String),
}

type Behaviour = Box<dyn Fn(&Asked) -> Deed + Send>;

struct Shared {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: Mutex<Vec<Asked>>,
    behaviour: Mutex<Behaviour>,
    store: SocketAddr,
    hub: SocketAddr,
}

/// The hub, and a home to fetch into.
pub(crate) struct Hub {
    shared: Arc<Shared>,
    pub(crate) home: TempDir,
}

impl Hub {
    /// With these files.
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Hub {
        let [hub, store] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let files = files.iter().map(|(name, bytes)| ((*name).into(), bytes.to_vec())).collect();
        let shared = Arc::new(Shared {
            files: Mutex::new(files),
            asked: Mutex::default(),
            behaviour: Mutex::new(Box::new(|_| Deed::Usual)),
            store: store.local_addr().unwrap(),
            hub: hub.local_addr().unwrap(),
        });
        for (listener, is_store) in [(hub, false), (store, true)] {
            let shared = Arc::clone(&shared);
            spawn(move || {
                for stream in listener.incoming().flatten() {
                    let shared = Arc::clone(&shared);
                    spawn(move || serve(&shared, stream, is_store));
                }
            });
        }
        Hub { shared, home: tempfile::tempdir().unwrap() }
    }

    /// From here on requests are answered like this.
    pub(crate) fn behave(&self, behaviour: impl Fn(&Asked) -> Deed + Send + 'static) {
        *self.shared.behaviour.lock().unwrap() = Box::new(behaviour);
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}{BASE}", self.shared.hub)
    }

    /// What was asked since this was asked last.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// Of that, the ranges of bytes.
    pub(crate) fn ranges(&self) -> Vec<(usize, usize)> {
        let asked = self.asked();
        asked.iter().filter(|asked| asked.is_for_bytes()).filter_map(|asked| asked.range).collect()
    }

    /// Waits until something of the kind was asked for.
    pub(crate) fn wait(&self, is_it: impl Fn(&Asked) -> bool) {
        until("a request", || self.shared.asked.lock().unwrap().iter().any(&is_it));
    }

    /// wick with the home, and nothing of the user's own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wick"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let variables = [
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HOME",
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "XDG_CACHE_HOME",
            "http_proxy",
            "all_proxy",
        ];
        for name in variables {
            command.env_remove(name);
        }
        command.env("HOME", self.home.path()).env("HF_ENDPOINT", self.address());
        command
    }

    /// `wick fetch` that does not wait long, with one connection.
    pub(crate) fn fetching(&self, arguments: &[&str]) -> Command {
        let common = ["--pause", "10", "--connections", "1"];
        self.command(&[&["fetch"], arguments, &common].concat())
    }

    pub(crate) fn fetch(&self, arguments: &[&str]) -> Output {
        self.fetching(arguments).output().unwrap()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.fetching(arguments).spawn().unwrap()
    }

    /// A file of the cache.
    pub(crate) fn cache(&self, path: &str) -> PathBuf {
        self.home.path().join(".cache/huggingface/hub/models--some--model").join(path)
    }
}

/// Waits for what is sure to come.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what} has not come");
        sleep(Duration::from_millis(5));
    }
}

/// Names of all files in a folder, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn git(bytes: &[u8]) -> String {
    hex(&Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// As on the hub, models are in LFS and texts are not.
fn is_large(name: &str) -> bool {
    name.ends_with(".gguf") || name.ends_with(".safetensors")
}

fn serve(shared: &Shared, stream: TcpStream, is_store: bool) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(String::from);
    let (method, path) = (words.next()?, words.next()?);
    let mut asked =
        Asked { is_store, method, path, range: None, token: None, at: Instant::now(), nth: 0 };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match &*name.to_ascii_lowercase() {
            "range" => {
                let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
                asked.range = Some((from.parse().ok()?, to.parse().ok()?));
            }
            "authorization" => asked.token = Some(value.into()),
            _ => {}
        }
    }
    let deed = {
        let mut all = shared.asked.lock().unwrap();
        let key = |asked: &Asked| (asked.is_store, asked.method.clone(), asked.path.clone());
        asked.nth = all.iter().filter(|other| key(other) == key(&asked)).count();
        all.push(asked.clone());
        shared.behaviour.lock().unwrap()(&asked)
    };
    answer(shared, stream, &asked, deed)
}

fn answer(shared: &Shared, mut stream: TcpStream, asked: &Asked, deed: Deed) -> Option<()> {
    match (deed, asked.is_store) {
        (Deed::Status(status, headers), _) => reply(&mut stream, status, headers, b"no"),
        (Deed::Text(text), _) => reply(&mut stream, 200, "", text.as_bytes()),
        (deed, true) => send(shared, stream, asked, deed),
        (_, false) => list(shared, stream, asked),
    }
}

fn reply(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> Option<()> {
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()
}

/// What the hub says: a commit, a page of two files, or where the bytes of one are.
fn list(shared: &Shared, mut stream: TcpStream, asked: &Asked) -> Option<()> {
    let files = shared.files.lock().unwrap().clone();
    let path = asked.path.strip_prefix(BASE)?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if path.starts_with(&format!("/api/models/{REPOSITORY}/revision/")) {
        let text = json!({"sha": COMMIT, "siblings": []}).to_string();
        return reply(&mut stream, 200, "", text.as_bytes());
    }
    if path == format!("/api/models/{REPOSITORY}/tree/{COMMIT}") {
        let from: usize = query.rsplit_once("cursor=").map_or(0, |(_, from)| from.parse().unwrap());
        let page: Vec<_> = files
            .iter()
            .skip(from)
            .take(2)
            .map(|(name, bytes)| {
                let size = bytes.len();
                match is_large(name) {
                    true => {
                        json!({"type": "file", "path": name, "size": size, "oid": git(b"pointer"),
                               "lfs": {"oid": sha256(bytes), "size": size, "pointerSize": 130}})
                    }
                    false => json!({"type": "file", "path": name, "size": size, "oid": git(bytes)}),
                }
            })
            .chain([json!({"type": "directory", "path": "sub", "size": 0, "oid": git(b"")})])
            .collect();
        let next = format!(
            "Link: <http://{}{}?recursive=true&cursor={}>; rel=\"next\"\r\n",
            shared.hub,
            asked.path.split('?').next()?,
            from + 2
        );
        let next = if from + 2 < files.len() { &*next } else { "" };
        return reply(&mut stream, 200, next, json!(page).to_string().as_bytes());
    }
    let name = path.strip_prefix(&format!("/{REPOSITORY}/resolve/{COMMIT}/"));
    let Some((name, bytes)) = name.and_then(|name| files.get_key_value(name)) else {
        return reply(&mut stream, 404, "X-Error-Code: EntryNotFound\r\n", b"");
    };
    let etag = if is_large(name) { sha256(bytes) } else { git(bytes) };
    let headers = format!(
        "Location: http://{}/{name}?signature=secret\r\nX-Linked-Size: {}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n",
        shared.store,
        bytes.len()
    );
    reply(&mut stream, 302, &headers, b"")
}

/// Bytes of a file.
fn send(shared: &Shared, mut stream: TcpStream, asked: &Asked, deed: Deed) -> Option<()> {
    let name = asked.path.strip_prefix('/')?.split('?').next()?;
    let mut bytes = shared.files.lock().unwrap().get(name)?.clone();
    let size = bytes.len();
    let (from, to) = asked.range.map_or((0, size), |(from, last)| (from, last + 1));
    if to > size {
        return reply(&mut stream, 416, "", b"");
    }
    if let Deed::Wrong = deed {
        bytes[size / 2] ^= 1;
    }
    let (status, from, to) = match deed {
        Deed::Whole(_) => (200, 0, size),
        _ if asked.range.is_none() => (200, 0, size),
        _ => (206, from, to),
    };
    let sent = match deed {
        Deed::Cut(n) | Deed::Stall(n) | Deed::Whole(n) => n.min(to - from),
        _ => to - from,
    };
    let told = if let Deed::OtherSize = deed { size + 1 } else { size };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{told}\r\nConnection: close\r\n\r\n",
        to - from,
        to - 1
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&bytes[from..from + sent]).ok()?;
    if let Deed::Stall(_) = deed {
        let _until_it_is_closed = stream.read(&mut [0]);
    }
    Some(())
}
