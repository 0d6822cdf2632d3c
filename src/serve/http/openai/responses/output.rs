//! Responses, their items, and the events that tell them as they come.

use super::ResponseRequest;
use crate::http::calls::{Piece, call_id};
use crate::http::error::ApiError;
use crate::http::fields::random;
use crate::http::openai::finish_reason;
use crate::service::Outcome;
use serde_json::{Value, json};

/// A name that nothing else has.
fn id(kind: &str) -> String {
    format!("{kind}_{:016x}{:016x}", random(), random())
}

/// An item of a response.
#[derive(Debug)]
enum Item {
    Message { id: String, text: String },
    Call { id: String, call_id: String, name: String, arguments: String },
}

impl Item {
    fn message() -> Item {
        Item::Message { id: id("msg"), text: String::new() }
    }

    fn call(name: String) -> Item {
        Item::Call { id: id("fc"), call_id: call_id(), name, arguments: String::new() }
    }

    fn id(&self) -> &str {
        match self {
            Item::Message { id, .. } | Item::Call { id, .. } => id,
        }
    }

    fn to_json(&self, status: &str) -> Value {
        match self {
            Item::Message { id, text } => {
                let content = if status == "in_progress" { vec![] } else { vec![part(text)] };
                json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": content})
            }
            Item::Call { id, call_id, name, arguments } => json!({
                "type": "function_call",
                "id": id,
                "status": status,
                "call_id": call_id,
                "name": name,
                "arguments": arguments,
            }),
        }
    }
}

/// A number as it was written: 0.7, not what lies next to it.
fn decimal(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// A text of a message.
fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

/// The items of a response, which grow.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Those that have ended, in their last form.
    ended: Vec<Value>,
    /// The one behind them, which grows.
    open: Option<Item>,
}

impl Output {
    /// Takes pieces of the answer; the events that tell them.
    pub(super) fn push(&mut self, pieces: Vec<Piece>) -> Vec<Value> {
        let mut events = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Content(text) => {
                    if !matches!(self.open, Some(Item::Message { .. })) {
                        self.begin(Item::message(), &mut events);
                    }
                    events.extend(self.add(&text));
                }
                Piece::Call { name } => self.begin(Item::call(name), &mut events),
                Piece::Arguments(text) => events.extend(self.add(&text)),
            }
        }
        events
    }

    /// Ends the last item; a response without any has an empty message.
    pub(super) fn end(&mut self, status: &str) -> Vec<Value> {
        let mut events = Vec::new();
        if self.ended.is_empty() && self.open.is_none() {
            self.begin(Item::message(), &mut events);
        }
        self.close(status, &mut events);
        events
    }

    fn begin(&mut self, item: Item, events: &mut Vec<Value>) {
        self.close("completed", events);
        let index = self.ended.len();
        events.push(json!({
            "type": "response.output_item.added",
            "output_index": index,
            "item": item.to_json("in_progress"),
        }));
        if let Item::Message { id, .. } = &item {
            events.push(of_part("response.content_part.added", id, index, "part", part("")));
        }
        self.open = Some(item);
    }

    /// Adds to the item that grows.
    fn add(&mut self, more: &str) -> Option<Value> {
        let index = self.ended.len();
        match self.open.as_mut()? {
            Item::Message { id, text } => {
                *text += more;
                let mut event =
                    of_part("response.output_text.delta", id, index, "delta", more.into());
                event["logprobs"] = json!([]);
                Some(event)
            }
            Item::Call { id, arguments, .. } => {
                *arguments += more;
                let kind = "response.function_call_arguments.delta";
                Some(json!({"type": kind, "item_id": id, "output_index": index, "delta": more}))
            }
        }
    }

    fn close(&mut self, status: &str, events: &mut Vec<Value>) {
        let Some(item) = self.open.take() else { return };
        let (index, id) = (self.ended.len(), item.id());
        match &item {
            Item::Message { text, .. } => {
                let whole = text.as_str().into();
                let mut event = of_part("response.output_text.done", id, index, "text", whole);
                event["logprobs"] = json!([]);
                events.push(event);
                let whole = part(text);
                events.push(of_part("response.content_part.done", id, index, "part", whole));
            }
            Item::Call { name, arguments, .. } => events.push(json!({
                "type": "response.function_call_arguments.done",
                "item_id": id,
                "output_index": index,
                "name": name,
                "arguments": arguments,
            })),
        }
        let whole = item.to_json(status);
        let kind = "response.output_item.done";
        events.push(json!({"type": kind, "output_index": index, "item": whole}));
        self.ended.push(whole);
    }
}

/// An event of the one part that a message has.
fn of_part(kind: &str, id: &str, index: usize, name: &str, value: Value) -> Value {
    json!({"type": kind, "item_id": id, "output_index": index, "content_index": 0, name: value})
}

/// OpenAI's word for how an answer ended.
pub(super) fn status(outcome: &Outcome) -> &'static str {
    if finish_reason(outcome) == "length" { "incomplete" } else { "completed" }
}

/// What a response has besides its items.
#[derive(Debug)]
pub(super) struct Head(Value);

impl Head {
    /// A response that has begun.
    pub(super) fn new(model: &str, created: u64, body: &ResponseRequest) -> Head {
        let format = body.text.as_ref().map(|text| text["format"].clone());
        let format = format.filter(|format| !format.is_null());
        let choice = body.tool_choice.clone().filter(|choice| !choice.is_null());
        Head(json!({
            "id": id("resp"),
            "object": "response",
            "created_at": created,
            "status": "in_progress",
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata.as_ref().unwrap_or(&json!({})),
            "model": model,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls.unwrap_or(true),
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "store": false,
            "temperature": body.temperature.map(decimal),
            "text": {"format": format.unwrap_or(json!({"type": "text"}))},
            "tool_choice": choice.unwrap_or("auto".into()),
            "tools": body.tools.as_deref().unwrap_or_default(),
            "top_p": body.top_p.map(decimal),
            "truncation": "disabled",
            "usage": null,
        }))
    }

    /// The response as it begins.
    pub(super) fn begun(&self) -> Value {
        self.0.clone()
    }

    /// The whole response.
    pub(super) fn ended(&self, output: &Output, outcome: &Outcome) -> Value {
        let Outcome { prompt, cached, drawn, .. } = outcome;
        let mut response = self.0.clone();
        response["status"] = status(outcome).into();
        if status(outcome) == "incomplete" {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        response["output"] = output.ended.clone().into();
        response["usage"] = json!({
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": drawn,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + drawn,
        });
        response
    }

    /// A response that something has ended.
    pub(super) fn failed(&self, output: &Output, error: &ApiError) -> Value {
        let mut response = self.0.clone();
        response["status"] = "failed".into();
        response["error"] = json!({"code": "server_error", "message": error.message});
        response["output"] = output.ended.clone().into();
        response
    }
}
