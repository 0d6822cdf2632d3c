//! Going through tokens, and counting how deep.

use super::error::{Result, TemplateError};
use super::token::{Token, TokenKind};

/// How deep a template's source may nest. Those of published models reach about 12.
const DEEPEST: usize = 48;

/// A place among the tokens of a template.
pub(crate) struct Cursor<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
}

impl<'t> Cursor<'t> {
    /// The first of tokens, of which the last is the end.
    pub(crate) fn new(tokens: &'t [Token]) -> Cursor<'t> {
        Cursor { tokens, at: 0, depth: 0 }
    }

    pub(crate) fn line(&self) -> usize {
        self.tokens[self.at].line
    }

    pub(crate) fn peek(&self) -> &'t TokenKind {
        &self.tokens[self.at].kind
    }

    /// The token after the next.
    pub(crate) fn peek_second(&self) -> &'t TokenKind {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    /// The next token; the end stays where it is.
    pub(crate) fn next(&mut self) -> &'t TokenKind {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    /// Takes this token if it is the next.
    pub(crate) fn take(&mut self, kind: &TokenKind) -> bool {
        let found = self.peek() == kind;
        if found {
            self.next();
        }
        found
    }

    pub(crate) fn expect(&mut self, kind: &TokenKind) -> Result<()> {
        if self.take(kind) { Ok(()) } else { self.unexpected(&kind.describe()) }
    }

    pub(crate) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), TokenKind::Symbol(found) if *found == symbol)
    }

    pub(crate) fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        if found {
            self.next();
        }
        found
    }

    pub(crate) fn expect_symbol(&mut self, symbol: &str) -> Result<()> {
        if self.take_symbol(symbol) { Ok(()) } else { self.unexpected(symbol) }
    }

    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), TokenKind::Name(found) if found == word)
    }

    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.next();
        }
        found
    }

    pub(crate) fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.take_word(word) { Ok(()) } else { self.unexpected(word) }
    }

    pub(crate) fn name(&mut self) -> Result<String> {
        match self.peek() {
            TokenKind::Name(name) => {
                self.next();
                Ok(name.clone())
            }
            _ => self.unexpected("a name"),
        }
    }

    pub(crate) fn unexpected<T>(&self, expected: &str) -> Result<T> {
        let found = self.peek().describe();
        self.error(format_args!("{expected} expected, {found} found"))
    }

    pub(crate) fn error<T>(&self, message: impl std::fmt::Display) -> Result<T> {
        Err(TemplateError::syntax(self.line(), message))
    }

    /// Reads something that may hold itself.
    pub(crate) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.enter()?;
        let read = read(self)?;
        self.leave();
        Ok(read)
    }

    /// One deeper, until [`Cursor::leave`]. After an error nothing is read, so that nobody has to leave then.
    pub(crate) fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let message = format_args!("it nests deeper than {DEEPEST}");
            return Err(TemplateError::limit(message).at(self.line()));
        }
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }
}
