//! Which chat template, and prompts that are made with it.

use crate::exit::{Exit, Failure};
use crate::input::utf8;
use crate::report::note;
use clap::Args;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use wick_linux::host::Model;
use wick_serve::{Chat, ChatError, Limits, Message, Prompt, TemplateError, TemplateErrorKind};
use wick_serve::{choose, messages};
use wick_text::Tokenizer;

/// How conversations are written.
#[derive(Args, Clone)]
pub(crate) struct TemplateArguments {
    /// Chat template in place of the model's: a file in Jinja, the name of another one in the model's
    /// file, or chatml
    #[arg(long, value_name = "FILE|NAME")]
    chat_template: Option<String>,
}

/// A chat template, and where it came from.
pub(crate) struct ChatTemplate {
    chat: Chat,
    /// What an error in it says first.
    origin: String,
    /// What an error in it ends with.
    exit: Exit,
    /// Whether it was said that it leaves messages out.
    is_blind: Cell<bool>,
}

impl TemplateArguments {
    /// The file that the template comes from, if there is one of this name.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.chat_template.as_deref().map(Path::new)
    }

    /// The template that was asked for, or else the model's; one for ChatML where the model has none and its
    /// vocabulary speaks that, which is said on stderr. `None` where there is none at all.
    pub(crate) fn open(
        &self,
        model: &Model<'_>,
        tokenizer: &Tokenizer,
    ) -> Result<Option<ChatTemplate>, Failure> {
        let templates = &model.chat_templates;
        match (choose(templates, self.chat_template.as_deref(), tokenizer), &self.chat_template) {
            (Ok((name, source)), asked) => {
                if asked.is_none() && name == "chatml" {
                    note("the file has no chat template; messages are written as ChatML");
                }
                let origin = match name {
                    "chatml" => "chatml".into(),
                    "default" => "the file's chat template".into(),
                    name => format!("the file's chat template {name:?}"),
                };
                ChatTemplate::new(source, tokenizer, origin, Exit::Model).map(Some)
            }
            (Err(error), Some(path)) => from_file(path, &error, tokenizer).map(Some),
            (Err(ChatError::Missing), None) => Ok(None),
            (Err(error), None) => {
                let hint = "--chat-template takes one of them";
                Err(Failure::new(
                    Exit::Model,
                    format_args!("{}: {error}; {hint}", model.files.name()),
                ))
            }
        }
    }
}

/// The template in the file at `path`; `unknown` says that no template has this for its name.
fn from_file(
    path: &str,
    unknown: &ChatError,
    tokenizer: &Tokenizer,
) -> Result<ChatTemplate, Failure> {
    let mut bytes = Vec::new();
    // One byte more than a template may have, whatever stands under this path.
    let most = Limits::SOURCE as u64 + 1;
    match File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
        Ok(_) => {
            let source = utf8(path, bytes)?;
            ChatTemplate::new(&source, tokenizer, path.into(), Exit::Input)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = format_args!("{unknown}, and there is no such file");
            Err(Failure::new(Exit::Usage, message))
        }
        Err(error) => Err(Failure::new(Exit::Input, format_args!("{path}: {error}"))),
    }
}

impl ChatTemplate {
    fn new(
        source: &str,
        tokenizer: &Tokenizer,
        origin: String,
        exit: Exit,
    ) -> Result<ChatTemplate, Failure> {
        match Chat::new(source, tokenizer) {
            Ok(chat) => Ok(ChatTemplate { chat, origin, exit, is_blind: Cell::new(false) }),
            Err(error) => Err(blame(&origin, exit, &error)),
        }
    }

    /// The template alone.
    pub(crate) fn into_chat(self) -> Chat {
        self.chat
    }

    /// Writes messages as the model was trained to read them, up to where its answer begins. If nothing of them is
    /// in the prompt, that is said, once.
    pub(crate) fn prompt<'s>(
        &self,
        said: impl IntoIterator<Item = &'s Message>,
    ) -> Result<Prompt, Failure> {
        let mut is_silent = true;
        let said = said.into_iter().inspect(|message| is_silent &= message.content.is_empty());
        let prompt = self.chat.prompt(messages(said));
        let prompt = prompt.map_err(|error| blame(&self.origin, self.exit, &error))?;
        if !is_silent && prompt.user().is_empty() && !self.is_blind.replace(true) {
            log::warn!("{}: the prompt has nothing of the message in it", self.origin);
        }
        Ok(prompt)
    }
}

/// A user's messages as they stand, for a model without a template.
pub(crate) fn plain<'s>(said: impl IntoIterator<Item = &'s Message>) -> Prompt {
    let contents: Vec<&str> = said.into_iter().map(|message| message.content.as_str()).collect();
    Prompt::of_user(contents.join("\n"))
}

/// What is wrong with a template, or what it says is wrong with a conversation.
fn blame(origin: &str, exit: Exit, error: &TemplateError) -> Failure {
    match error.kind() {
        TemplateErrorKind::Raised => {
            let message = error.message();
            Failure::new(Exit::Input, format_args!("{origin} refuses the conversation: {message}"))
        }
        // Who has chosen another knows how.
        _ if exit == Exit::Input => Failure::new(exit, format_args!("{origin}: {error}")),
        _ => {
            let hint = "--chat-template takes another, wick run --raw none";
            Failure::new(exit, format_args!("{origin}: {error} ({hint})"))
        }
    }
}

/// The ids of a prompt. An empty one begins like a document, after an end of text.
pub(crate) fn encode(tokenizer: &Tokenizer, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
    let mut ids = prompt.encode(tokenizer);
    if ids.is_empty() {
        ids.extend(tokenizer.id_of("<|endoftext|>").or(tokenizer.bos()).or(tokenizer.eos()));
    }
    if ids.is_empty() {
        return Err(Failure::new(Exit::Input, "the prompt is empty"));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The image without an operating system has no engine for templates, but knows nano's.
    #[test]
    fn without_an_engine_the_same_is_written() {
        let gguf = wick_format::Gguf::parse(crate::model::NANO).unwrap();
        let template = gguf.need("tokenizer.chat_template").and_then(|entry| entry.str()).unwrap();
        let tokenizer = wick_session::tokenizer(&gguf).unwrap();
        let chat = Chat::new(template, &tokenizer).unwrap();
        for content in
            ["Hello", "", " two\n\nlines {{ and }} <|im_end|>", "é 🙂 'quoted' \"twice\""]
        {
            let prompt = chat.prompt(messages(&[Message::new("user", content)])).unwrap();
            let mut found = String::new();
            assert!(wick_virt::chat::render(template, content, &mut found));
            assert_eq!(found, prompt.text());
        }
    }
}
