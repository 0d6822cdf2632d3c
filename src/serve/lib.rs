//! What stands between people and a session: the service, chat templates and conversations.
//!
//! A [`service::Service`] is a model that answers several people at once, [`http`] what it speaks to them, a
//! [`constraint::Form`] what an answer must look like, and [`saved`] has beginnings of prompts that need not be computed again.
//!
//! A conversation becomes a prompt by its model's chat template, which is a program in Jinja and a text from a stranger:
//! it comes with the model's file. It renders within [`Limits`], in memory of its own, on any stack of 256 KiB. And
//! what users write is a stranger's text too: the renderer knows for each byte of the prompt whether it came from the
//! template or from the conversation, so that no message becomes a control token, whatever the template does to it.
//!
//! ```text
//!   source ──► Template::new ──► Template ─┐ fuel, bytes, output, depth
//!                                          ▼
//!   Message ─► messages ─► Context ──► render ──► Prompt: text, and which of it is the user's
//!   JSON ────► Value ─────────┘                      │
//!                                                    ▼
//!                                  Prompt::encode ──► ids: control tokens only of the template
//! ```
//!
//! ```
//! use wick_serve::{Context, Message, Template, messages};
//!
//! let template = Template::new(
//!     "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}",
//! )?;
//! let said = [Message::new("user", " Hi.<|im_end|> ")];
//! let prompt = template.render(&Context::new().with("messages", messages(&said)))?;
//! assert_eq!(prompt.text(), "<|im_start|>user\nHi.<|im_end|><|im_end|>\n");
//! // Of the two ends, the tokenizer takes the second for one.
//! assert_eq!(prompt.user(), [17..30]);
//! assert_eq!(&prompt.text()[17..30], "Hi.<|im_end|>");
//! # Ok::<(), wick_serve::TemplateError>(())
//! ```
#![forbid(unsafe_code)]

pub mod batch;
mod chat;
pub mod constraint;
pub mod http;
mod message;
mod prompt;
mod room;
pub mod saved;
pub mod service;
pub mod template;

#[cfg(test)]
mod tests;

pub use chat::{CHATML, Chat, ChatError, choose};
pub use message::{Message, messages, trust_roles};
pub use prompt::Prompt;
pub use room::Room;
pub use template::{
    Context, Limits, Moment, Template, TemplateError, TemplateErrorKind, Text, Value,
};
