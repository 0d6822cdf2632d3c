//! Chat templates, wherever they stand.

use super::json::parse;
use super::texts::Texts;
use crate::Metadata;
use serde::Deserialize;

const CONFIG: &str = "tokenizer_config.json";
/// The name of the template that is meant where none is named.
const DEFAULT: &str = "default";

#[derive(Default, Deserialize)]
struct Config {
    chat_template: Option<Templates>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

/// Adds the chat templates' keys. A file of its own stands in place of what `tokenizer_config.json` says, as in
/// transformers.
///
/// # Errors
/// A text cannot be read.
pub(crate) fn describe(texts: &Texts, metadata: &mut Metadata) -> Result<(), String> {
    let config = texts.tokenizer_config.as_deref().map(|text| parse(CONFIG, text));
    let config: Config = config.transpose()?.unwrap_or_default();
    let mut all: Vec<(String, String)> = match config.chat_template {
        None => Vec::new(),
        Some(Templates::One(template)) => vec![(DEFAULT.into(), template)],
        Some(Templates::Named(named)) => named.into_iter().map(|n| (n.name, n.template)).collect(),
    };
    for (i, (name, _)) in all.iter().enumerate() {
        if all[..i].iter().any(|(other, _)| other == name) {
            return Err(format!("{CONFIG}: chat_template: two templates are called {name:?}"));
        }
    }
    let files = texts.chat_template.iter().map(|text| (DEFAULT.into(), text.clone()));
    for (name, template) in files.chain(texts.more_templates.iter().cloned()) {
        all.retain(|(other, _)| *other != name);
        all.push((name, template));
    }
    let more: Vec<&str> =
        all.iter().map(|(name, _)| name.as_str()).filter(|n| *n != DEFAULT).collect();
    if !more.is_empty() {
        metadata.strings("tokenizer.chat_templates", &more);
    }
    for (name, template) in &all {
        match name.as_str() {
            DEFAULT => metadata.str("tokenizer.chat_template", template),
            name => metadata.str(&format!("tokenizer.chat_template.{name}"), template),
        };
    }
    Ok(())
}
