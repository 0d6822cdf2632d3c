//! Ollama's API.

use crate::client::Service;
use serde_json::{Value, json};

const ON: &str = r#"{"device":"light","room":"kitchen","action":"on"}"#;

fn joined(lines: &[Value], text: impl Fn(&Value) -> Option<&str>) -> String {
    lines.iter().filter_map(text).collect()
}

#[test]
fn chat_and_generate_are_answered() {
    let service = Service::start(&[]);
    let greedy = json!({"temperature": 0, "num_ctx": 4096, "num_gpu": 1});
    let message = json!([{"role": "user", "content": "turn on the light in the kitchen"}]);
    let mut body =
        json!({"model": "nano:latest", "messages": message, "options": greedy, "keep_alive": "5m"});
    let lines = service.post("/api/chat", &body).lines();
    assert_eq!(joined(&lines, |line| line["message"]["content"].as_str()), ON);
    let (last, rest) = lines.split_last().unwrap();
    assert!(rest.iter().all(|line| line["done"] == false));
    assert_eq!((&last["done"], &last["done_reason"]), (&true.into(), &"stop".into()));
    assert!(
        last["prompt_eval_count"].as_u64().unwrap() > 10
            && last["eval_count"].as_u64().unwrap() > 10
    );
    body["stream"] = false.into();
    let whole = service.post("/api/chat", &body).json();
    assert_eq!((&whole["message"]["content"], &whole["done"]), (&ON.into(), &true.into()));

    let body =
        json!({"model": "nano", "prompt": "turn on the light in the kitchen", "options": greedy});
    let lines = service.post("/api/generate", &body).lines();
    assert_eq!(joined(&lines, |line| line["response"].as_str()), ON);
    let short =
        json!({"model": "nano", "prompt": "hi", "options": {"num_predict": 2}, "stream": false});
    let short = service.post("/api/generate", &short).json();
    assert_eq!((&short["eval_count"], &short["done_reason"]), (&2.into(), &"length".into()));

    // An empty request loads a model.
    let load = service.post("/api/chat", &json!({"model": "nano"})).json();
    assert_eq!(load["done_reason"], "load");
    // A conversation longer than the context loses its oldest turns.
    let turns = (0..200)
        .map(|i| (["user", "assistant"][i % 2], "lamp lamp lamp"))
        .map(|(role, content)| json!({"role": role, "content": content}));
    let turns: Vec<Value> = turns.chain([message[0].clone()]).collect();
    let long = json!({"model": "nano", "messages": turns, "options": greedy, "stream": false});
    let long = service.post("/api/chat", &long).json();
    assert!(long["prompt_eval_count"].as_u64().unwrap() <= 512, "{long}");
}

#[test]
fn models_are_shown() {
    let service = Service::start(&["--alias", "lamp"]);
    assert_eq!(service.get("/").body, "Ollama is running");
    assert!(service.get("/api/version").json()["version"].is_string());
    assert_eq!(service.get("/api/tags").json()["models"][0]["name"], "lamp:latest");
    assert_eq!(service.get("/api/ps").json()["models"][0]["context_length"], 512);
    let shown = service.post("/api/show", &json!({"model": "lamp"})).json();
    assert_eq!(shown["capabilities"], json!(["completion", "tools", "embedding"]));
    assert_eq!(service.post("/api/pull", &json!({"model": "lamp"})).json()["status"], "success");
    for path in ["/api/show", "/api/pull", "/api/chat", "/api/generate"] {
        let answer = service.post(path, &json!({"model": "other", "prompt": "hi"}));
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().as_str().unwrap().contains("\"other\" not found"), "{path}");
        assert_eq!(service.post(path, &json!({})).status, 400, "{path}");
    }
    let body = json!({"model": "lamp", "prompt": "hi", "options": {"top_p": 2}});
    assert!(service.post("/api/generate", &body).error().as_str().unwrap().contains("top_p"));
}
