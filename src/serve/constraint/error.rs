//! A form that cannot be had.

use std::fmt;

/// Characters of a reason that are told.
const LONGEST_REASON: usize = 300;

/// Why a form cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormError(String);

impl FormError {
    /// An error with this reason.
    pub(crate) fn new(reason: impl fmt::Display) -> FormError {
        FormError(reason.to_string())
    }

    /// What llguidance says, without what only its developers can use.
    pub(crate) fn of_grammar(error: &impl fmt::Display) -> FormError {
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default();
        if first.starts_with("panic") {
            return FormError("it cannot be read; a simpler one is needed".into());
        }
        if first == "NoExtensionBias" {
            return FormError("no text can have this form".into());
        }
        // It goes on with options that there are not here.
        let reason = first.split(". Enable ").next().unwrap_or(first);
        FormError(reason.chars().take(LONGEST_REASON).collect())
    }
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FormError {}
