//! Whether control tokens are text.

/// What becomes of control tokens in the output. User-defined tokens are always shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// They yield nothing.
    Hide,
    /// They are shown as they are written.
    Show,
}
