//! Requests to the service, over a socket, as anybody can send them.

use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use wick_core::{Arena, Candidates, HeadRows, KvFormat, Options, Sampling, Serial};
use wick_linux::kernels;
use wick_serve::constraint::Forms;
use wick_serve::http::{Access, Listener, Server};
use wick_serve::service::{Models, Ready, SamplingDefaults, Service, State, Worker, now};
use wick_serve::{CHATML, Chat, Room};
use wick_session::{Scheduler, tokenizer};
use wick_tests::{Model, golden_bytes};

const NANO: &str = "../models/nano/nano";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
const POSTS: [&str; 12] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/tokenize",
    "/detokenize",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/api/show",
    "/api/pull",
];

/// Where a service with nano listens, as long as the process lives.
static SOCKET: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = tempfile::tempdir().expect("a folder").keep().join("wick");
    let listener = UnixListener::bind(&path).expect("a socket");
    let usual = SamplingDefaults { sampling: Sampling::GREEDY, seed: Some(1) };
    let models = Models::new(vec!["nano".into()]);
    let service = Service::new(8, PATIENCE, Room::within(Some(1 << 30)), models, usual);
    let service = Arc::new(service);
    let (asked, listeners) = (Arc::clone(&service), vec![Listener::Unix(listener)]);
    let (server, _end) = Server::new(asked, Arc::new(Access::default()), listeners, PATIENCE);
    std::thread::spawn(move || server.run());
    std::thread::spawn(move || answer(&service));
    path
});

/// Has an engine answer, for ever.
fn answer(service: &Service) {
    let bytes = golden_bytes(&format!("{NANO}.gguf"));
    let gguf = wick_format::Gguf::parse(bytes).expect("a committed file");
    let tokenizer = Arc::new(tokenizer(&gguf).expect("a good vocabulary"));
    let model = Model::golden(NANO).with(kernels());
    let (head_rows, kv) = (HeadRows::Exact, KvFormat::F16);
    let options = Options { context: 128, sequences: 2, batch: 64, logits: 2, head_rows, kv };
    let engine = model.engine(options, &Serial);
    let ready = Ready {
        name: "nano".into(),
        room: Arc::clone(&service.room),
        usual: Arc::clone(&service.usual),
        forms: Forms::new(Arc::clone(&tokenizer)),
        chat: Chat::new(CHATML, &tokenizer).map_err(|error| error.to_string()),
        system: None,
        context: 128,
        vocab: model.config.vocab.min(tokenizer.len()),
        hidden: model.config.hidden,
        sequences: 2,
        head_rows,
        most: 8,
        silence: None,
        created: now(),
        facts: Value::Null,
        tokenizer: Arc::clone(&tokenizer),
    };
    let memory = vec![0; 8 * model.config.vocab + 128].leak();
    let candidates = Candidates::new(model.config.vocab, &mut Arena::new(memory)).expect("memory");
    service.set(State::Ready(Arc::new(ready)));
    let scheduler = Scheduler::new(engine, candidates);
    let mut worker = Worker::new(scheduler, &tokenizer, &service.queue, &service.metrics, PATIENCE);
    worker.run(|| std::ops::ControlFlow::Continue(())).expect("an engine that goes on");
}

/// A body for one of the addresses: never an error of the service's own, and what is said to be JSON is.
pub fn body(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let path = POSTS[usize::from(*choice) % POSTS.len()];
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = ask(&[head.as_bytes(), body].concat(), false);
    let answer = String::from_utf8(answer).expect("answers are text");
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    assert!(head.starts_with("HTTP/1.1 "), "{head}");
    assert!(!head.starts_with("HTTP/1.1 500"), "{answer}");
    let is = |kind: &str| head.contains(&format!("content-type: {kind}"));
    if is("application/json") && !head.contains("transfer-encoding: chunked") {
        serde_json::from_str::<Value>(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    }
}

/// Any bytes where a request is expected: an answer, or the end of the connection. Those who come after are served.
pub fn head(bytes: &[u8]) {
    let answer = ask(bytes, true);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1."),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
    assert!(!answer.starts_with(b"HTTP/1.1 500"), "{}", String::from_utf8_lossy(&answer));
}

/// Sends bytes, and reads what comes back until the connection ends. Who hangs up will send no more, and is gone to a
/// service that has not answered yet.
fn ask(bytes: &[u8], hangs_up: bool) -> Vec<u8> {
    let mut stream = UnixStream::connect(&*SOCKET).expect("somebody who listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    // Whoever is refused early is not read to the end.
    let _refused = stream.write_all(bytes);
    if hangs_up {
        let _gone = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer).map_err(|error| error.kind());
    assert!(end != Err(ErrorKind::WouldBlock), "no end of {:?}", String::from_utf8_lossy(&answer));
    answer
}
