//! The syntax tree. It nests only where the source does: chains of operators, of `elif` and of suffixes are lists,
//! so that no long template makes a deep tree.

use super::value::Value;

pub(crate) type Body = Vec<Statement>;

/// A statement and the line on which it begins.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) line: usize,
    pub(crate) kind: StatementKind,
}

#[derive(Debug)]
pub(crate) enum StatementKind {
    /// Text between tags.
    Data(super::text::Text),
    /// `{{ expression }}`
    Print(Expression),
    /// Conditions with what is done if they hold, and what is done if none does.
    If {
        branches: Vec<(Expression, Body)>,
        otherwise: Body,
    },
    For(Box<For>),
    Set {
        target: Target,
        value: Expression,
    },
    /// `{% set name %}…{% endset %}`, with filters.
    SetBlock {
        target: Target,
        filters: Vec<Suffix>,
        body: Body,
    },
    Macro(Macro),
    /// `{% filter name %}…{% endfilter %}`
    Filter {
        filters: Vec<Suffix>,
        body: Body,
    },
    /// `{% with a = 1 %}…{% endwith %}`, and `{% generation %}`, which marks an answer for training.
    With {
        targets: Vec<(Target, Expression)>,
        body: Body,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct For {
    pub(crate) target: Target,
    pub(crate) over: Expression,
    /// Items for which this does not hold are left out.
    pub(crate) only: Option<Expression>,
    pub(crate) body: Body,
    /// Done where there are no items.
    pub(crate) otherwise: Body,
}

#[derive(Debug)]
pub(crate) struct Macro {
    pub(crate) name: String,
    pub(crate) parameters: Vec<(String, Option<Expression>)>,
    pub(crate) body: Body,
}

/// What is assigned to.
#[derive(Debug)]
pub(crate) enum Target {
    Name(String),
    /// An attribute of a namespace.
    Attribute(String, String),
    Several(Vec<Target>),
}

#[derive(Debug)]
pub(crate) enum Expression {
    Literal(Value),
    Name(String),
    List {
        items: Vec<Expression>,
        is_tuple: bool,
    },
    Map(Vec<(Expression, Expression)>),
    Unary(Unary, Box<Expression>),
    /// Operators of one rank, from the left.
    Chain(Box<Expression>, Vec<(Binary, Expression)>),
    /// `a ~ b ~ c`
    Concat(Vec<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    /// `a < b < c`: each is compared with the next.
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    If(Box<Choice>),
    /// What follows after a value: `.name`, `[index]`, `(arguments)`, `| filter`, `is test`.
    Suffixed(Box<Expression>, Vec<Suffix>),
}

/// `then if condition else otherwise`
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) condition: Expression,
    pub(crate) then: Expression,
    pub(crate) otherwise: Option<Expression>,
}

#[derive(Debug)]
pub(crate) enum Suffix {
    Attribute(String),
    Item(Expression),
    Slice([Option<Expression>; 3]),
    Call(ArgumentList),
    Filter(String, ArgumentList),
    Test { name: String, arguments: ArgumentList, is_negated: bool },
}

#[derive(Debug, Default)]
pub(crate) struct ArgumentList {
    pub(crate) positional: Vec<Expression>,
    pub(crate) named: Vec<(String, Expression)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Not,
    Minus,
    Plus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}
