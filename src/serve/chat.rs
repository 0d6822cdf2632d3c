//! Which template a model's conversations are written with.

use crate::prompt::Prompt;
use crate::template::{Context, Template, TemplateError, Value};
use std::fmt;
use wick_text::Tokenizer;

/// The template of the Qwen family, for files that have none.
pub const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
    message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The token that [`CHATML`] begins messages with.
const BEGIN: &str = "<|im_start|>";

/// There is no template to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatError {
    /// The file has none, and its vocabulary none of ChatML's tokens.
    Missing,
    /// None has the name that was asked for, or is the default.
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChatError::Missing => {
                write!(f, "tokenizer.chat_template is missing, and the vocabulary has no {BEGIN}")
            }
            ChatError::Unknown { name, known } => {
                write!(f, "no chat template is called {name:?}; there are {known}")
            }
        }
    }
}

impl std::error::Error for ChatError {}

/// Chooses among a file's templates, which are names with sources, the one of this name, or else the one called
/// `default`; `chatml` is always there. Where the file has none, that is taken if the vocabulary has its tokens. Returns
/// the name and the source.
///
/// # Errors
/// There is none to choose.
pub fn choose<'m>(
    templates: &[(&'m str, &'m str)],
    name: Option<&str>,
    tokenizer: &Tokenizer,
) -> Result<(&'m str, &'m str), ChatError> {
    let wanted = name.unwrap_or("default");
    if let Some(found) = templates.iter().find(|(name, _)| *name == wanted) {
        return Ok(*found);
    }
    let speaks_chatml = || tokenizer.id_of(BEGIN).is_some();
    match name {
        Some("chatml") => Ok(("chatml", CHATML)),
        None if templates.is_empty() && speaks_chatml() => Ok(("chatml", CHATML)),
        None if templates.is_empty() => Err(ChatError::Missing),
        _ => {
            let known = templates.iter().map(|(name, _)| *name).chain(["chatml"]);
            let known = known.collect::<Vec<_>>().join(", ");
            Err(ChatError::Unknown { name: wanted.into(), known })
        }
    }
}

/// A template, and what of the vocabulary it writes.
#[derive(Debug)]
pub struct Chat {
    template: Template,
    bos: String,
    eos: String,
}

impl Chat {
    /// The template in this source, for a model with this tokenizer.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Chat, TemplateError> {
        let name = |id: Option<u32>| {
            let bytes = id.and_then(|id| tokenizer.token_bytes(id)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let (bos, eos) = (name(tokenizer.bos()), name(tokenizer.eos()));
        Ok(Chat { template: Template::new(source)?, bos, eos })
    }

    /// Variables that every prompt is written with: messages, and that an answer is to come.
    pub fn context(&self, messages: Value) -> Context {
        Context::new()
            .with("messages", messages)
            .with("add_generation_prompt", Value::Bool(true))
            .with_trusted("bos_token", &self.bos)
            .with_trusted("eos_token", &self.eos)
    }

    /// Writes messages as the model was trained to read them, up to where its answer begins.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn prompt(&self, messages: Value) -> Result<Prompt, TemplateError> {
        self.template.render(&self.context(messages))
    }

    /// Writes what a context has, made by [`Chat::context`] and added to.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn prompt_with(&self, context: &Context) -> Result<Prompt, TemplateError> {
        self.template.render(context)
    }
}
