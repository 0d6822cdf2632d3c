//! How a service begins, goes on and ends.

use crate::client::{Service, little_memory, nano};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Read;
use std::time::{Duration, Instant};

/// A request whose answer takes long: the ids of nano that end a text are forbidden.
pub(crate) fn long(tokens: usize) -> Value {
    let ends = json!({"2045": -100, "2047": -100});
    json!({"prompt": "a b c", "max_tokens": tokens, "temperature": 0, "stream": true, "logit_bias": ends})
}

#[test]
fn options_stand_in_a_file_and_in_variables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wick.toml");
    std::fs::write(&path, "alias = \"lamp\"\ncontext = 100\ntemperature = 0\n").unwrap();
    let config = path.to_str().unwrap();
    let service = Service::start(&["--config", config]);
    let model = service.get("/v1/models").json()["data"][0].clone();
    assert_eq!((&model["id"], &model["context_length"]), (&"lamp".into(), &100.into()));
    let service = Service::start(&["--config", config, "--context", "120", "--parallel", "3"]);
    let facts = service.get("/v1/wick").json();
    assert_eq!((&facts["context"], &facts["parallel"]), (&120.into(), &3.into()));
    assert_eq!(service.get("/v1/models").json()["data"][0]["id"], "lamp");
}

#[test]
fn a_system_message_goes_first_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("system");
    std::fs::write(&path, "Be brief.").unwrap();
    let with = Service::start(&["--system", path.to_str().unwrap()]);
    let without = Service::start(&[]);
    let tokens = |service: &Service, messages: Value| {
        let body = json!({"messages": messages, "max_tokens": 1});
        service.post("/v1/chat/completions", &body).json()["usage"]["prompt_tokens"].clone()
    };
    let (hi, system) = (
        json!({"role": "user", "content": "hi"}),
        json!({"role": "system", "content": "Be brief."}),
    );
    assert_eq!(tokens(&with, json!([hi])), tokens(&without, json!([system, hi])));
    assert_eq!(tokens(&with, json!([system, hi])), tokens(&without, json!([system, hi])));
}

#[test]
fn figures_are_told() {
    let service = Service::start(&[]);
    let body =
        json!({"messages": [{"role": "user", "content": "turn on the light"}], "temperature": 0});
    for _ in 0..2 {
        service.post("/v1/chat/completions", &body).json();
    }
    assert_eq!(service.metric("wick_generations_total{reason=\"Stop\"}"), 2.0);
    assert!(service.metric("wick_cached_tokens_total") > 10.0);
    assert_eq!(service.metric("wick_first_token_seconds_count"), 2.0);
    assert!(service.metric("wick_next_token_seconds_count") >= 10.0);
    assert!(service.metric("wick_resident_bytes") > 1e6);
    let path = "wick_http_responses_total{path=\"/v1/chat/completions\",status=\"200\"}";
    assert_eq!(service.metric(path), 2.0);
    assert_eq!(
        (service.metric("wick_running_requests"), service.metric("wick_queued_requests")),
        (0.0, 0.0)
    );
    assert_eq!(service.get("/health").json()["status"], "ok");
}

/// The table of figures in the README has all that there are, and no other.
#[test]
fn figures_are_those_of_the_readme() {
    let readme = include_str!("../../src/serve/README.md");
    let (_, table) = readme.split_once("\n## Figures\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let mut written: Vec<String> = rows
        .flat_map(|(names, rest)| {
            let kind = rest.split(' ').next().unwrap();
            let names = names.trim_end_matches('`').split("`, `");
            names.map(move |name| format!("{name} {kind}")).collect::<Vec<_>>()
        })
        .collect();
    let service = Service::start(&[]);
    service.post("/v1/completions", &json!({"prompt": "a", "max_tokens": 1}));
    let told = service.get("/metrics").body;
    let mut told: Vec<&str> =
        told.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    written.sort();
    told.sort_unstable();
    assert_eq!(written, told);
}

/// What was asked before the end is answered; nothing is asked after it.
#[test]
fn an_asked_service_ends_in_order() {
    let service = Service::start(&["--parallel", "1"]);
    let mut first = service.send("POST", "/v1/completions", "", &long(400).to_string());
    let mut begun = [0; 300];
    first.read_exact(&mut begun).unwrap();
    service.signal(Signal::TERM);
    let mut rest = String::new();
    first.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: [DONE]"), "{rest}");
    assert_eq!(service.end(), (Some(0), String::new()));
}

#[test]
fn an_end_that_takes_too_long_is_cut_short() {
    let service = Service::start(&["--grace", "1", "--context", "100000"]);
    let mut endless = service.send("POST", "/v1/completions", "", &long(99_000).to_string());
    let mut begun = [0; 300];
    endless.read_exact(&mut begun).unwrap();
    let start = Instant::now();
    service.signal(Signal::TERM);
    let mut rest = Vec::new();
    let _cut_off = endless.read_to_end(&mut rest);
    assert_eq!(service.end().0, Some(0));
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]"));
}

#[test]
fn a_service_streams_experts_and_says_so() {
    let service = Service::start(&["--memory", &little_memory(&nano()), &nano()]);
    assert_eq!(service.get("/v1/wick").json()["streams_experts"], true);
    let body = json!({"messages": [{"role": "user", "content": "turn on the light in the kitchen"}], "temperature": 0});
    let found = service.post("/v1/chat/completions", &body).json();
    let in_memory = Service::start(&[]).post("/v1/chat/completions", &body).json();
    assert_eq!(found["choices"], in_memory["choices"]);
    assert!(service.metric("wick_read_bytes") > 0.0);
    assert!(service.metric("wick_experts_wanted") >= service.metric("wick_experts_resident"));
}
