//! Calls of tools.

use crate::client::{Service, few, nano};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use tempfile::TempDir;
use wick_format::Gguf;
use wick_serve::CHATML;
use wick_tests::gguf::{Value as Entry, Writer};

fn tool(name: &str, properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
    let parameters = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    json!({"type": "function", "function": {"name": name, "description": "Does it.", "parameters": parameters}})
}

fn tools() -> Value {
    json!([
        tool("turn", json!({"room": {"enum": ["ha\"ll", "bath}"]}, "on": {"type": "boolean"}})),
        tool("set_level", json!({"level": {"type": "integer", "minimum": 0, "maximum": 99}})),
    ])
}

fn wild(choice: Value, seed: u64) -> Value {
    json!({
        "messages": [{"role": "user", "content": "turn on the light in the kitchen"}], "tools": tools(),
        "temperature": 2, "top_k": 0, "top_p": 1, "seed": seed, "max_tokens": 300, "tool_choice": choice,
    })
}

fn choice(service: &Service, body: &Value) -> Value {
    service.post("/v1/chat/completions", body).json()["choices"][0].clone()
}

/// Checks a call, whose arguments must be what the schema of its tool says.
fn check(name: &Value, arguments: &Value) {
    let arguments: Value = serde_json::from_str(arguments.as_str().unwrap()).unwrap();
    match name.as_str().unwrap() {
        "turn" => assert!(arguments["on"].is_boolean() && arguments["room"].is_string()),
        "set_level" => assert!(arguments["level"].as_u64().unwrap() < 100),
        other => panic!("{other}"),
    }
    assert!(arguments.as_object().unwrap().len() < 3);
}

#[test]
fn tools_that_must_be_called_are_called() {
    let service = Service::start(&[]);
    let named = json!({"type": "function", "function": {"name": "set_level"}});
    for seed in 0..few(6, 2) as u64 {
        for (tool_choice, is_parallel) in
            [(json!("required"), true), (json!("required"), false), (named.clone(), true)]
        {
            let mut body = wild(tool_choice.clone(), seed);
            body["parallel_tool_calls"] = is_parallel.into();
            let choice = choice(&service, &body);
            assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
            assert_eq!(choice["message"]["content"], Value::Null);
            let calls = choice["message"]["tool_calls"].as_array().unwrap();
            for call in calls {
                assert_eq!(call["type"], "function");
                assert!(call["id"].as_str().unwrap().starts_with("call_"));
                check(&call["function"]["name"], &call["function"]["arguments"]);
                assert!(tool_choice == "required" || call["function"]["name"] == "set_level");
            }
            assert!(calls.len() == 1 || tool_choice == "required" && is_parallel, "{choice}");
        }
    }
    // Cut off, it says so.
    let mut body = wild(json!("required"), 1);
    body["max_tokens"] = 3.into();
    assert_eq!(choice(&service, &body)["finish_reason"], "length");
}

/// nano never learnt to go on after a call; where it may not end, it has to, unless one is all that is allowed.
#[test]
fn several_are_called_where_they_may_be() {
    let service = Service::start(&[]);
    let mut body = wild(json!("required"), 3);
    body["logit_bias"] = json!({"2045": -100, "2047": -100});
    let several = choice(&service, &body);
    let calls = several["message"]["tool_calls"].as_array().unwrap();
    assert!(calls.len() > 2 && several["finish_reason"] == "length", "{several}");
    let (_cut_off, whole) = calls.split_last().unwrap();
    whole.iter().for_each(|call| check(&call["function"]["name"], &call["function"]["arguments"]));
    check_stream(&service, &body);
    body["parallel_tool_calls"] = false.into();
    let one = choice(&service, &body);
    assert_eq!(one["message"]["tool_calls"].as_array().unwrap().len(), 1, "{one}");
}

/// Checks that a request's stream has what its whole answer has: the text, and of each call the name and then the
/// arguments in parts.
fn check_stream(service: &Service, body: &Value) {
    let whole = choice(service, body);
    let mut body = body.clone();
    body["stream"] = true.into();
    let events = service.post("/v1/chat/completions", &body).events();
    let (mut text, mut calls) = (String::new(), BTreeMap::<u64, (String, String, usize)>::new());
    for event in &events {
        let delta = &event["choices"][0]["delta"];
        let more = delta["content"].as_str().unwrap_or_default();
        assert!(more.is_empty() || calls.is_empty(), "{delta}");
        text += more;
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            let call = calls.entry(part["index"].as_u64().unwrap()).or_default();
            let function = &part["function"];
            assert_eq!(call.0.is_empty(), part["id"].is_string(), "{part}");
            call.0 += function["name"].as_str().unwrap_or_default();
            call.1 += function["arguments"].as_str().unwrap();
            call.2 += 1;
        }
    }
    let message = &whole["message"];
    assert_eq!(text, message["content"].as_str().unwrap_or_default());
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], whole["finish_reason"]);
    let called = message["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), called.len());
    for (call, (name, arguments, parts)) in called.iter().zip(calls.values()) {
        assert_eq!(
            (&call["function"]["name"], &call["function"]["arguments"]),
            (&name.as_str().into(), &arguments.as_str().into())
        );
        assert!(*parts > 3 || whole["finish_reason"] == "length", "{parts}");
    }
}

#[test]
fn a_stream_has_the_same_calls() {
    check_stream(&Service::start(&[]), &wild(json!("required"), 4));
}

/// A service of a model that calls of its own accord: nano, whose token at the end of a turn is called `<tool_call>`. It reads
/// the same ids as ever, and where its answer would end, a call begins.
fn caller() -> (Service, TempDir) {
    let (end, call) = ("<|im_end|>", "<tool_call>");
    let bytes = fs::read(nano()).unwrap();
    let mut writer = Writer::from(&Gguf::parse(&bytes).unwrap());
    let tokens = writer.entries.iter_mut().find(|(key, _)| key == b"tokenizer.ggml.tokens");
    let Some((_, Entry::Array(_, tokens))) = tokens else { panic!("no tokens") };
    let id = |name: &str| tokens.iter().position(|token| *token == name.into()).unwrap();
    let (id_of_end, other_end) = (id(end), id("<|endoftext|>"));
    tokens[id_of_end] = call.into();
    writer.set("tokenizer.ggml.eos_token_id", other_end as u32);
    writer.set("tokenizer.chat_template", CHATML.replace(end, call));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("caller.gguf");
    fs::write(&path, writer.to_bytes()).unwrap();
    (Service::start(&[path.to_str().unwrap(), "--context", "1024"]), folder)
}

/// What nano says to [`wild`]'s message.
const ON: &str = r#"{"device":"light","room":"kitchen","action":"on"}"#;

/// Text comes first, and once the model has begun a call, it is one of a tool, with arguments that are right.
#[test]
fn a_model_calls_of_its_own_accord() {
    let (service, _folder) = caller();
    for (tool_choice, is_parallel) in [(json!("auto"), false), (Value::Null, true)] {
        let mut body = wild(tool_choice, 0);
        // The end (`<|endoftext|>`) is unlikely at first; each line makes the next one less likely.
        let more = json!({"temperature": 0, "frequency_penalty": 2, "logit_bias": {"2045": -15},
            "parallel_tool_calls": is_parallel, "logprobs": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let found = choice(&service, &body);
        assert_eq!(found["finish_reason"], "tool_calls", "{found}");
        assert_eq!(found["message"]["content"], ON);
        let calls = found["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len() > 1, is_parallel, "{found}");
        let mut written = Vec::new();
        for call in calls {
            let (name, arguments) = (&call["function"]["name"], &call["function"]["arguments"]);
            check(name, arguments);
            let arguments = arguments.as_str().unwrap();
            written.push(format!(
                "<tool_call>\n{{\"name\": {name}, \"arguments\": {arguments}}}\n</tool_call>"
            ));
        }
        let tokens = found["logprobs"]["content"].as_array().unwrap();
        let drawn: String = tokens.iter().filter_map(|token| token["token"].as_str()).collect();
        assert_eq!(drawn, ON.to_owned() + &written.join("\n"));
        check_stream(&service, &body);
    }
}

#[test]
fn a_model_calls_of_its_own_accord_in_ollamas_form() {
    let (service, _folder) = caller();
    let mut body = json!({
        "model": "caller", "messages": wild(Value::Null, 0)["messages"], "tools": tools(),
        "options": {"temperature": 0}, "stream": false,
    });
    let whole = service.post("/api/chat", &body).json();
    assert_eq!((&whole["message"]["content"], &whole["done_reason"]), (&ON.into(), &"stop".into()));
    let calls = whole["message"]["tool_calls"].as_array().unwrap();
    assert!(!calls.is_empty());
    for call in calls {
        let arguments = &call["function"]["arguments"];
        assert!(arguments.is_object(), "{call}");
        check(&call["function"]["name"], &arguments.to_string().into());
    }
    body["stream"] = true.into();
    let lines = service.post("/api/chat", &body).lines();
    let told =
        |key: &str| lines.iter().map(|line| line["message"][key].clone()).collect::<Vec<_>>();
    let text: String = told("content").iter().filter_map(Value::as_str).collect();
    assert_eq!(text, ON);
    let streamed: Vec<Value> =
        told("tool_calls").into_iter().filter(|calls| !calls.is_null()).collect();
    assert_eq!(streamed, [whole["message"]["tool_calls"].clone()]);
}

/// nano never learnt to call.
#[test]
fn nothing_need_be_called() {
    let service = Service::start(&[]);
    let plain = |mut body: Value| {
        body["temperature"] = 0.into();
        choice(&service, &body)
    };
    let said = plain(wild(json!("auto"), 0));
    assert_eq!(
        (&said["finish_reason"], &said["message"]["tool_calls"]),
        (&"stop".into(), &Value::Null)
    );
    assert!(!said["message"]["content"].as_str().unwrap().is_empty());
}

#[test]
fn tools_stand_in_the_prompt_and_none_are_called_where_none_may_be() {
    let service = Service::start(&[]);
    let prompt = |body: &Value| {
        let answer = service.post("/v1/chat/completions", body).json();
        answer["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let mut body = wild(json!("auto"), 0);
    let with = prompt(&body);
    body["tool_choice"] = "none".into();
    let without = prompt(&body);
    assert!(with > without + 100, "{with}, {without}");
    body["tools"] = Value::Null;
    body["tool_choice"] = Value::Null;
    assert_eq!(prompt(&body), without);
    // What was called before, and what came of it.
    let mut body = wild(json!("required"), 2);
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "turn", "arguments": "{\"on\": true}"}});
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
    messages.push(json!({"role": "tool", "tool_call_id": "call_1", "content": "done"}));
    assert!(prompt(&body) > with + 20);
}

#[test]
fn wrong_tools_are_refused() {
    let service = Service::start(&[]);
    let odd = json!([tool("a b", json!({}))]);
    for (more, param) in [
        (json!({"tools": [{"type": "lamp"}], "tool_choice": "auto"}), "tools[0]"),
        (json!({"tools": odd}), "tools[0]"),
        (json!({"tool_choice": "maybe"}), "tool_choice"),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "other"}}}),
            "tool_choice",
        ),
        (json!({"tools": [], "tool_choice": "required"}), "tool_choice"),
        (json!({"tools": [tool("x", json!({"y": {"uniqueItems": true}}))]}), "tools"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
    ] {
        let mut body = wild(json!("auto"), 0);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = service.post("/v1/chat/completions", &body);
        assert_eq!((answer.status, answer.error()["param"].as_str()), (400, Some(param)), "{more}");
    }
}

#[test]
fn ollamas_tools_are_taken() {
    let service = Service::start(&[]);
    let body = json!({
        "model": "nano", "messages": [{"role": "user", "content": "turn on the light in the kitchen"}],
        "tools": tools(), "options": {"temperature": 0}, "stream": false,
    });
    let whole = service.post("/api/chat", &body).json();
    assert!(!whole["message"]["content"].as_str().unwrap().is_empty(), "{whole}");
    let mut body = body;
    body["stream"] = true.into();
    let lines = service.post("/api/chat", &body).lines();
    let text: String =
        lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!(text, whole["message"]["content"]);
}
