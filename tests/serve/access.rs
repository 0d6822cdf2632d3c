//! Who may ask.

use crate::client::{Answer, Service, wick};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn models(service: &Service, headers: &str) -> Answer {
    Answer::read(service.send("GET", "/v1/models", headers, ""))
}

#[test]
fn a_key_is_needed_where_there_are_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, "# mine\nfirst-key\n\nsecond\n").unwrap();
    let service = Service::start(&["--host", "0.0.0.0", "--api-key-file", path.to_str().unwrap()]);
    // The address of all interfaces is also that of this machine.
    for key in ["first-key", "second"] {
        assert_eq!(models(&service, &format!("Authorization: Bearer {key}\r\n")).status, 200);
    }
    for header in [
        "",
        "Authorization: Bearer first-ke\r\n",
        "Authorization: Basic second\r\n",
        "Authorization: Bearer # mine\r\n",
    ] {
        let answer = models(&service, header);
        assert_eq!(
            (answer.status, &answer.error()["code"]),
            (401, &"invalid_api_key".into()),
            "{header}"
        );
    }
    // Those who watch it have none.
    assert_eq!(service.get("/health").status, 200);
    assert_eq!(service.get("/metrics").status, 401);

    std::fs::write(&path, "third\n").unwrap();
    service.signal(Signal::HUP);
    let is_read = || models(&service, "Authorization: Bearer third\r\n").status == 200;
    assert!((0..100).any(|_| is_read() || {
        std::thread::sleep(Duration::from_millis(50));
        false
    }));
    assert_eq!(models(&service, "Authorization: Bearer second\r\n").status, 401);

    // A file without keys, as an editor leaves it for a moment, lets nobody in.
    for text in ["", "# none yet\n"] {
        std::fs::write(&path, text).unwrap();
        service.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(models(&service, "").status, 401, "{text:?}");
        assert!(is_read(), "{text:?}");
    }
    // Ollama's clients show what they are told in their own form.
    let refused = service.get("/api/tags");
    let body: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(refused.status, 401);
    assert!(body["error"].as_str().is_some_and(|error| error.contains("API key")), "{body}");
    let headers = "Authorization: Bearer third\r\n";
    for (method, path, status) in [("POST", "/api/copy", 404), ("DELETE", "/api/tags", 405)] {
        let refused = Answer::read(service.send(method, path, headers, ""));
        let body: Value = serde_json::from_str(&refused.body).unwrap();
        assert!(refused.status == status && body["error"].is_string(), "{refused:?}");
    }
}

#[test]
fn nothing_listens_beyond_this_machine_without_keys() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "# none\n").unwrap();
    let serve = |options: &[&str]| {
        let output = wick().arg("serve").args(options).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, err) = serve(&["--host", "0.0.0.0", "--port", "0"]);
    assert!(code == Some(2) && err.contains("--api-key-file expected, or --insecure"), "{err}");
    let (code, err) = serve(&["--port", "0", "--api-key-file", empty.to_str().unwrap()]);
    assert!(code == Some(2) && err.contains("no key in it"), "{err}");
    let (code, err) = serve(&["--port", "0", "--parallel", "2", "--skip-missing", "0.1"]);
    assert!(code == Some(2) && err.contains("--parallel 1 expected"), "{err}");
    let service = Service::start(&[]);
    let (_, port) = service.address.rsplit_once(':').unwrap();
    let (code, err) = serve(&["--port", port]);
    assert!(code == Some(1) && err.contains("in use"), "{err}");
}

#[test]
fn keys_that_everybody_can_read_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, "key\n").unwrap();
    for (mode, is_warned_of) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false)] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let output = wick().args(["serve", "--check", "--api-key-file"]).arg(&path).output();
        let output = output.unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{err}");
        assert_eq!(err.contains("everybody on this machine can read"), is_warned_of, "{err}");
        assert!(!err.contains("key\n"), "{err}");
    }
}

/// A page of a stranger's whose name leads to this machine: the browser says whom it means.
#[test]
fn strange_hosts_are_refused() {
    let service = Service::start(&["--allow-host", "lamp.local"]);
    let ask = |host: &str| {
        let mut stream = service.connect();
        let request =
            format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream).status
    };
    for host in
        ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:80", "lamp.local", "192.168.1.4"]
    {
        assert_eq!(ask(host), 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "1.2.3.4.example",
        "[127.0.0.1].evil.example",
    ] {
        assert_eq!(ask(host), 403, "{host}");
    }
    let mut stream = service.connect();
    let request = b"GET /v1/models HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    assert_eq!(Answer::read(stream).status, 403);
}

#[test]
fn a_socket_serves_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wick.sock");
    let socket = path.to_str().unwrap().to_owned();
    let service = Service::start(&["--unix", &socket]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut stream = UnixStream::connect(&path).unwrap();
    // No page can ask there, whatever it calls the service.
    stream
        .write_all(b"GET /v1/models HTTP/1.1\r\nHost: wick\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    // One that was killed leaves its socket behind, which the next one takes over.
    drop(service);
    assert!(path.exists());
    let service = Service::start(&["--unix", &socket]);
    service.signal(Signal::TERM);
    assert_eq!(service.end().0, Some(0));
    assert!(!path.exists());
}

/// Pages of others may ask and read what is answered only if they are named.
#[test]
fn pages_of_others_are_let_in_by_name() {
    let ask = |service: &Service, method: &str, origin: &str| {
        let headers = format!(
            "Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization,x-stainless-os\r\n"
        );
        let answer = Answer::read(service.send(method, "/v1/models", &headers, ""));
        (answer.status, answer.head.to_ascii_lowercase())
    };
    let allowed = |origin: &str| format!("access-control-allow-origin: {origin}\r\n");
    let service = Service::start(&[]);
    let (_, head) = ask(&service, "GET", "http://lamp:3000");
    assert!(!head.contains("access-control"), "{head}");

    let service = Service::start(&["--cors", "http://lamp:3000", "--cors", "https://door"]);
    for origin in ["http://lamp:3000", "https://door"] {
        let (status, head) = ask(&service, "OPTIONS", origin);
        assert!(status == 200 && head.contains(&allowed(origin)), "{head}");
        assert!(
            head.contains("access-control-allow-headers: authorization,x-stainless-os"),
            "{head}"
        );
        let (status, head) = ask(&service, "GET", origin);
        assert!(status == 200 && head.contains(&allowed(origin)), "{head}");
    }
    let (_, head) = ask(&service, "GET", "http://evil");
    assert!(!head.contains("access-control-allow-origin"), "{head}");

    // What changes something is refused to strangers, whose browser would send it blindly.
    let send = |service: &Service, origin: &str| {
        let headers = format!("Origin: {origin}\r\nContent-Type: text/plain\r\n");
        let body = r#"{"prompt": "a", "max_tokens": 1}"#;
        Answer::read(service.send("POST", "/v1/completions", &headers, body))
    };
    for origin in ["http://lamp:3000", "http://localhost", "https://LOCALHOST"] {
        assert_eq!(send(&service, origin).status, 200, "{origin}");
    }
    for origin in ["http://evil", "null", "http://lamp", "http://localhost:3000", "file://"] {
        let refused = send(&service, origin);
        assert_eq!(refused.status, 403, "{origin}");
        assert!(refused.error()["message"].as_str().unwrap().contains("--cors"));
    }
    assert_eq!(send(&Service::start(&["--cors", "*"]), "null").status, 200);

    // A refusal can be read too: the page is to know what is wrong.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, "key\n").unwrap();
    let service = Service::start(&["--cors", "*", "--api-key-file", path.to_str().unwrap()]);
    let (status, head) = ask(&service, "GET", "http://anybody");
    assert!(status == 401 && head.contains(&allowed("*")), "{head}");
    let output = wick().args(["serve", "--port", "0", "--cors", "http://lamp/"]).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && err.contains("scheme, host and port expected"),
        "{err}"
    );
}
