//! Texts as vectors, in OpenAI's API and in Ollama's.

use crate::client::Service;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const TEXTS: [&str; 3] = ["turn on the light", "turn off the light", "what is 7 times 8?"];

fn vector(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn texts_become_vectors() {
    let service = Service::start(&["--parallel", "1"]);
    let ask = |body: Value| service.post("/v1/embeddings", &body).json();
    let answer = ask(json!({"model": "nano", "input": TEXTS, "user": "me", "dimensions": null}));
    assert_eq!((&answer["object"], &answer["model"]), (&"list".into(), &"nano".into()));
    let data = answer["data"].as_array().unwrap();
    let vectors: Vec<Vec<f32>> = data.iter().map(|one| vector(&one["embedding"])).collect();
    assert_eq!((data.len(), &data[2]["index"]), (3, &2.into()));
    let count = |text: &str| {
        let tokens = service.post("/tokenize", &json!({"content": text})).json()["tokens"].clone();
        (tokens.as_array().unwrap().len(), tokens)
    };
    let tokens: usize = TEXTS.iter().map(|text| count(text).0).sum();
    assert_eq!(answer["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
    // Alike where texts are.
    assert!(vectors.iter().all(|v| (dot(v, v) - 1.0).abs() < 1e-5));
    assert!(dot(&vectors[0], &vectors[1]) > dot(&vectors[0], &vectors[2]) + 0.01);

    // One alone, after an answer that had the sequence, as base64, and as ids.
    let chat = json!({"messages": [{"role": "user", "content": TEXTS[0]}], "max_tokens": 3});
    service.post("/v1/chat/completions", &chat);
    let one = ask(json!({"input": TEXTS[1], "encoding_format": "base64"}));
    let bytes = STANDARD.decode(one["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let values = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
    assert_eq!(values.collect::<Vec<f32>>(), vectors[1]);
    let ids = count(TEXTS[2]).1;
    assert_eq!(vector(&ask(json!({"input": ids}))["data"][0]["embedding"]), vectors[2]);
    assert_eq!(vector(&ask(json!({"input": [ids]}))["data"][0]["embedding"]), vectors[2]);

    // The same over Ollama's API.
    let body = json!({"model": "nano", "input": TEXTS});
    let several = service.post("/api/embed", &body).json();
    assert_eq!(several["prompt_eval_count"], tokens);
    let found: Vec<_> = several["embeddings"].as_array().unwrap().iter().map(vector).collect();
    assert_eq!(found, vectors);
    let body = json!({"model": "nano:latest", "prompt": TEXTS[0]});
    let one = service.post("/api/embeddings", &body).json();
    assert_eq!(vector(&one["embedding"]), vectors[0]);
    for (path, body, expected) in [
        ("/api/embed", json!({"model": "nano"}), json!([])),
        ("/api/embed", json!({"model": "nano", "input": ""}), json!([])),
    ] {
        assert_eq!(service.post(path, &body).json()["embeddings"], expected);
    }
}

#[test]
fn what_has_no_vector_is_refused() {
    let service = Service::start(&["--context", "64"]);
    let long = "lamp ".repeat(100);
    for (body, word) in [
        (json!({"input": "a", "dimensions": 7}), "dimensions"),
        (json!({"input": ""}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": ["a", ""]}), "input"),
        (json!({"input": [99_999_999]}), "vocabulary"),
        (json!({"input": {"a": 1}}), "a list of texts, ids"),
        (json!({"input": "a", "encoding_format": "octal"}), "`float` or `base64`"),
        (json!({}), "input"),
        (json!({"input": long}), "context"),
    ] {
        let answer = service.post("/v1/embeddings", &body);
        let message = answer.error()["message"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 400, "{body}");
        assert!(message.contains(word), "{body}: {message}");
    }
    let code = service.post("/v1/embeddings", &json!({"input": long})).error()["code"].clone();
    assert_eq!(code, "context_length_exceeded");
    // Ollama cuts off what is too long, unless it is told not to.
    let cut = json!({"model": "nano", "input": long});
    assert_eq!(service.post("/api/embed", &cut).json()["prompt_eval_count"], 64);
    let whole = json!({"model": "nano", "input": long, "truncate": false});
    assert_eq!(service.post("/api/embed", &whole).status, 400);
}
