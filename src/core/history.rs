//! What stands before a token that is drawn.

/// Tokens back to which the repetition penalty looks.
pub const REPEAT_WINDOW: usize = 64;

/// The text before a token that is drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct History<'a> {
    /// Its ids: the prompt, then what was drawn.
    pub text: &'a [u32],
    /// How many of them are the prompt's.
    pub prompt: usize,
}

impl<'a> History<'a> {
    /// What was drawn.
    pub(crate) fn drawn(&self) -> &'a [u32] {
        self.text.get(self.prompt..).unwrap_or_default()
    }

    /// The last [`REPEAT_WINDOW`] of the text.
    pub(crate) fn recent(&self) -> &'a [u32] {
        &self.text[self.text.len().saturating_sub(REPEAT_WINDOW)..]
    }
}
