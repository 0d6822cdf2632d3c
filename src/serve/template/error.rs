//! What can be wrong with a template, and where.

use std::fmt;

/// A template cannot be read or rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    kind: TemplateErrorKind,
    line: usize,
    message: String,
}

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateErrorKind {
    /// The template is no Jinja, or uses what is unsupported.
    Syntax,
    /// It goes beyond one of the [`Limits`](super::Limits).
    Limit,
    /// It refuses the conversation, by `raise_exception`.
    Raised,
    /// A step of it has no meaning, such as a sum of a text and a number.
    Failed,
}

/// Most characters of a message that a template wrote.
const LONGEST: usize = 400;

impl TemplateError {
    pub(crate) fn new(kind: TemplateErrorKind, message: impl fmt::Display) -> TemplateError {
        TemplateError { kind, line: 0, message: message.to_string() }
    }

    pub(crate) fn syntax(line: usize, message: impl fmt::Display) -> TemplateError {
        TemplateError::new(TemplateErrorKind::Syntax, message).at(line)
    }

    pub(crate) fn limit(message: impl fmt::Display) -> TemplateError {
        TemplateError::new(TemplateErrorKind::Limit, message)
    }

    pub(crate) fn failed(message: impl fmt::Display) -> TemplateError {
        TemplateError::new(TemplateErrorKind::Failed, message)
    }

    pub(crate) fn raised(message: &str) -> TemplateError {
        let message: String = message.chars().take(LONGEST).collect();
        TemplateError::new(TemplateErrorKind::Raised, message)
    }

    /// The same at this line, if none is known yet.
    pub(crate) fn at(mut self, line: usize) -> TemplateError {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    /// What kind of error it is.
    pub fn kind(&self) -> TemplateErrorKind {
        self.kind
    }

    /// The line of the template, from 1 on; 0 if it is none in particular.
    pub fn line(&self) -> usize {
        self.line
    }

    /// What is wrong, without the line.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

pub(crate) type Result<T> = std::result::Result<T, TemplateError>;
