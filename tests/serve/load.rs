//! Several clients at once, and clients that do harm.

use crate::client::{Answer, Service, few, is_emulated, until};
use crate::service::long;
use serde_json::{Value, json};
use std::io::{Read, Write};

/// The same request and seed give the same text, alone or beside others.
#[test]
fn answers_do_not_depend_on_who_else_asks() {
    let service = Service::start(&["--parallel", "4", "--max-queue", "100"]);
    let body = |i: usize| {
        let text = format!("{}what is {i} plus 3?", "please, ".repeat(i % 7));
        let messages = json!([{"role": "user", "content": text}]);
        json!({"messages": messages, "temperature": 1.5, "top_k": 0, "seed": i, "max_tokens": 30, "logprobs": true})
    };
    let ask = |i: usize| service.post("/v1/chat/completions", &body(i)).json()["choices"].clone();
    let all = few(24, 8);
    let alone: Vec<Value> = (0..all).map(ask).collect();
    std::thread::scope(|scope| {
        let askers = (0..all).rev().map(|i| (i, scope.spawn(move || ask(i))));
        for (i, asker) in askers.collect::<Vec<_>>() {
            assert_eq!(asker.join().unwrap(), alone[i], "request {i}");
        }
    });
}

/// A text that says the same again is drafted, and is the one that it is without drafts, also in a stream and beside others.
#[test]
fn drafts_are_not_noticed() {
    let options = ["--parallel", "3", "--context", "300"];
    let [with, without] =
        ["5", "0"].map(|n| Service::start(&[&options[..], &["--drafts", n]].concat()));
    let lamp = with.post("/tokenize", &json!({"content": "lamp"})).json()["tokens"][0].to_string();
    let body = |i: usize| {
        let bias = json!({&lamp: 4 * i, "2045": -100, "2047": -100});
        let text = "the lamp is on. the lamp is off. the lamp";
        json!({"prompt": text, "logit_bias": bias, "temperature": 0.8, "seed": i, "max_tokens": 120, "logprobs": 2})
    };
    let ask = |service: &Service, i| {
        let answer = service.post("/v1/completions", &body(i)).json();
        (answer["choices"].clone(), answer["usage"]["completion_tokens"].clone())
    };
    std::thread::scope(|scope| {
        let (with, ask) = (&with, &ask);
        let askers = (few(0, 3)..6).map(|i| (i, scope.spawn(move || ask(with, i))));
        for (i, asker) in askers.collect::<Vec<_>>() {
            assert_eq!(asker.join().unwrap(), ask(&without, i), "request {i}");
        }
    });
    let mut streamed = body(5);
    streamed["stream"] = true.into();
    let pieces = |service: &Service| {
        let events = service.post("/v1/completions", &streamed).events();
        events.iter().map(|event| event["choices"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(pieces(&with), pieces(&without));
    assert!(with.metric("wick_drafts_accepted_total") > 20.0);
    assert_eq!(without.metric("wick_drafts_accepted_total"), 0.0);
    assert_eq!(without.metric("wick_drafts_rejected_total"), 0.0);
}

/// One answer, and then one after another, with a queue of two.
#[test]
fn too_many_are_refused_at_once() {
    let service = Service::start(&["--parallel", "1", "--max-queue", "2", "--context", "100000"]);
    let ask = || service.send("POST", "/v1/completions", "", &long(90_000).to_string());
    let mut running = ask();
    running.read_exact(&mut [0; 300]).unwrap();
    let waiting = [ask(), ask()];
    until("two wait", || service.metric("wick_queued_requests") == 2.0);
    let refused = Answer::read(ask());
    assert_eq!((refused.status, &refused.error()["type"]), (429, &"rate_limit_error".into()));
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: "), "{}", refused.head);
    // Those who leave make room, also for those who wait.
    drop(waiting);
    drop(running);
    until("nobody runs", || service.metric("wick_running_requests") == 0.0);
    let body = json!({"prompt": "abc", "max_tokens": 2});
    assert_eq!(service.post("/v1/completions", &body).status, 200);
}

/// White space goes ahead of a plain answer that takes long, unless it is not wanted; one that fails then is not whole.
#[test]
fn a_plain_answer_is_kept_alive() {
    let body = json!({"prompt": "abc", "max_tokens": 2, "temperature": 0}).to_string();
    for (padding, begins) in [("1", " "), ("0", "{")] {
        let options = ["--parallel", "1", "--context", "100000", "--padding", padding];
        let service = Service::start(&options);
        let mut running = service.send("POST", "/v1/completions", "", &long(90_000).to_string());
        running.read_exact(&mut [0; 300]).unwrap();
        let mut waiting = service.send("POST", "/v1/completions", "", &body);
        let mut first = vec![0; usize::from(padding == "1")];
        waiting.read_exact(&mut first).unwrap();
        until("it waits", || service.metric("wick_queued_requests") == 1.0);
        drop(running);
        waiting.read_to_end(&mut first).unwrap();
        let answer = Answer::of(&first);
        assert!(answer.body.starts_with(begins), "{answer:?}");
        let json: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &json["usage"]["completion_tokens"]), (200, &2.into()));
    }
    let options = ["--parallel", "1", "--context", "100000", "--padding", "1", "--grace", "1"];
    let service = Service::start(&options);
    let _running = service.send("POST", "/v1/completions", "", &long(99_000).to_string());
    until("it runs", || service.metric("wick_running_requests") == 1.0);
    let mut waiting = service.send("POST", "/v1/completions", "", &body);
    waiting.read_exact(&mut [0; 30]).unwrap();
    service.signal(rustix::process::Signal::TERM);
    let mut rest = Vec::new();
    let _cut_off = waiting.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
}

/// Who gives up while the prompt is read, or while the answer is written, is not written for any more.
#[test]
fn who_leaves_frees_a_sequence() {
    let service = Service::start(&["--parallel", "1", "--context", "100000"]);
    let plain = json!({"prompt": "a b c", "max_tokens": 90_000, "temperature": 0, "logit_bias": {"2045": -100, "2047": -100}});
    for body in [long(90_000), plain] {
        let client = service.send("POST", "/v1/completions", "", &body.to_string());
        until("it runs", || service.metric("wick_running_requests") == 1.0);
        drop(client);
        until("it has ended", || service.metric("wick_running_requests") == 0.0);
    }
    assert_eq!(service.metric("wick_generations_total{reason=\"Cancelled\"}"), 2.0);
}

/// What requests take beside the engine is taken from one room, and given back: bodies of much more memory than bytes are
/// refused before they are read as JSON, forms wait for each other, and who comes when all is taken is told to come later.
#[test]
fn requests_share_bounded_memory() {
    let service = Service::start(&["--memory", "64M", "--parallel", "1", "--context", "2048"]);
    let taken = || service.metric("wick_request_bytes");
    assert_eq!(taken(), 0.0);
    let before = service.metric("wick_resident_bytes");
    // 1 MiB that would be 100.
    let many = format!("{{\"prompt\": [{}[]]}}", "[],".repeat(350_000));
    for _ in 0..3 {
        let answer = service.send("POST", "/v1/completions", "", &many);
        let answer = Answer::read(answer);
        assert_eq!(answer.status, 413, "{}", answer.body);
        assert!(answer.body.contains("4 MiB"), "{}", answer.body);
    }
    let form = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 8, "response_format": {"type": "json_object"}});
    std::thread::scope(|scope| {
        let ask = || service.post("/v1/chat/completions", &form).status;
        let askers = [(); 5].map(|()| scope.spawn(ask));
        assert_eq!(askers.map(|asker| asker.join().unwrap()), [200; 5]);
    });
    let waits = long(1_500).to_string();
    let waiting: Vec<_> =
        (0..20).map(|_| service.send("POST", "/v1/completions", "", &waits)).collect();
    until("all is taken", || {
        service.metric("wick_http_responses_total{path=\"/v1/completions\",status=\"429\"}") > 0.0
    });
    assert!(taken() > 3e6, "{}", taken());
    let refused = service.post("/v1/completions", &long(1_500));
    assert_eq!(refused.status, 429);
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: 5"), "{}", refused.head);
    drop(waiting);
    until("it is given back", || taken() == 0.0);
    let more = service.metric("wick_resident_bytes") - before;
    // Of an emulator, what it has translated counts too.
    assert!(more < 12e6 || is_emulated(), "{more} bytes");
}

/// What takes most for its bytes is counted as what it takes: objects of one field, and JSON in a text that is parsed, too.
#[test]
fn small_objects_take_room_wherever_they_stand() {
    let service = Service::start(&["--memory", "64M", "--parallel", "1", "--context", "2048"]);
    let objects = vec![json!({"a": 1}); 10_000];
    let call = json!({"function": {"name": "a", "arguments": json!(objects).to_string()}});
    for message in [
        json!({"role": "user", "content": "a", "x": objects}),
        json!({"role": "assistant", "tool_calls": [{"type": "function", "function": call["function"]}]}),
    ] {
        let answer = service.post("/v1/chat/completions", &json!({"messages": [message]}));
        assert_eq!(answer.status, 413, "{}", answer.body);
    }
    assert_eq!(service.metric("wick_request_bytes"), 0.0);
}

/// All parts of a request that was taken are answered: others who come between, and the end of the service, refuse none of them.
#[test]
fn who_was_taken_is_answered_to_the_end() {
    let service = Service::start(&["--parallel", "1", "--max-queue", "1"]);
    let body = json!({"prompt": "a b c", "n": 8, "max_tokens": 40, "temperature": 1.5, "top_k": 0, "logit_bias": {"2045": -100, "2047": -100}});
    let plain = service.send("POST", "/v1/completions", "", &body.to_string());
    until("it runs", || service.metric("wick_running_requests") == 1.0);
    let others: Vec<_> = (0..20)
        .map(|_| service.send("POST", "/v1/completions", "", &long(20).to_string()))
        .collect();
    service.signal(rustix::process::Signal::TERM);
    let choices = Answer::read(plain).json()["choices"].clone();
    assert_eq!(choices.as_array().unwrap().len(), 8);
    for other in others {
        let mut bytes = Vec::new();
        let mut other = other;
        let _reset = other.read_to_end(&mut bytes);
    }
    assert_eq!(service.end().0, Some(0));
}

#[test]
fn what_is_too_large_or_no_http_is_refused() {
    let service = Service::start(&[]);
    let large = "x".repeat(9 << 20);
    assert_eq!(Answer::read(service.send("POST", "/v1/completions", "", &large)).status, 413);
    let header = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    assert_eq!(Answer::read(service.send("GET", "/health", &header, "")).status, 431);
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"\xff\xfe",
    ] {
        let mut stream = service.connect();
        stream.write_all(junk).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _closed = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
    let deep = format!("{{\"messages\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(Answer::read(service.send("POST", "/v1/chat/completions", "", &deep)).status, 400);
    // Hundreds of connections that say nothing keep nobody out for long.
    let silent: Vec<_> = (0..200).map(|_| service.connect()).collect();
    assert_eq!(service.get("/health").status, 200);
    drop(silent);
}
