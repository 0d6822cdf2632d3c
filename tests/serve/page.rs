//! The page at `/`. What it does in a browser is tested by `page/`.

use crate::client::{Answer, Service};

/// What Firefox sends.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

fn get(service: &Service, path: &str, headers: &str) -> Answer {
    Answer::read(service.send("GET", path, headers, ""))
}

/// Paths that a page names in attributes or imports, as they are relative to `/`.
fn named(text: &str) -> Vec<String> {
    let beside = |prefix, folder| {
        text.split(prefix).skip(1).filter_map(move |rest| {
            let (name, _) = rest.split_once('"')?;
            Some(format!("/{folder}{name}"))
        })
    };
    beside("\"page/", "page/").chain(beside("from \"./", "page/")).collect()
}

#[test]
fn browsers_get_a_page_and_all_others_a_greeting() {
    let service = Service::start(&[]);
    let page = get(&service, "/", BROWSER);
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.body);
    for accepted in
        ["", "Accept: */*\r\n", "Accept: application/json\r\n", "Accept: text/htmlx\r\n"]
    {
        let answer = get(&service, "/", accepted);
        assert_eq!((answer.status, answer.body.as_str()), (200, "Ollama is running"), "{accepted}");
    }
    assert_eq!(get(&service, "/", "Accept: TEXT/HTML; q=0.5\r\n").body, page.body);
}

/// Checks what a file of the page is served with, and that it names nothing elsewhere.
fn check(path: &str, answer: &Answer) {
    assert_eq!(answer.status, 200, "{path}");
    let kind = match path.rsplit_once('.') {
        None => "text/html",
        Some((_, "css")) => "text/css",
        Some(_) => "text/javascript",
    };
    let head = answer.head.to_ascii_lowercase();
    for line in [
        &format!("content-type: {kind}; charset=utf-8"),
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(head.lines().any(|found| found == line), "{path}: {line} in {head}");
    }
    assert!(!answer.body.contains("https://"), "{path}");
}

#[test]
fn everything_that_the_page_loads_is_served_with_strict_headers() {
    let service = Service::start(&[]);
    let (mut paths, mut next, mut bytes) = (vec!["/".to_owned()], 0, 0);
    while next < paths.len() {
        let answer = get(&service, &paths[next], BROWSER);
        check(&paths[next], &answer);
        bytes += answer.body.len();
        for path in named(&answer.body) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        next += 1;
    }
    assert_eq!(paths.len(), 9, "{paths:?}");
    assert!(bytes < 42_000, "{bytes}");
}

#[test]
fn the_page_has_no_other_files() {
    let service = Service::start(&[]);
    for path in ["/page/none.js", "/page/..%2fREADME.md", "/page/../README.md", "/page/"] {
        assert_eq!(get(&service, path, BROWSER).status, 404, "{path}");
    }
    assert_eq!(Answer::read(service.send("POST", "/page/main.js", "", "")).status, 405);
}

#[test]
fn the_page_is_there_without_the_key_that_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, "mine\n").unwrap();
    let service = Service::start(&["--api-key-file", path.to_str().unwrap()]);
    for path in ["/", "/page/main.js", "/page/style.css"] {
        assert_eq!(get(&service, path, BROWSER).status, 200, "{path}");
        assert_eq!(Answer::read(service.send("HEAD", path, BROWSER, "")).status, 200, "{path}");
        assert_eq!(Answer::read(service.send("POST", path, BROWSER, "")).status, 401, "{path}");
    }
    for path in ["/v1/wick", "/metrics", "/page", "/pages", "//"] {
        assert_eq!(get(&service, path, BROWSER).status, 401, "{path}");
    }
}

#[test]
fn a_strangers_name_does_not_lead_to_the_page() {
    use std::io::Write;
    let service = Service::start(&[]);
    for path in ["/", "/page/main.js"] {
        let mut stream = service.connect();
        let head = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n");
        stream.write_all(format!("{head}{BROWSER}\r\n").as_bytes()).unwrap();
        assert_eq!(Answer::read(stream).status, 403, "{path}");
    }
}
