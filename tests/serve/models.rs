//! Several models, of which one is loaded at a time.

use crate::client::{Answer, Service, nano, until, wick};
use crate::service::long;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A service with nano, another model, and one whose file is none, as a file with options says.
fn service(folder: &TempDir) -> Service {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tiny = path("tiny.gguf");
    let made = wick().args(["synth", "--no-run", "--shape", "tiny", "-o", &tiny]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::write(path("broken.gguf"), "GGUF").unwrap();
    let models = ["tiny", "broken"]
        .map(|name| format!("{name} = {:?}\n", path(&(name.to_owned() + ".gguf"))));
    let table = format!("parallel = 2\n[models]\n{}", models.concat());
    std::fs::write(path("wick.toml"), table).unwrap();
    Service::start(&["--config", &path("wick.toml"), &nano()])
}

fn body(model: &str) -> Value {
    json!({"model": model, "prompt": [5, 6, 7], "max_tokens": 8, "temperature": 0, "logprobs": 1})
}

fn text(answer: &Answer) -> Value {
    answer.json()["choices"].clone()
}

#[test]
fn the_model_that_is_asked_for_answers() {
    let folder = TempDir::new().unwrap();
    let service = service(&folder);
    let ask = |model: &str| service.post("/v1/completions", &body(model));
    let alone = |model: &str| {
        let service = Service::start(&["--parallel", "1", model]);
        text(&service.post("/v1/completions", &body("")))
    };
    let (small, tiny) = (alone(&nano()), alone(folder.path().join("tiny.gguf").to_str().unwrap()));
    assert_ne!(small, tiny);
    for (model, expected) in
        [("nano", &small), ("tiny", &tiny), ("tiny:latest", &tiny), ("", &tiny), ("nano", &small)]
    {
        let answer = ask(model);
        assert_eq!(text(&answer), *expected, "{model}");
        let loaded = if model.starts_with("nano") { "nano" } else { "tiny" };
        assert_eq!(answer.json()["model"], loaded);
        assert_eq!(service.get("/api/ps").json()["models"][0]["name"], format!("{loaded}:latest"));
    }
    let names = |list: &Value, key: &str| {
        let names = list.as_array().unwrap().iter().map(|model| model[key].clone());
        Value::from_iter(names)
    };
    let all = service.get("/v1/models").json();
    assert_eq!(names(&all["data"], "id"), json!(["nano", "tiny", "broken"]));
    let all = service.get("/api/tags").json();
    let tagged = json!(["nano:latest", "tiny:latest", "broken:latest"]);
    assert_eq!(names(&all["models"], "name"), tagged);
    for name in ["tiny", "tiny:latest"] {
        assert_eq!(service.get(&format!("/v1/models/{name}")).json()["id"], "tiny");
    }
    // What only asks of a model has none loaded.
    assert_eq!(service.post("/api/show", &json!({"model": "tiny"})).status, 200);
    assert_eq!(service.get("/api/ps").json()["models"][0]["name"], "nano:latest");
    let unknown = ask("none").error();
    assert_eq!(unknown["code"], "model_not_found");
    assert_eq!(service.post("/api/chat", &json!({"model": "none", "messages": []})).status, 404);
}

/// Whoever is being answered is answered to the end by the same model; and those who ask for models in turn get theirs.
#[test]
fn models_take_turns_between_answers() {
    let folder = TempDir::new().unwrap();
    let service = service(&folder);
    let mut slow = long(300);
    slow["model"] = "nano".into();
    let alone = service.post("/v1/completions", &slow).events();
    let words =
        |events: &[Value]| events.iter().map(|event| event["choices"].clone()).collect::<Vec<_>>();
    let running = service.send("POST", "/v1/completions", "", &slow.to_string());
    until("it runs", || service.metric("wick_running_requests") == 1.0);
    std::thread::scope(|scope| {
        let models = ["tiny", "nano", "tiny", "broken", "nano", "tiny", "broken", "nano"];
        let askers = models.map(|model| {
            let service = &service;
            (model, scope.spawn(move || service.post("/v1/completions", &body(model))))
        });
        for (model, asker) in askers {
            let answer = asker.join().unwrap();
            match model {
                "broken" => {
                    assert_eq!(answer.status, 503, "{}", answer.body);
                    assert!(answer.body.contains("broken.gguf"), "{}", answer.body);
                }
                _ => assert_eq!(answer.json()["model"], model),
            }
        }
    });
    assert_eq!(words(&Answer::read(running).events()), words(&alone));
    assert_eq!(service.get("/health").status, 200);
    service.signal(rustix::process::Signal::TERM);
    assert_eq!(service.end().0, Some(0));
}

#[test]
fn two_models_have_two_names() {
    let nano = nano();
    let also = format!("nano={nano}");
    let twice = wick().args(["serve", "--port", "0", "--also", &also, &nano]).output().unwrap();
    assert_eq!(twice.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("two models are called \"nano\""));
    // Without a file of its own, the service has what is named, and not what is built in.
    let only = Service::start(&["--also", &format!("lamp={nano}")]);
    assert_eq!(only.get("/v1/models").json()["data"][0]["id"], "lamp");
}
