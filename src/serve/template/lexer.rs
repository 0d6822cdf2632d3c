//! Source text to tokens, by Jinja2's rules for white space with `trim_blocks` and `lstrip_blocks`.

use super::error::{Result, TemplateError};
use super::token::{Token, TokenKind};

/// Longest first.
const SYMBOLS: [&str; 27] = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "|", ".", ",",
    ":", "(", ")", "[", "]", "{", "}", ";", "!",
];

/// The tokens of a template. Line breaks of any kind count as LF, and one at the very end as none.
pub(crate) fn tokens(source: &str) -> Result<Vec<Token>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, at: 0, line: 1, tokens: Vec::new() };
    while lexer.at < source.len() {
        lexer.data()?;
    }
    lexer.push(TokenKind::End);
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn advance(&mut self, bytes: usize) -> &'s str {
        let passed = &self.rest()[..bytes];
        self.line += passed.bytes().filter(|&byte| byte == b'\n').count();
        self.at += bytes;
        passed
    }

    fn push(&mut self, kind: TokenKind) {
        self.tokens.push(Token { kind, line: self.line });
    }

    fn error<T>(&self, message: impl std::fmt::Display) -> Result<T> {
        Err(TemplateError::syntax(self.line, message))
    }

    /// Text up to the next tag, and the tag.
    fn data(&mut self) -> Result<()> {
        let rest = self.rest();
        let braces = rest.match_indices('{');
        let mut tags = braces.filter_map(|(at, _)| Some((at, rest.get(at..at + 2)?)));
        let Some((end, tag)) = tags.find(|(_, tag)| matches!(*tag, "{%" | "{{" | "{#")) else {
            self.push_data(rest);
            self.advance(rest.len());
            return Ok(());
        };
        let sign = rest[end + 2..].chars().next().filter(|sign| matches!(sign, '-' | '+'));
        self.push_data(self.before_tag(&rest[..end], tag != "{{", sign));
        self.advance(end + 2 + usize::from(sign.is_some()));
        match tag {
            "{#" => self.comment(),
            "{%" if self.raw()? => Ok(()),
            "{%" => self.tag(TokenKind::BlockBegin, TokenKind::BlockEnd, "%}"),
            _ => self.tag(TokenKind::VariableBegin, TokenKind::VariableEnd, "}}"),
        }
    }

    /// What of the text before a tag is kept: a minus drops white space, and so does a block that nothing
    /// else stands before on its line.
    fn before_tag<'t>(&self, text: &'t str, is_block: bool, sign: Option<char>) -> &'t str {
        if sign == Some('-') {
            return text.trim_end();
        }
        let line = text.rfind('\n').map_or(0, |at| at + 1);
        let begins_line = line > 0 || self.at == 0 || self.source[..self.at].ends_with('\n');
        let strips = is_block && sign.is_none() && begins_line;
        if strips && text[line..].chars().all(char::is_whitespace) { &text[..line] } else { text }
    }

    fn push_data(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(TokenKind::Data(text.into()));
        }
    }

    fn comment(&mut self) -> Result<()> {
        let Some(end) = self.rest().find("#}") else {
            return self.error("a comment without its #}");
        };
        let sign = self.rest()[..end].chars().next_back();
        self.advance(end + 2);
        self.after_block(sign);
        Ok(())
    }

    /// White space after a block: all of it after a minus, none after a plus, or else a line break.
    fn after_block(&mut self, sign: Option<char>) {
        let rest = self.rest();
        let bytes = match sign {
            Some('-') => rest.len() - rest.trim_start().len(),
            Some('+') => 0,
            _ => usize::from(rest.starts_with('\n')),
        };
        self.advance(bytes);
    }

    /// A `raw` block, if one begins here.
    fn raw(&mut self) -> Result<bool> {
        let Some(rest) = word(self.rest(), "raw") else { return Ok(false) };
        let (rest, strips) = match rest.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let Some(rest) = rest.strip_prefix("%}") else { return Ok(false) };
        self.advance(self.rest().len() - rest.len());
        if strips {
            self.after_block(Some('-'));
        }
        let body = self.rest();
        for (at, _) in body.match_indices("{%") {
            let sign = body[at + 2..].chars().next().filter(|sign| matches!(sign, '-' | '+'));
            let after = &body[at + 2 + usize::from(sign.is_some())..];
            let Some(after) = word(after, "endraw") else { continue };
            let end_sign = after.chars().next().filter(|sign| matches!(sign, '-' | '+'));
            let after = &after[usize::from(end_sign.is_some())..];
            let Some(after) = after.strip_prefix("%}") else { continue };
            self.push_data(self.before_tag(&body[..at], true, sign));
            self.advance(body.len() - after.len());
            self.after_block(end_sign);
            return Ok(true);
        }
        self.error("a raw block without its endraw")
    }

    /// The tokens of a tag, to its end.
    fn tag(&mut self, begin: TokenKind, end: TokenKind, close: &str) -> Result<()> {
        self.push(begin);
        let mut open = 0_usize;
        loop {
            let rest = self.rest();
            self.advance(rest.len() - rest.trim_start().len());
            let rest = self.rest();
            let Some(first) = rest.chars().next() else {
                return self.error(format_args!("a tag without its {close}"));
            };
            if open == 0 && self.close(close) {
                self.push(end);
                return Ok(());
            }
            match first {
                '\'' | '"' => self.string(first)?,
                '0'..='9' => self.number()?,
                first if first.is_alphanumeric() || first == '_' => self.name(),
                _ => open = self.symbol(open)?,
            }
        }
    }

    /// Passes the end of a tag, if it is here, and the white space after it.
    fn close(&mut self, close: &str) -> bool {
        let rest = self.rest();
        let sign = rest.chars().next().filter(|&c| c == '-' || (c == '+' && close == "%}"));
        if !rest[usize::from(sign.is_some())..].starts_with(close) {
            return false;
        }
        self.advance(close.len() + usize::from(sign.is_some()));
        if close == "%}" || sign == Some('-') {
            self.after_block(sign);
        }
        true
    }

    fn name(&mut self) {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.push(TokenKind::Name(rest[..end].into()));
        self.advance(end);
    }

    /// A bracket or an operator; how many brackets are open then.
    fn symbol(&mut self, open: usize) -> Result<usize> {
        let rest = self.rest();
        let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) else {
            let found = rest.chars().next().unwrap_or_default();
            return self.error(format_args!("{found:?} has no meaning here"));
        };
        self.push(TokenKind::Symbol(symbol));
        self.advance(symbol.len());
        Ok(match symbol {
            "(" | "[" | "{" => open + 1,
            ")" | "]" | "}" => open.saturating_sub(1),
            _ => open,
        })
    }

    /// A number: decimal with or without fraction and exponent, or with the prefix of another base.
    fn number(&mut self) -> Result<()> {
        let rest = self.rest();
        let base = match rest.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => 16,
            Some("0o") => 8,
            Some("0b") => 2,
            _ => return self.decimal(),
        };
        let end = rest[2..].find(|c: char| !c.is_digit(base) && c != '_');
        let end = end.map_or(rest.len(), |end| end + 2);
        match i64::from_str_radix(&rest[2..end].replace('_', ""), base) {
            Ok(number) => self.push(TokenKind::Int(number)),
            Err(_) => return self.error("a number that is too large"),
        }
        self.advance(end);
        Ok(())
    }

    fn decimal(&mut self) -> Result<()> {
        let rest = self.rest();
        let digits = |from: usize| {
            let end = rest[from..].find(|c: char| !c.is_ascii_digit() && c != '_');
            end.map_or(rest.len(), |end| from + end)
        };
        let starts_digit = |at: usize| rest[at..].starts_with(|c: char| c.is_ascii_digit());
        let whole = digits(0);
        let mut end = whole;
        if rest[end..].starts_with('.') && starts_digit(end + 1) {
            end = digits(end + 1);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            if starts_digit(end + 1 + sign) {
                end = digits(end + 1 + sign);
            }
        }
        let text = rest[..end].replace('_', "");
        let kind = match end == whole {
            true => text.parse().map(TokenKind::Int).ok(),
            false => text.parse().map(TokenKind::Float).ok(),
        };
        let Some(kind) = kind else { return self.error("a number that is too large") };
        self.push(kind);
        self.advance(end);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<()> {
        let body = &self.rest()[1..];
        let mut is_escaped = false;
        let end = body.char_indices().find(|&(_, c)| {
            let ends = c == quote && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let Some((end, _)) = end else { return self.error("a string without its end") };
        self.push(TokenKind::Text(unescape(&body[..end])));
        self.advance(end + 2);
        Ok(())
    }
}

/// What stands after a word and white space around it, if the text begins so.
fn word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let rest = text.trim_start().strip_prefix(word)?;
    let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    ends.then(|| rest.trim_start())
}

/// A string without Python's escapes; what is none stays as it is.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        rest = &rest[escape(rest, &mut out)..];
    }
    out + rest
}

/// Appends what stands for the escape after a backslash; how many bytes it had.
fn escape(rest: &str, out: &mut String) -> usize {
    let Some(first) = rest.chars().next() else {
        out.push('\\');
        return 0;
    };
    let simple = match first {
        '\n' => return 1,
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'v' => '\x0b',
        '\\' | '\'' | '"' => first,
        'x' => return coded(rest, 1, 2, 16, out),
        'u' => return coded(rest, 1, 4, 16, out),
        'U' => return coded(rest, 1, 8, 16, out),
        '0'..='7' => return coded(rest, 0, 3, 8, out),
        _ => {
            out.push('\\');
            return 0;
        }
    };
    out.push(simple);
    1
}

/// A character by its number: up to three octal digits, or exactly so many others.
fn coded(rest: &str, from: usize, count: usize, base: u32, out: &mut String) -> usize {
    let digits = rest[from..].chars().take(count).take_while(|c| c.is_digit(base)).count();
    let code = u32::from_str_radix(&rest[from..from + digits], base).ok().and_then(char::from_u32);
    match code.filter(|_| digits == count || base == 8) {
        Some(c) => {
            out.push(c);
            from + digits
        }
        None => {
            out.push('\\');
            0
        }
    }
}
