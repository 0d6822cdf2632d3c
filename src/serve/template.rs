//! Chat templates: the part of Jinja that they are written in, as Jinja2 renders it with the settings that
//! `transformers` uses (`trim_blocks`, `lstrip_blocks`, loop controls, `{% generation %}`, values that do not change).
//!
//! ```text
//!   lexer ─► token ─► cursor ─► parser, expression ─► syntax
//!                                                       │
//!   context ──► interpreter: execute (statements), evaluate (expressions)
//!                  │     │
//!                  │     └─► operators, access, filters, predicates, methods, functions
//!                  └─► budget, scopes, text with its origin, value
//! ```
//!
//! # Why an interpreter of our own
//! minijinja evaluates `a ~ b`, `a * n`, ranges and formats by itself and without bounds of memory, its values may hold
//! themselves, and its texts do not tell where they came from. Bounding it takes a second process per prompt, and even
//! that does not tell a user's text from the template's. Here each byte is paid for before it is there, and each has an
//! origin.
//!
//! # Bounds
//! See [`Limits`]. A chain of operators, suffixes or `elif` is a list in the syntax tree, so that only what nests in the
//! source is deep, and that is bounded while it is read. Lists and dictionaries do not change, and each knows how large
//! it would be written out; namespaces are kept by the renderer and named by their place. So nothing holds itself, and
//! nothing is walked through that has not been paid for.
//!
//! # What is left out
//! Inheritance, imports, `call` blocks, recursive loops, `*` arguments, keys that are no texts, integers beyond 64 bits.
//! Each is an error that says so.

mod access;
mod arguments;
mod budget;
mod context;
mod convert;
mod cursor;
mod date;
mod error;
mod evaluate;
mod execute;
mod expression;
mod filters;
mod functions;
mod interpreter;
mod json;
mod lexer;
mod methods;
mod operators;
mod parser;
mod predicates;
mod printf;
mod repetition;
mod scopes;
mod show;
mod syntax;
mod text;
mod token;
mod value;
mod words;

pub use budget::Limits;
pub use context::Context;
pub use date::Moment;
pub use error::{TemplateError, TemplateErrorKind};
pub use text::Text;
pub use value::{List, Map, Object, Value};

use crate::prompt::Prompt;
use budget::Budget;
use error::Result;
use interpreter::Interpreter;
use syntax::Body;

/// A template that has been read.
#[derive(Debug)]
pub struct Template {
    body: Body,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// It is no Jinja, uses what is unsupported, nests too deep, or is too long.
    pub fn new(source: &str) -> Result<Template> {
        let most = Limits::SOURCE;
        if source.len() > most {
            let message = format_args!("it has {} bytes, of {most} at most", source.len());
            return Err(TemplateError::limit(message));
        }
        let tokens = lexer::tokens(source)?;
        Ok(Template { body: parser::statements(&tokens)? })
    }

    /// Renders the template within the bounds that a conversation of this size has.
    ///
    /// # Errors
    /// It goes beyond the bounds, refuses the conversation, or does what has no meaning.
    pub fn render(&self, context: &Context) -> Result<Prompt> {
        self.render_within(context, Limits::for_input(context.bytes()))
    }

    /// Renders the template within these bounds.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_within(&self, context: &Context, limits: Limits) -> Result<Prompt> {
        let budget = Budget::new(limits);
        let mut interpreter = Interpreter::new(context, &budget);
        interpreter.execute(&self.body)?;
        let (text, user) = interpreter.out.into_parts();
        Ok(Prompt::new(text, user))
    }
}
