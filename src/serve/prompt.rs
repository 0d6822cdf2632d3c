//! A prompt, and which of it a user wrote.

use std::ops::Range;
use wick_text::Tokenizer;

/// A prompt before it is ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    text: String,
    user: Vec<Range<usize>>,
}

impl Prompt {
    /// A text, and the ranges of bytes in it that are a user's, in order and apart.
    pub(crate) fn new(text: String, user: Vec<Range<usize>>) -> Prompt {
        Prompt { text, user }
    }

    /// A text of which nothing may be a control token.
    pub fn of_user(text: String) -> Prompt {
        let all = 0..text.len();
        Prompt { user: if all.is_empty() { Vec::new() } else { vec![all] }, text }
    }

    /// A text whose control tokens are meant.
    pub fn trusted(text: String) -> Prompt {
        Prompt { text, user: Vec::new() }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Ranges of bytes that are a user's, in order and apart.
    pub fn user(&self) -> &[Range<usize>] {
        &self.user
    }

    /// The ids: after the token that sequences begin with, if the file asks for one and the text does not begin with it
    /// already. Only what the template wrote becomes control tokens.
    pub fn encode(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let mut ids = Vec::from_iter(tokenizer.prefix());
        let before = ids.len();
        tokenizer.encode_marked(&self.text, &self.user, &mut ids);
        let begins_trusted = self.user.first().is_none_or(|user| user.start > 0);
        if before == 1 && begins_trusted && ids.get(1) == ids.first() {
            ids.remove(0);
        }
        ids
    }
}
