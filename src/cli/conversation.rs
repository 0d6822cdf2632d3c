//! What was said in a chat, and what of it the model reads.

use crate::exit::{Exit, Failure, OrExit};
use crate::json::{MESSAGES, messages};
use crate::report::note;
use crate::template::{ChatTemplate, encode};
use anyhow::Context;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use wick_prepare::NewFile;
use wick_serve::Message;
use wick_text::Tokenizer;

/// Bytes of a saved conversation at most.
const LONGEST: u64 = 16 << 20;

/// Roles in a conversation.
const ROLES: [&str; 3] = ["user", "assistant", "system"];

/// What was said, and how the model reads it.
pub(crate) struct Conversation<'a> {
    template: ChatTemplate,
    tokenizer: &'a Tokenizer,
    /// Positions that the model has, and those of them that are kept free for an answer.
    context: usize,
    kept_free: usize,
    pub(crate) system: Option<Message>,
    /// Those of user and assistant in turn.
    pub(crate) messages: Vec<Message>,
    /// Whether messages were dropped, of which the user is told once.
    has_dropped: bool,
}

impl<'a> Conversation<'a> {
    /// A conversation in which nothing was said yet. An answer has room for `most` tokens, or for a
    /// quarter of the context if that is less.
    pub(crate) fn new(
        template: ChatTemplate,
        tokenizer: &'a Tokenizer,
        context: usize,
        most: usize,
    ) -> Conversation<'a> {
        let kept_free = most.min(context / 4);
        let (system, messages, has_dropped) = (None, Vec::new(), false);
        Conversation { template, tokenizer, context, kept_free, system, messages, has_dropped }
    }

    /// What the model is told before the conversation; nothing without a text.
    pub(crate) fn tell(&mut self, system: Option<String>) {
        self.system = system.map(|content| Message::new("system", content));
    }

    pub(crate) fn push(&mut self, role: &str, content: String) {
        self.messages.push(Message::new(role, content));
    }

    /// Forgets all but the system message.
    pub(crate) fn forget(&mut self) {
        self.messages.clear();
        self.has_dropped = false;
    }

    /// Takes the last message of the user back, with what was said to it, and gives it away.
    pub(crate) fn undo(&mut self) -> Result<String, Failure> {
        let last = self.messages.iter().rposition(|message| message.role == "user");
        let last = last.ok_or_else(|| Failure::new(Exit::Input, "nothing was said yet"))?;
        Ok(self.messages.drain(last..).next().map(|message| message.content).unwrap_or_default())
    }

    /// The ids of the conversation. Where it does not fit, as many of the oldest messages are dropped,
    /// each with its answer, as leave a third of the room free: the turns after that read only what is
    /// new again. If the last message does not fit even alone, nothing is dropped.
    pub(crate) fn fit(&mut self) -> Result<Vec<u32>, Failure> {
        let room = self.context - self.kept_free;
        let mut ids = self.ids(0)?;
        if ids.len() <= room {
            return Ok(ids);
        }
        let mut first = 0;
        while ids.len() > room - room / 3 {
            let next = (first + 1..self.messages.len()).find(|i| self.messages[*i].role == "user");
            let Some(next) = next else { break };
            first = next;
            ids = self.ids(first)?;
        }
        if ids.len() > room {
            return Err(self.too_long(ids.len()));
        }
        if !self.has_dropped {
            self.has_dropped = true;
            let context = self.context;
            note(&format!("the context of {context} is full; the oldest messages are forgotten"));
        }
        self.messages.drain(..first);
        Ok(ids)
    }

    /// The ids of the system message and of the messages from `first` on.
    fn ids(&self, first: usize) -> Result<Vec<u32>, Failure> {
        let messages = self.system.iter().chain(&self.messages[first..]);
        encode(self.tokenizer, &self.template.prompt(messages)?)
    }

    fn too_long(&self, found: usize) -> Failure {
        let Conversation { context, kept_free, .. } = self;
        let with = if self.system.is_some() { ", with the system message," } else { "" };
        Failure::new(
            Exit::Input,
            format_args!(
                "the message{with} has {found} tokens and the context {context}, of which {kept_free} \
                 are for the answer; shorten it or ask for a larger --context"
            ),
        )
    }

    /// Writes what was said as JSON: a list of messages, each with its role and content. Returns how many there are.
    pub(crate) fn save(&self, path: &Path) -> Result<usize, Failure> {
        let all: Vec<&Message> = self.system.iter().chain(&self.messages).collect();
        let json = serde_json::to_string_pretty(&all).or_exit(Exit::Failed)? + "\n";
        let mut file = NewFile::create(path, json.len() as u64)?;
        file.write_all(json.as_bytes()).map_err(|e| file.blame(e))?;
        file.finish()?;
        Ok(all.len())
    }

    /// Goes on with what was said there, and with the system message of the file if it has one. If the file is none
    /// that was saved, nothing changes.
    pub(crate) fn load(&mut self, path: &Path) -> Result<usize, Failure> {
        let place = || path.display().to_string();
        let mut json = String::new();
        let file = File::open(path).with_context(place).or_exit(Exit::Input)?;
        let read = file.take(LONGEST + 1).read_to_string(&mut json);
        read.with_context(place).or_exit(Exit::Input)?;
        if json.len() as u64 > LONGEST {
            let message = format_args!("{}: more than {LONGEST} bytes", place());
            return Err(Failure::new(Exit::Input, message));
        }
        let parsed = serde_json::from_str(&json).with_context(place).or_exit(Exit::Input)?;
        let mut messages = messages(&parsed)
            .ok_or_else(|| Failure::new(Exit::Input, format_args!("{}: {MESSAGES}", place())))?;
        if messages.first().is_some_and(|first| first.role == "system") {
            self.system = Some(messages.remove(0));
        }
        wonder(path, &messages);
        self.messages = messages;
        self.has_dropped = false;
        Ok(self.messages.len())
    }
}

/// Says what is unusual in messages that a template may write all the same.
fn wonder(path: &Path, messages: &[Message]) {
    let path = path.display();
    if let Some(first) = messages.first().filter(|first| first.role != "user") {
        log::warn!("{path}: the conversation begins with role {:?}, not \"user\"", first.role);
    }
    let unknown = messages.iter().find(|message| !ROLES.contains(&&*message.role));
    if let Some(Message { role, .. }) = unknown {
        log::warn!("{path}: role {role:?} is none of {}", ROLES.join(", "));
    }
}
