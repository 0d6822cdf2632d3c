//! OpenAI's Responses API.

use crate::client::Service;
use serde_json::{Value, json};

const LIGHT: &str = "turn on the light in the kitchen";
const ON: &str = r#"{"device":"light","room":"kitchen","action":"on"}"#;

fn respond(service: &Service, body: &Value) -> Value {
    service.post("/v1/responses", body).json()
}

/// The events of a stream, each with its name and its number.
fn events(service: &Service, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = true.into();
    let answer = service.post("/v1/responses", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let events = answer.body.split_terminator("\n\n").enumerate().map(|(i, event)| {
        let (kind, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!((data["type"].as_str(), &data["sequence_number"]), (Some(kind), &i.into()));
        data
    });
    events.collect()
}

/// What is the same each time in a response: all but names and times.
fn plain(mut response: Value) -> Value {
    response["id"] = "".into();
    response["created_at"] = 0.into();
    response["usage"]["input_tokens_details"] = Value::Null;
    for item in response["output"].as_array_mut().unwrap() {
        item["id"] = "".into();
        if item["type"] == "function_call" {
            item["call_id"] = "".into();
        }
    }
    response
}

/// Checks that a stream builds up what its last event has, and returns that.
fn told(events: &[Value]) -> Value {
    let mut items: Vec<Value> = Vec::new();
    let (mut text, mut arguments) = (String::new(), String::new());
    for event in events {
        let at = event["output_index"].as_u64().unwrap_or(0) as usize;
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => {
                assert_eq!((at, &event["item"]["status"]), (items.len(), &"in_progress".into()));
                (text, arguments) = (String::new(), String::new());
                items.push(event["item"].clone());
            }
            "response.output_text.delta" => text += event["delta"].as_str().unwrap(),
            "response.output_text.done" => assert_eq!(event["text"], text),
            "response.function_call_arguments.delta" => {
                arguments += event["delta"].as_str().unwrap();
            }
            "response.function_call_arguments.done" => assert_eq!(event["arguments"], arguments),
            "response.content_part.done" => assert_eq!(event["part"]["text"], text),
            "response.output_item.done" => {
                assert_eq!(event["item"]["id"], items[at]["id"]);
                items[at] = event["item"].clone();
            }
            _ => {}
        }
    }
    let last = events.last().unwrap()["response"].clone();
    assert_eq!(last["output"], Value::from(items));
    assert_eq!(last["id"], events[0]["response"]["id"]);
    last
}

#[test]
fn a_response_is_the_completion_in_another_form() {
    let service = Service::start(&[]);
    let body = json!({"model": "nano", "input": LIGHT, "temperature": 0, "store": true, "metadata": {"a": "b"},
        "instructions": null, "previous_response_id": null, "user": "me", "reasoning": {"effort": "low"}});
    let whole = respond(&service, &body);
    assert_eq!((&whole["object"], &whole["status"]), (&"response".into(), &"completed".into()));
    assert_eq!((&whole["store"], &whole["metadata"]["a"]), (&false.into(), &"b".into()));
    assert_eq!(whole["output"][0]["content"][0]["text"], ON);
    let chat = json!({"messages": [{"role": "user", "content": LIGHT}], "temperature": 0});
    let chat = service.post("/v1/chat/completions", &chat).json();
    assert_eq!(chat["choices"][0]["message"]["content"], ON);
    let usage = |kind: &str, of: &Value| of["usage"][kind].clone();
    assert_eq!(usage("input_tokens", &whole), usage("prompt_tokens", &chat));
    assert_eq!(usage("output_tokens", &whole), usage("completion_tokens", &chat));

    let events = events(&service, &body);
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["response.created", "response.in_progress"]);
    assert_eq!(kinds[2..4], ["response.output_item.added", "response.content_part.added"]);
    assert_eq!(kinds.last(), Some(&"response.completed"));
    assert_eq!(plain(told(&events)), plain(whole));
}

#[test]
fn a_conversation_goes_on() {
    let service = Service::start(&[]);
    let parts = json!([{"type": "input_text", "text": "turn on the light"}]);
    let input = json!([
        {"type": "message", "role": "user", "content": parts},
        {"role": "assistant", "content": [{"type": "output_text", "text": "In which room is the light?"}]},
        {"role": "user", "content": "the kitchen"},
    ]);
    let answer = respond(&service, &json!({"input": input, "temperature": 0}));
    assert_eq!(answer["output"][0]["content"][0]["text"], ON);
    let count = |body: Value| respond(&service, &body)["usage"]["input_tokens"].as_u64().unwrap();
    let with = json!({"input": "hi", "max_output_tokens": 1, "instructions": "Be brief."});
    assert!(count(with) > count(json!({"input": "hi", "max_output_tokens": 1})));
}

#[test]
fn what_ends_early_is_incomplete() {
    let service = Service::start(&[]);
    let body = json!({"input": LIGHT, "max_output_tokens": 3, "temperature": 0});
    let short = respond(&service, &body);
    assert_eq!(short["status"], "incomplete");
    assert_eq!(short["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(short["output"][0]["status"], "incomplete");
    let events = events(&service, &body);
    assert_eq!(events.last().unwrap()["type"], "response.incomplete");
    assert_eq!(plain(told(&events)), plain(short));
}

#[test]
fn tools_and_forms_are_kept() {
    let service = Service::start(&[]);
    let parameters = json!({"type": "object", "properties": {"level": {"type": "integer", "maximum": 100, "minimum": 0}},
        "required": ["level"], "additionalProperties": false});
    let tool = json!({"type": "function", "name": "dim", "parameters": parameters, "strict": true});
    for choice in [json!("required"), json!({"type": "function", "name": "dim"})] {
        let body = json!({"input": LIGHT, "tools": [tool], "tool_choice": choice, "temperature": 0, "parallel_tool_calls": false});
        let answer = respond(&service, &body);
        let call = &answer["output"][0];
        assert_eq!((&call["type"], &call["name"]), (&"function_call".into(), &"dim".into()));
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["level"].as_u64().unwrap() <= 100);
        assert_eq!(plain(told(&events(&service, &body))), plain(answer.clone()));
        let output =
            json!({"type": "function_call_output", "call_id": call["call_id"], "output": "done"});
        let input = json!([{"role": "user", "content": LIGHT}, call, output]);
        let next =
            respond(&service, &json!({"input": input, "tools": [tool], "max_output_tokens": 5}));
        assert_eq!(next["output"][0]["type"], "message");
    }
    let format = json!({"type": "json_schema", "name": "x", "strict": true, "schema": parameters});
    let body = json!({"input": LIGHT, "text": {"format": format}, "temperature": 2, "seed": 1});
    let answer = respond(&service, &body);
    let text = answer["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["level"].is_u64(), "{text}");
    assert_eq!(answer["text"]["format"]["type"], "json_schema");
}

#[test]
fn what_is_not_served_is_refused() {
    let service = Service::start(&["--context", "64"]);
    for (more, word) in [
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"background": true}), "background"),
        (json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0]"),
        (json!({"tool_choice": {"type": "mcp"}}), "tool_choice"),
        (json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}), "text alone"),
        (json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0]"),
        (json!({"input": 7}), "a text or a list"),
        (json!({"input": "lamp ".repeat(100)}), "context"),
        (json!({"temperature": -1}), "temperature"),
    ] {
        let mut body = json!({"input": "hi", "max_output_tokens": 1});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = service.post("/v1/responses", &body);
        let message = answer.error()["message"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && message.contains(word), "{more}: {message}");
    }
}

/// Errors name what was sent, not what it is for chat completions.
#[test]
fn fields_go_by_their_own_names() {
    let service = Service::start(&[]);
    let user = |part: Value| json!([{"role": "user", "content": "hi"}, {"role": "user", "content": [part]}]);
    let output = json!([{"type": "function_call_output", "call_id": "a", "output": [{"type": "input_file"}]}]);
    for (more, param) in [
        (json!({"input": user(json!({"type": "input_image"}))}), "input[1].content"),
        (json!({"input": output}), "input[0].output"),
        (json!({"input": [], "instructions": null}), "input"),
        (json!({"max_output_tokens": -7}), "max_output_tokens"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format"),
        (json!({"top_p": 2}), "top_p"),
    ] {
        let mut body = json!({"input": "hi", "instructions": "Be brief."});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = service.post("/v1/responses", &body).error();
        assert_eq!(error["param"], param, "{more}");
        assert!(error["message"].as_str().unwrap().starts_with(&format!("{param}: ")), "{error}");
    }
    let body = json!({"input": "hi", "max_output_tokens": 1, "temperature": 0.3, "top_p": 0.7});
    let answer = respond(&service, &body);
    assert_eq!((&answer["temperature"], &answer["top_p"]), (&json!(0.3), &json!(0.7)));
}

#[test]
fn a_form_that_is_none_is_refused() {
    let service = Service::start(&[]);
    for text in [json!("x"), json!(5), json!([]), json!(true), json!({"format": {"type": "poem"}})]
    {
        let answer = service.post("/v1/responses", &json!({"input": "hi", "text": text}));
        assert_eq!(answer.status, 400, "{text}: {answer:?}");
    }
    let open = json!({"input": "hi", "text": null, "max_output_tokens": 2});
    assert_eq!(service.post("/v1/responses", &open).status, 200);
}
