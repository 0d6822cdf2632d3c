//! What limits the text of a generation to some form.

use core::fmt;

/// Decides token by token what a generation may draw: it is asked before each draw, and told afterwards what was drawn.
pub trait Constraint: fmt::Debug + Send {
    /// The ids that may be drawn next, as the bits of [`Guidance::allowed`](wick_core::Guidance::allowed); `None` for
    /// all. Tokens that end a sequence are among them only where the text may end.
    ///
    /// # Errors
    /// It cannot tell; the generation fails.
    fn allowed(&mut self) -> Result<Option<&[u32]>, ConstraintError>;

    /// Takes note of a token that was drawn and is part of the text.
    ///
    /// # Errors
    /// Nothing can be said of what may follow; the generation fails.
    fn take(&mut self, id: u32) -> Result<(), ConstraintError>;

    /// Whether nothing can follow any more; the generation ends as if the model had ended it.
    fn is_complete(&self) -> bool;
}

/// A constraint gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConstraintError {
    /// Why.
    pub reason: &'static str,
}

impl fmt::Display for ConstraintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the form that the text must have: {}", self.reason)
    }
}

impl core::error::Error for ConstraintError {}
