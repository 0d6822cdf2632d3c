//! Calls of tools.

use crate::client::Service;
use serde_json::{Value, json};
use std::collections::BTreeMap;

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

/// A request in which nano calls of its own accord, which it never learnt: each token of `<tool_call>` is likelier than all
/// others but those before it, until it has been drawn.
fn of_its_own_accord(service: &Service, choice: Value) -> Value {
    let ids =
        service.post("/tokenize", &json!({"content": "<tool_call>"})).json()["tokens"].clone();
    let ids = ids.as_array().unwrap().iter().enumerate();
    let bias: BTreeMap<String, usize> = ids.map(|(i, id)| (id.to_string(), 100 - 12 * i)).collect();
    // More words than repetition is looked for in, so that the description of the tools does not count.
    json!({
        "messages": [{"role": "user", "content": "lamp ".repeat(70)}], "tools": tools(), "tool_choice": choice,
        "temperature": 0, "repeat_penalty": 1000, "logit_bias": bias, "max_tokens": 100,
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
    for seed in 0..6 {
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
    check_stream(&service, body.clone());
    body["parallel_tool_calls"] = false.into();
    let one = choice(&service, &body);
    assert_eq!(one["message"]["tool_calls"].as_array().unwrap().len(), 1, "{one}");
}

/// The name comes first, then arguments in parts, and together they are the whole answer.
#[test]
fn a_stream_has_the_same_calls() {
    let service = Service::start(&[]);
    for body in [wild(json!("required"), 4), of_its_own_accord(&service, json!("auto"))] {
        check_stream(&service, body);
    }
}

fn check_stream(service: &Service, mut body: Value) {
    let told = choice(service, &body);
    let whole = told["message"]["tool_calls"].clone();
    body["stream"] = true.into();
    let events = service.post("/v1/chat/completions", &body).events();
    let mut calls: BTreeMap<u64, (String, String, usize)> = BTreeMap::new();
    for event in &events {
        let delta = &event["choices"][0]["delta"];
        assert!(delta["content"].as_str().unwrap_or_default().is_empty(), "{delta}");
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            let call = calls.entry(part["index"].as_u64().unwrap()).or_default();
            let function = &part["function"];
            assert_eq!(call.0.is_empty(), part["id"].is_string(), "{part}");
            call.0 += function["name"].as_str().unwrap_or_default();
            call.1 += function["arguments"].as_str().unwrap();
            call.2 += 1;
        }
    }
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], told["finish_reason"]);
    assert_eq!(calls.len(), whole.as_array().unwrap().len());
    for (call, (name, arguments, parts)) in whole.as_array().unwrap().iter().zip(calls.values()) {
        assert_eq!(
            (&call["function"]["name"], &call["function"]["arguments"]),
            (&name.as_str().into(), &arguments.as_str().into())
        );
        assert!(*parts > 3 || told["finish_reason"] == "length", "{parts}");
    }
}

/// From where a call begins, it is what a schema says; where none may be made, the same text is none.
#[test]
fn what_is_called_of_its_own_accord_is_a_call() {
    let service = Service::start(&[]);
    let called = choice(&service, &of_its_own_accord(&service, json!("auto")));
    assert_eq!(called["finish_reason"], "tool_calls", "{called}");
    let function = &called["message"]["tool_calls"][0]["function"];
    check(&function["name"], &function["arguments"]);
    let said = choice(&service, &of_its_own_accord(&service, json!("none")));
    assert_eq!(said["message"]["tool_calls"], Value::Null);
    assert!(said["message"]["content"].as_str().unwrap().starts_with("<tool_call>"), "{said}");
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
