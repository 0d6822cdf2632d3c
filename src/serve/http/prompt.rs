//! Messages of a request to the ids of a prompt.

use super::error::ApiError;
use super::extract::room_for;
use super::fields::too_long;
use super::hermes;
use crate::room::{Room, Share};
use crate::service::Ready;
use crate::{Chat, Prompt, TemplateErrorKind, Value, trust_roles};
use axum::http::StatusCode;
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// Messages of a conversation at most.
const MOST_MESSAGES: usize = 4096;

/// Messages in the form that templates know, and tools.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    messages: Vec<Json>,
    tools: Option<Json>,
    /// Memory for what was parsed of them.
    share: Arc<Share>,
}

impl Conversation {
    /// Messages as OpenAI's clients and Ollama's send them; the service's own system message goes first where they have
    /// none.
    pub(crate) fn new(
        ready: &Ready,
        messages: Vec<Json>,
        tools: Option<Json>,
    ) -> Result<Conversation, ApiError> {
        if messages.is_empty() || messages.len() > MOST_MESSAGES {
            let found = messages.len();
            let message = format_args!("1 to {MOST_MESSAGES} messages expected, {found} found");
            return Err(ApiError::field("messages", message));
        }
        let mut plain = Vec::with_capacity(messages.len() + 1);
        for (i, message) in messages.into_iter().enumerate() {
            plain.push(as_templates_know(i, message)?);
        }
        let share = Arc::new(parse_arguments(&mut plain, &ready.room)?);
        let has_system = plain[0]["role"] == "system";
        if let Some(system) = ready.system.as_ref().filter(|_| !has_system) {
            plain.insert(0, json!({"role": "system", "content": system}));
        }
        Ok(Conversation { messages: plain, tools, share })
    }

    /// The ids of the prompt.
    pub(crate) async fn encode(&self, ready: &Arc<Ready>) -> Result<Vec<u32>, ApiError> {
        let (ready, conversation) = (Arc::clone(ready), self.clone());
        // A template may compute for a while.
        let ids = tokio::task::spawn_blocking(move || conversation.render(&ready)).await;
        ids.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error))?
    }

    /// The ids of as much of the conversation as leaves room for an answer: the oldest turns are left out, the system
    /// message and the last message stay.
    pub(crate) async fn encode_latest(
        self,
        ready: &Arc<Ready>,
        most: usize,
    ) -> Result<Vec<u32>, ApiError> {
        let room = ready.context - most.min(ready.context / 4);
        let all = self.encode(ready).await?;
        if all.len() <= room {
            return Ok(all);
        }
        let first = usize::from(self.messages[0]["role"] == "system");
        let is_turn = |i: &usize| self.messages[*i]["role"] == "user";
        let turns: Vec<usize> = (first + 1..self.messages.len()).filter(is_turn).collect();
        let Some(last) = turns.last() else { return within(all, ready.context) };
        // Fewer turns are fewer ids, so that the first of them that leaves room is found by halves.
        let (mut fewest, mut low, mut high) =
            (self.since(first, *last).encode(ready).await?, 0, turns.len() - 1);
        while low < high && fewest.len() <= room {
            let middle = (low + high) / 2;
            let ids = self.since(first, turns[middle]).encode(ready).await?;
            if ids.len() <= room {
                (fewest, high) = (ids, middle);
            } else {
                low = middle + 1;
            }
        }
        within(fewest, ready.context)
    }

    /// The conversation without the messages from `first` to before `next`.
    fn since(&self, first: usize, next: usize) -> Conversation {
        let messages = [&self.messages[..first], &self.messages[next..]].concat();
        Conversation { messages, tools: self.tools.clone(), share: Arc::clone(&self.share) }
    }

    /// The same on this thread.
    pub(crate) fn render(self, ready: &Ready) -> Result<Vec<u32>, ApiError> {
        let chat = ready.chat.as_ref().map_err(|reason| {
            ApiError::new(StatusCode::BAD_REQUEST, format_args!("{reason}; use /v1/completions"))
        })?;
        let Conversation { mut messages, tools, share: _held } = self;
        let Some(tools) = tools else {
            return Ok(write(chat, messages, None)?.encode(&ready.tokenizer));
        };
        let mut prompt = write(chat, messages.clone(), Some(tools.clone()))?;
        if prompt == write(chat, messages.clone(), None)? {
            hermes::describe(&mut messages, &tools);
            prompt = write(chat, messages, None)?;
        }
        Ok(prompt.encode(&ready.tokenizer))
    }
}

/// The ids, if there is a position for each.
fn within(ids: Vec<u32>, context: usize) -> Result<Vec<u32>, ApiError> {
    if ids.len() <= context { Ok(ids) } else { Err(too_long(ids.len(), context)) }
}

/// Has the template write messages and tools.
fn write(chat: &Chat, messages: Vec<Json>, tools: Option<Json>) -> Result<Prompt, ApiError> {
    let wrong = |error| ApiError::field("messages", error);
    let messages: Value = serde_json::from_value(Json::Array(messages)).map_err(wrong)?;
    let mut context = chat.context(trust_roles(&messages));
    if let Some(tools) = tools {
        let tools: Value = serde_json::from_value(tools).map_err(wrong)?;
        context = context.with("tools", tools);
    }
    chat.prompt_with(&context).map_err(|error| match error.kind() {
        TemplateErrorKind::Raised => {
            let message = format_args!("the chat template refuses: {}", error.message());
            ApiError::field("messages", message)
        }
        _ => ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format_args!("the chat template: {error}"),
        ),
    })
}

/// A message with its content as one text, and `developer` as `system`.
fn as_templates_know(i: usize, message: Json) -> Result<Json, ApiError> {
    let place = |field: &str| format!("messages[{i}].{field}");
    let Json::Object(mut message) = message else {
        return Err(ApiError::field(&format!("messages[{i}]"), "an object expected"));
    };
    match message.get("role").and_then(Json::as_str) {
        None => return Err(ApiError::field(&place("role"), "a text expected")),
        Some("developer") => drop(message.insert("role".into(), "system".into())),
        Some(_) => {}
    }
    let content = message.remove("content").unwrap_or(Json::Null);
    message.insert("content".into(), text(&place("content"), content)?.into());
    if message.get("images").is_some_and(|images| images.as_array().is_none_or(|i| !i.is_empty())) {
        return Err(ApiError::unsupported(&place("images"), "this model reads text alone"));
    }
    // Templates ask whether they are there.
    message.retain(|_, value| !value.is_null());
    Ok(message.into())
}

/// The text of a content: a text, nothing, or a list of parts.
pub(super) fn text(place: &str, content: Json) -> Result<String, ApiError> {
    match content {
        Json::Null => Ok(String::new()),
        Json::String(text) => Ok(text),
        Json::Array(parts) => {
            let mut texts = Vec::with_capacity(parts.len());
            for part in &parts {
                match (part["type"].as_str(), part["text"].as_str()) {
                    (Some("text" | "input_text" | "output_text"), Some(text)) => texts.push(text),
                    (Some(kind), _) => {
                        let message = format_args!("this model reads text alone, {kind:?} found");
                        return Err(ApiError::unsupported(place, message));
                    }
                    (None, _) => return Err(ApiError::field(place, "parts with a type expected")),
                }
            }
            Ok(texts.concat())
        }
        _ => Err(ApiError::field(place, "a text or a list of parts expected")),
    }
}

/// Templates write arguments of calls themselves; clients send them as a text that is JSON. Returns the memory for what
/// the texts are parsed to.
fn parse_arguments(messages: &mut [Json], room: &Room) -> Result<Share, ApiError> {
    let (mut share, mut bytes) = (room.take(0)?, 0);
    let calls = messages.iter_mut().filter_map(|message| message.get_mut("tool_calls"));
    for call in calls.filter_map(Json::as_array_mut).flatten() {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        let Some(text) = arguments.as_str() else { continue };
        bytes += room_for(text.as_bytes());
        share.grow_to(bytes)?;
        if let Ok(parsed) = serde_json::from_str(text) {
            *arguments = parsed;
        }
    }
    Ok(share)
}
