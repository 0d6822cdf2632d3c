//! Statements.

use super::cursor::Cursor;
use super::error::Result;
use super::expression::{expression, filter, tuple, without_choice};
use super::syntax::{Body, For, Macro, Statement, StatementKind, Suffix, Target};
use super::text::Text;
use super::token::{Token, TokenKind};

/// The statements of a whole template.
pub(crate) fn statements(tokens: &[Token]) -> Result<Body> {
    let mut parser = Parser { cursor: Cursor::new(tokens), loops: 0 };
    let body = parser.body(&[])?;
    match parser.cursor.peek() {
        TokenKind::End => Ok(body),
        _ => parser.cursor.unexpected("the end of the template"),
    }
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    /// How many loops are open, of which `break` ends one.
    loops: usize,
}

impl Parser<'_> {
    /// Statements up to a tag with one of these words, which stays.
    fn body(&mut self, ends: &[&str]) -> Result<Body> {
        let mut body = Vec::new();
        loop {
            let line = self.cursor.line();
            let kind = match self.cursor.peek() {
                TokenKind::End if ends.is_empty() => return Ok(body),
                TokenKind::End => return self.cursor.unexpected(&format!("{{% {} %}}", ends[0])),
                TokenKind::BlockBegin if self.is_at(ends) => return Ok(body),
                TokenKind::BlockBegin => self.block()?,
                TokenKind::Data(text) => {
                    let data = StatementKind::Data(Text::trusted(text.as_str()));
                    self.cursor.next();
                    data
                }
                _ => self.print()?,
            };
            body.push(Statement { line, kind });
        }
    }

    /// Whether a tag begins with one of these words.
    fn is_at(&self, words: &[&str]) -> bool {
        matches!(self.cursor.peek_second(), TokenKind::Name(word) if words.contains(&word.as_str()))
    }

    /// The body of a block and the tag that ends it.
    fn body_to(&mut self, end: &str) -> Result<Body> {
        let body = self.nested_body(&[end])?;
        self.end_tag(end)?;
        Ok(body)
    }

    fn nested_body(&mut self, ends: &[&str]) -> Result<Body> {
        self.cursor.enter()?;
        let body = self.body(ends)?;
        self.cursor.leave();
        Ok(body)
    }

    fn end_tag(&mut self, word: &str) -> Result<()> {
        self.cursor.expect(&TokenKind::BlockBegin)?;
        self.cursor.expect_word(word)?;
        // An end may repeat the name of a macro.
        if word == "endmacro" && matches!(self.cursor.peek(), TokenKind::Name(_)) {
            self.cursor.next();
        }
        self.cursor.expect(&TokenKind::BlockEnd)
    }

    fn print(&mut self) -> Result<StatementKind> {
        self.cursor.expect(&TokenKind::VariableBegin)?;
        let printed = tuple(&mut self.cursor, expression)?;
        self.cursor.expect(&TokenKind::VariableEnd)?;
        Ok(StatementKind::Print(printed))
    }

    /// A tag, and the block that it begins.
    fn block(&mut self) -> Result<StatementKind> {
        self.cursor.expect(&TokenKind::BlockBegin)?;
        let word = self.cursor.name()?;
        match word.as_str() {
            "if" => self.condition(),
            "for" => self.iteration(),
            "set" => self.set(),
            "macro" => self.definition(),
            "filter" => self.filtered(),
            "with" => self.with(),
            "generation" => {
                self.cursor.expect(&TokenKind::BlockEnd)?;
                let body = self.body_to("endgeneration")?;
                Ok(StatementKind::With { targets: Vec::new(), body })
            }
            "break" => self.jump(StatementKind::Break),
            "continue" => self.jump(StatementKind::Continue),
            _ => {
                let word: String = word.chars().take(60).collect();
                self.cursor.error(format_args!("{{% {word} %}} is unsupported or out of place"))
            }
        }
    }

    fn jump(&mut self, kind: StatementKind) -> Result<StatementKind> {
        self.cursor.expect(&TokenKind::BlockEnd)?;
        if self.loops == 0 {
            return self.cursor.error("break and continue stand in a loop");
        }
        Ok(kind)
    }

    fn condition(&mut self) -> Result<StatementKind> {
        let mut branches = Vec::new();
        loop {
            let condition = tuple(&mut self.cursor, expression)?;
            self.cursor.expect(&TokenKind::BlockEnd)?;
            branches.push((condition, self.nested_body(&["elif", "else", "endif"])?));
            self.cursor.expect(&TokenKind::BlockBegin)?;
            if !self.cursor.take_word("elif") {
                break;
            }
        }
        let otherwise = self.otherwise("endif")?;
        Ok(StatementKind::If { branches, otherwise })
    }

    /// What stands after `else`, up to the end of the block; the tag's beginning has been read.
    fn otherwise(&mut self, end: &str) -> Result<Body> {
        if self.cursor.take_word("else") {
            self.cursor.expect(&TokenKind::BlockEnd)?;
            return self.body_to(end);
        }
        self.cursor.expect_word(end)?;
        self.cursor.expect(&TokenKind::BlockEnd)?;
        Ok(Vec::new())
    }

    fn iteration(&mut self) -> Result<StatementKind> {
        let target = self.target()?;
        self.cursor.expect_word("in")?;
        let over = tuple(&mut self.cursor, without_choice)?;
        let only = self.cursor.take_word("if").then(|| expression(&mut self.cursor));
        let only = only.transpose()?;
        if self.cursor.is_word("recursive") {
            return self.cursor.error("recursive loops are unsupported");
        }
        self.cursor.expect(&TokenKind::BlockEnd)?;
        self.loops += 1;
        let body = self.nested_body(&["else", "endfor"])?;
        self.loops -= 1;
        self.cursor.expect(&TokenKind::BlockBegin)?;
        let otherwise = self.otherwise("endfor")?;
        Ok(StatementKind::For(Box::new(For { target, over, only, body, otherwise })))
    }

    /// A name, an attribute of a namespace, or several of them.
    fn target(&mut self) -> Result<Target> {
        let first = self.single_target()?;
        if !self.cursor.is_symbol(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.cursor.take_symbol(",") {
            targets.push(self.single_target()?);
        }
        Ok(Target::Several(targets))
    }

    fn single_target(&mut self) -> Result<Target> {
        if self.cursor.take_symbol("(") {
            let mut targets = vec![Target::Name(self.cursor.name()?)];
            while self.cursor.take_symbol(",") {
                targets.push(Target::Name(self.cursor.name()?));
            }
            self.cursor.expect_symbol(")")?;
            return Ok(Target::Several(targets));
        }
        let name = self.cursor.name()?;
        if !self.cursor.take_symbol(".") {
            return Ok(Target::Name(name));
        }
        Ok(Target::Attribute(name, self.cursor.name()?))
    }

    fn set(&mut self) -> Result<StatementKind> {
        let target = self.target()?;
        if self.cursor.take_symbol("=") {
            let value = tuple(&mut self.cursor, expression)?;
            self.cursor.expect(&TokenKind::BlockEnd)?;
            return Ok(StatementKind::Set { target, value });
        }
        let filters = self.filters()?;
        let body = self.body_to("endset")?;
        Ok(StatementKind::SetBlock { target, filters, body })
    }

    /// Filters up to the end of the tag, each after its `|`.
    fn filters(&mut self) -> Result<Vec<Suffix>> {
        let mut filters = Vec::new();
        while self.cursor.take_symbol("|") {
            filters.push(filter(&mut self.cursor)?);
        }
        self.cursor.expect(&TokenKind::BlockEnd)?;
        Ok(filters)
    }

    fn filtered(&mut self) -> Result<StatementKind> {
        let first = filter(&mut self.cursor)?;
        let mut filters = vec![first];
        filters.extend(self.filters()?);
        let body = self.body_to("endfilter")?;
        Ok(StatementKind::Filter { filters, body })
    }

    fn with(&mut self) -> Result<StatementKind> {
        let mut targets = Vec::new();
        while !self.cursor.take(&TokenKind::BlockEnd) {
            let target = self.single_target()?;
            self.cursor.expect_symbol("=")?;
            targets.push((target, expression(&mut self.cursor)?));
            if !self.cursor.take_symbol(",") && *self.cursor.peek() != TokenKind::BlockEnd {
                return self.cursor.unexpected("%}");
            }
        }
        let body = self.body_to("endwith")?;
        Ok(StatementKind::With { targets, body })
    }

    fn definition(&mut self) -> Result<StatementKind> {
        let name = self.cursor.name()?;
        self.cursor.expect_symbol("(")?;
        let mut parameters = Vec::new();
        while !self.cursor.take_symbol(")") {
            let parameter = self.cursor.name()?;
            let default = self.cursor.take_symbol("=").then(|| expression(&mut self.cursor));
            parameters.push((parameter, default.transpose()?));
            if !self.cursor.take_symbol(",") && !self.cursor.is_symbol(")") {
                return self.cursor.unexpected(")");
            }
        }
        self.cursor.expect(&TokenKind::BlockEnd)?;
        let loops = std::mem::take(&mut self.loops);
        let body = self.body_to("endmacro")?;
        self.loops = loops;
        Ok(StatementKind::Macro(Macro { name, parameters, body }))
    }
}
