//! Ollama's API, which home-automation hubs and many tools speak. Its streams are objects, a line each.

pub(super) mod chat;
pub(super) mod embed;
pub(super) mod generate;
pub(super) mod models;
mod options;
mod reply;
