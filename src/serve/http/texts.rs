//! Texts that a request brings as they stand, or as ids.

use super::error::ApiError;
use crate::service::Ready;
use serde::Deserialize;
use wick_text::Special;

/// Texts or ids: one, or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, a list of texts, ids, or a list of lists of ids expected")]
pub(crate) enum Texts {
    Text(String),
    Ids(Vec<u32>),
    Several(Vec<String>),
    IdLists(Vec<Vec<u32>>),
}

impl Texts {
    /// Whether one of them is nothing.
    pub(crate) fn has_empty(&self) -> bool {
        match self {
            Texts::Text(text) => text.is_empty(),
            Texts::Ids(ids) => ids.is_empty(),
            Texts::Several(texts) => texts.iter().any(String::is_empty),
            Texts::IdLists(lists) => lists.iter().any(Vec::is_empty),
        }
    }

    /// The ids of each; `field` has one to `most` of them. Nothing in a text is a control token.
    pub(crate) fn encode(
        self,
        ready: &Ready,
        field: &str,
        most: usize,
    ) -> Result<Vec<Vec<u32>>, ApiError> {
        let texts: Vec<Vec<u32>> = match self {
            Texts::Text(text) => vec![encode(ready, &text)],
            Texts::Ids(ids) => vec![ids],
            Texts::Several(texts) => texts.iter().map(|text| encode(ready, text)).collect(),
            Texts::IdLists(lists) => lists,
        };
        match texts.len() {
            found if (1..=most).contains(&found) => Ok(texts),
            found => {
                let message = format_args!("1 to {most} texts expected, {found} found");
                Err(ApiError::field(field, message))
            }
        }
    }
}

/// The ids of a text as it stands, behind the token that sequences begin with, where the model has one.
pub(crate) fn ids(ready: &Ready, text: &str) -> Vec<u32> {
    let mut ids = Vec::from_iter(ready.tokenizer.prefix());
    ready.tokenizer.encode(text, Special::Text, &mut ids);
    ids
}

fn encode(ready: &Ready, text: &str) -> Vec<u32> {
    let (tokenizer, mut ids) = (&ready.tokenizer, ids(ready, text));
    if ids.is_empty() {
        // Like the beginning of a document.
        let end = || tokenizer.bos().or(tokenizer.eos());
        ids.extend(tokenizer.id_of("<|endoftext|>").or_else(end));
    }
    ids
}
