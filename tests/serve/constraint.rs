//! Answers that must have a form.

use crate::client::{Answer, Service, few};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A request that nothing but the form keeps from nonsense.
fn wild(schema: &Value, seed: u64) -> Value {
    json!({
        "messages": [{"role": "user", "content": "turn on the light in the kitchen"}],
        "temperature": 2, "top_k": 0, "top_p": 1, "seed": seed, "max_tokens": 400,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}},
    })
}

fn choice(service: &Service, body: &Value) -> Value {
    service.post("/v1/chat/completions", body).json()["choices"][0].clone()
}

/// Answers for a schema, parsed; each but those that were cut off must be JSON.
fn answers(service: &Service, schema: &Value) -> Vec<Value> {
    let seeds = 0..few(6, 3) as u64;
    let choices = seeds.map(|seed| choice(service, &wild(schema, seed)));
    let parsed = choices.filter_map(|choice| {
        let text = choice["message"]["content"].as_str().unwrap().to_owned();
        if choice["finish_reason"] != "stop" {
            return None;
        }
        assert!(!text.contains("\n\n"), "{text:?}");
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?}: {error}")))
    });
    let parsed: Vec<Value> = parsed.collect();
    assert!(!parsed.is_empty(), "{schema}");
    parsed
}

fn object(properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

#[test]
fn answers_are_what_their_schema_says() {
    let service = Service::start(&[]);
    let all = |schema: Value, is_right: &dyn Fn(&Value) -> bool| {
        for found in answers(&service, &schema) {
            assert!(is_right(&found), "{schema}: {found}");
        }
    };
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    all(
        object(json!({"color": {"enum": ["red", "gr\"ün", 7, null]}, "on": {"type": "boolean"}})),
        &|v| {
            json!(["red", "gr\"ün", 7, null]).as_array().unwrap().contains(&v["color"])
                && v["on"].is_boolean()
                && keys(v).len() == 2
        },
    );
    let level = json!({"type": "integer", "minimum": -3, "maximum": 120});
    let lamp = object(
        json!({"level": level, "x": {"type": "number", "exclusiveMinimum": 0, "maximum": 2.5}}),
    );
    let lamps = json!({"type": "array", "items": lamp, "minItems": 2, "maxItems": 3});
    all(object(json!({"room": object(json!({"lamps": lamps}))})), &|v| {
        let lamps = v["room"]["lamps"].as_array().unwrap();
        (2..=3).contains(&lamps.len())
            && lamps.iter().all(|lamp| {
                let (level, x) = (lamp["level"].as_i64().unwrap(), lamp["x"].as_f64().unwrap());
                (-3..=120).contains(&level) && 0.0 < x && x <= 2.5
            })
    });
    let is_time = |text: &str| {
        let parts: Vec<&str> = text.split(':').collect();
        parts.len() == 2 && parts.iter().all(|part| part.len() == 2 && part.parse::<u8>().is_ok())
    };
    all(
        object(json!({
            "at": {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"},
            "day": {"type": "string", "format": "date"},
            "name": {"type": "string", "minLength": 2, "maxLength": 4},
        })),
        &|v| {
            let text = |key: &str| v[key].as_str().unwrap();
            is_time(text("at"))
                && text("day").split('-').count() == 3
                && (2..=4).contains(&text("name").chars().count())
        },
    );
    all(json!({"anyOf": [{"const": "off"}, object(json!({"on": {"const": true}}))]}), &|v| {
        *v == "off" || *v == json!({"on": true})
    });
    let tree = object(
        json!({"leaf": {"type": "integer", "minimum": 0, "maximum": 9}, "next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}}),
    );
    all(json!({"$defs": {"tree": tree}, "$ref": "#/$defs/tree"}), &|v| {
        let mut next = v;
        while next.is_object() {
            assert!((0..10).contains(&next["leaf"].as_i64().unwrap()) && keys(next).len() == 2);
            next = &next["next"];
        }
        next.is_null()
    });
}

#[test]
fn any_object_will_do_where_no_schema_is_given() {
    let service = Service::start(&[]);
    let mut body = wild(&json!({}), 0);
    body["response_format"] = json!({"type": "json_object"});
    let mut whole = 0;
    for seed in 0..8 {
        body["seed"] = seed.into();
        let choice = choice(&service, &body);
        let text = choice["message"]["content"].as_str().unwrap();
        assert!(text.starts_with('{'), "{text:?}");
        if choice["finish_reason"] == "stop" {
            assert!(serde_json::from_str::<Value>(text).unwrap().is_object());
            whole += 1;
        }
    }
    assert!(whole > 0);
    // What the model would say anyhow is what it says.
    body["temperature"] = 0.into();
    let on = r#"{"device":"light","room":"kitchen","action":"on"}"#;
    assert_eq!(choice(&service, &body)["message"]["content"], on);
    body["response_format"] = json!({"type": "text"});
    assert_eq!(choice(&service, &body)["message"]["content"], on);
}

fn lamp() -> Value {
    object(
        json!({"room": {"enum": ["hall", "bath"]}, "level": {"type": "integer", "minimum": 0, "maximum": 99}}),
    )
}

/// Streams and choices have the form too, and a seed gives the same of them, also beside others.
#[test]
fn streams_and_choices_have_the_form() {
    let service = Service::start(&["--parallel", "3"]);
    let mut body = wild(&lamp(), 7);
    body["n"] = 3.into();
    let texts = |body: &Value| -> Vec<String> {
        let answer = service.post("/v1/chat/completions", body).json();
        let choices = answer["choices"].as_array().unwrap().iter();
        choices.map(|c| c["message"]["content"].as_str().unwrap().to_owned()).collect()
    };
    let found = texts(&body);
    for text in &found {
        assert!(serde_json::from_str::<Value>(text).unwrap()["level"].is_u64(), "{text}");
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(texts(&body), found));
        }
    });
    body["stream"] = true.into();
    body["logprobs"] = true.into();
    let events = service.post("/v1/chat/completions", &body).events();
    for (index, text) in found.iter().enumerate() {
        let own = events.iter().map(|e| &e["choices"][0]).filter(|c| c["index"] == index);
        let streamed: String = own.filter_map(|c| c["delta"]["content"].as_str()).collect();
        assert_eq!(&streamed, text);
    }
    // Short of room, the answer says that it is cut off.
    body["stream"] = false.into();
    body["max_tokens"] = 2.into();
    assert_eq!(choice(&service, &body)["finish_reason"], "length");
}

#[test]
fn ollamas_format_is_kept() {
    let service = Service::start(&[]);
    let options = json!({"temperature": 2, "top_k": 0, "top_p": 1, "seed": 3, "num_predict": 400});
    let messages = json!([{"role": "user", "content": "hi"}]);
    let body = json!({"model": "nano", "messages": messages, "prompt": "hi", "format": lamp(), "options": options, "stream": false});
    let chat = service.post("/api/chat", &body).json()["message"]["content"].clone();
    let generated = service.post("/api/generate", &body).json()["response"].clone();
    for text in [chat, generated] {
        let value: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        assert!(value["room"].is_string() && value["level"].is_u64(), "{value}");
    }
    let greedy = json!({"model": "nano", "format": "json", "options": {"temperature": 0}, "prompt": "turn on the light in the kitchen"});
    let lines = service.post("/api/generate", &greedy).lines();
    let text: String = lines.iter().filter_map(|line| line["response"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["action"], "on");
    let refused =
        service.post("/api/chat", &json!({"model": "nano", "messages": messages, "format": "xml"}));
    assert_eq!(refused.status, 400);
}

/// What is refused says why; nothing takes long or ends the service.
#[test]
fn what_cannot_be_kept_is_refused() {
    let service = Service::start(&[]);
    let refused = |schema: &Value| -> (Value, Answer) {
        let answer = service.post("/v1/chat/completions", &wild(schema, 0));
        (answer.error(), answer)
    };
    let nested = |depth: usize| {
        let inner = (0..depth).fold(
            json!({"type": "null"}),
            |inner, _| json!({"anyOf": [inner, {"type": "array", "items": {}}]}),
        );
        object(json!({"a": inner}))
    };
    for (schema, said) in [
        (json!({"type": "string", "format": "color"}), "color"),
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"type": "lamp"}), "lamp"),
        (json!({"$ref": "https://example.com/schema"}), "$ref"),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), "Unsatisfiable"),
        (json!({"type": "string", "pattern": "(a"}), ""),
        (
            object(json!({"x": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}})),
            "less than 1",
        ),
        (object(json!({"x": {"type": "string", "maxLength": 1500}})), "at most 512 characters"),
        (json!({"type": "string", "minLength": 2000}), "at most 512 characters"),
        (json!(7), "a schema"),
        (json!({"enum": ["x".repeat(70_000)]}), "bytes of schema"),
        (json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "oneOf"),
    ] {
        let (error, answer) = refused(&schema);
        assert_eq!((answer.status, &error["param"]), (400, &"response_format".into()), "{schema}");
        assert_eq!(error["type"], "invalid_request_error");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(said) && message.len() < 400 && !message.contains('\n'),
            "{message}"
        );
    }
    let alternatives: Vec<Value> =
        (0..8).map(|i| object(json!({format!("k{i}"): {"type": "string"}}))).collect();
    let costly = [
        json!({"allOf": vec![json!({"anyOf": alternatives}); 8]}),
        json!({"type": "string", "pattern": "(((a{1,1000}){1,1000}){1,1000})b"}),
        json!({"type": "string", "pattern": "^(.*a.{40}b|.*b.{40}c)$"}),
        json!({"type": "string", "maxLength": 4_000_000_000u64}),
        json!({"type": "array", "minItems": 1_000_000, "items": {"type": "array", "minItems": 1_000_000}}),
        json!({"type": "object", "minProperties": 500_000}),
        nested(35),
        json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        json!({"type": "number", "multipleOf": 1e-300}),
        json!({"enum": (0..5000).map(|i| format!("{i:08}")).collect::<Vec<_>>()}),
        json!({"x-guidance": {"whitespace_pattern": ".*"}, "type": "array", "items": {"x-guidance": 7}}),
    ];
    for schema in costly {
        let start = Instant::now();
        let mut body = wild(&schema, 0);
        body["max_tokens"] = 20.into();
        let answer = service.post("/v1/chat/completions", &body);
        let name: String = schema.to_string().chars().take(100).collect();
        assert!([200, 400].contains(&answer.status), "{name}: {}", answer.body);
        assert!(start.elapsed() < Duration::from_secs(30), "{name}");
    }
    assert_eq!(choice(&service, &wild(&lamp(), 1))["finish_reason"], "stop");
}
