//! The tokens of a template.

/// A token and the line on which it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) line: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// What stands between tags, trimmed as they ask for.
    Data(String),
    /// `{%`
    BlockBegin,
    /// `%}`
    BlockEnd,
    /// `{{`
    VariableBegin,
    /// `}}`
    VariableEnd,
    Name(String),
    Text(String),
    Int(i64),
    Float(f64),
    /// An operator or a bracket.
    Symbol(&'static str),
    /// Nothing more comes.
    End,
}

impl TokenKind {
    /// The token as an error names it.
    pub(crate) fn describe(&self) -> String {
        match self {
            TokenKind::Data(_) => "text".into(),
            TokenKind::BlockBegin => "{%".into(),
            TokenKind::BlockEnd => "%}".into(),
            TokenKind::VariableBegin => "{{".into(),
            TokenKind::VariableEnd => "}}".into(),
            TokenKind::Name(name) => name.chars().take(60).collect(),
            TokenKind::Text(_) => "a string".into(),
            TokenKind::Int(_) | TokenKind::Float(_) => "a number".into(),
            TokenKind::Symbol(symbol) => (*symbol).into(),
            TokenKind::End => "the end of the template".into(),
        }
    }
}
