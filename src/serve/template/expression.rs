//! Expressions, by Jinja2's ranks of operators.

use super::cursor::Cursor;
use super::error::Result;
use super::syntax::{ArgumentList, Binary, Choice, Comparison, Expression, Suffix, Unary};
use super::token::TokenKind;
use super::value::Value;

/// An expression: a choice, or what a choice is made of.
pub(crate) fn expression(cursor: &mut Cursor<'_>) -> Result<Expression> {
    cursor.nested(|cursor| {
        let then = without_choice(cursor)?;
        if !cursor.take_word("if") {
            return Ok(then);
        }
        let condition = without_choice(cursor)?;
        let otherwise = cursor.take_word("else").then(|| expression(cursor)).transpose()?;
        Ok(Expression::If(Box::new(Choice { condition, then, otherwise })))
    })
}

/// An expression or several with commas between them, which make a tuple. `item` reads one.
pub(crate) fn tuple(
    cursor: &mut Cursor<'_>,
    item: fn(&mut Cursor<'_>) -> Result<Expression>,
) -> Result<Expression> {
    let first = item(cursor)?;
    if !cursor.is_symbol(",") {
        return Ok(first);
    }
    let mut items = vec![first];
    while cursor.take_symbol(",") && !ends_tuple(cursor) {
        items.push(item(cursor)?);
    }
    Ok(Expression::List { items, is_tuple: true })
}

fn ends_tuple(cursor: &Cursor<'_>) -> bool {
    let kind = cursor.peek();
    matches!(kind, TokenKind::BlockEnd | TokenKind::VariableEnd | TokenKind::Symbol(")" | "]"))
}

/// An expression that is no choice, unless in brackets: `for` and its `if` take such.
pub(crate) fn without_choice(cursor: &mut Cursor<'_>) -> Result<Expression> {
    operation(cursor, Rank::Or)
}

/// How tight operators bind, the loosest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Or,
    And,
    Not,
    Comparison,
    Sum,
    Concatenation,
    Product,
    Power,
    Operand,
}

impl Rank {
    /// The rank of the operator that comes next, if there is one.
    fn next(cursor: &Cursor<'_>) -> Option<Rank> {
        Some(match cursor.peek() {
            TokenKind::Name(word) => match word.as_str() {
                "or" => Rank::Or,
                "and" => Rank::And,
                "in" => Rank::Comparison,
                "not" if is_in(cursor.peek_second()) => Rank::Comparison,
                _ => return None,
            },
            TokenKind::Symbol(symbol) => match *symbol {
                "==" | "!=" | "<" | "<=" | ">" | ">=" => Rank::Comparison,
                "+" | "-" => Rank::Sum,
                "~" => Rank::Concatenation,
                "*" | "/" | "//" | "%" => Rank::Product,
                "**" => Rank::Power,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// The rank that operands of this one's operators have at least.
    fn tighter(self) -> Rank {
        match self {
            Rank::Or => Rank::And,
            Rank::And => Rank::Not,
            Rank::Not | Rank::Comparison => Rank::Sum,
            Rank::Sum => Rank::Concatenation,
            Rank::Concatenation => Rank::Product,
            Rank::Product => Rank::Power,
            Rank::Power | Rank::Operand => Rank::Operand,
        }
    }
}

/// An operand, and operators of at least this rank after it.
fn operation(cursor: &mut Cursor<'_>, least: Rank) -> Result<Expression> {
    let mut left = if least <= Rank::Not && cursor.take_word("not") {
        let operand = cursor.nested(|cursor| operation(cursor, Rank::Not))?;
        Expression::Unary(Unary::Not, Box::new(operand))
    } else {
        unary(cursor)?
    };
    // Each chain takes in all of its rank, so that ranks fall from chain to chain and the tree is no deeper than they
    // are many.
    while let Some(rank) = Rank::next(cursor).filter(|rank| *rank >= least) {
        left = chain(cursor, left, rank)?;
    }
    Ok(left)
}

/// Operators of one rank, with the operand before them.
fn chain(cursor: &mut Cursor<'_>, first: Expression, rank: Rank) -> Result<Expression> {
    match rank {
        Rank::Comparison => {
            let rest = operands(cursor, rank, comparator)?;
            Ok(Expression::Compare(Box::new(first), rest))
        }
        Rank::Sum | Rank::Product | Rank::Power => {
            let rest = operands(cursor, rank, arithmetic)?;
            Ok(Expression::Chain(Box::new(first), rest))
        }
        _ => {
            let rest = operands(cursor, rank, |cursor| {
                cursor.next();
            })?;
            let all = [first].into_iter().chain(rest.into_iter().map(|(_, operand)| operand));
            Ok(match rank {
                Rank::Or => Expression::Or(all.collect()),
                Rank::And => Expression::And(all.collect()),
                _ => Expression::Concat(all.collect()),
            })
        }
    }
}

/// Operators of one rank, each with the operand after it. `read` takes an operator.
fn operands<T>(
    cursor: &mut Cursor<'_>,
    rank: Rank,
    read: fn(&mut Cursor<'_>) -> T,
) -> Result<Vec<(T, Expression)>> {
    let mut operands = Vec::new();
    while Rank::next(cursor) == Some(rank) {
        operands.push((read(cursor), operation(cursor, rank.tighter())?));
    }
    Ok(operands)
}

fn comparator(cursor: &mut Cursor<'_>) -> Comparison {
    match cursor.next() {
        TokenKind::Symbol("==") => Comparison::Equal,
        TokenKind::Symbol("!=") => Comparison::NotEqual,
        TokenKind::Symbol("<") => Comparison::Less,
        TokenKind::Symbol("<=") => Comparison::LessOrEqual,
        TokenKind::Symbol(">") => Comparison::Greater,
        TokenKind::Symbol(">=") => Comparison::GreaterOrEqual,
        // `not in`
        _ if cursor.take_word("in") => Comparison::NotIn,
        _ => Comparison::In,
    }
}

fn arithmetic(cursor: &mut Cursor<'_>) -> Binary {
    match cursor.next() {
        TokenKind::Symbol("+") => Binary::Add,
        TokenKind::Symbol("-") => Binary::Subtract,
        TokenKind::Symbol("*") => Binary::Multiply,
        TokenKind::Symbol("/") => Binary::Divide,
        TokenKind::Symbol("//") => Binary::FloorDivide,
        TokenKind::Symbol("%") => Binary::Modulo,
        _ => Binary::Power,
    }
}

fn is_in(kind: &TokenKind) -> bool {
    matches!(kind, TokenKind::Name(word) if word == "in")
}

/// An operand with its signs; filters and tests bind less than a sign.
fn unary(cursor: &mut Cursor<'_>) -> Result<Expression> {
    let (inner, mut suffixes) = signed(cursor)?;
    while let Some(suffix) = filter_or_test(cursor)? {
        suffixes.push(suffix);
    }
    Ok(suffixed(inner, suffixes))
}

/// An operand with its signs and without filters, and suffixes that are still to be joined to it.
fn signed(cursor: &mut Cursor<'_>) -> Result<(Expression, Vec<Suffix>)> {
    let operator = match cursor.peek() {
        TokenKind::Symbol("-") => Unary::Minus,
        TokenKind::Symbol("+") => Unary::Plus,
        _ => return Ok((primary(cursor)?, postfixes(cursor)?)),
    };
    cursor.next();
    let (operand, suffixes) = cursor.nested(signed)?;
    let operand = Box::new(suffixed(operand, suffixes));
    Ok((Expression::Unary(operator, operand), Vec::new()))
}

fn suffixed(inner: Expression, suffixes: Vec<Suffix>) -> Expression {
    match suffixes.is_empty() {
        true => inner,
        false => Expression::Suffixed(Box::new(inner), suffixes),
    }
}

fn primary(cursor: &mut Cursor<'_>) -> Result<Expression> {
    let literal = match cursor.peek() {
        TokenKind::Name(name) => match name.as_str() {
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            "none" | "None" => Value::None,
            name => {
                cursor.next();
                return Ok(Expression::Name(name.into()));
            }
        },
        TokenKind::Int(number) => Value::Int(*number),
        TokenKind::Float(number) => Value::Float(*number),
        TokenKind::Text(_) => return Ok(Expression::Literal(Value::text(&strings(cursor)))),
        TokenKind::Symbol("(") => return bracketed(cursor),
        TokenKind::Symbol("[") => return list(cursor),
        TokenKind::Symbol("{") => return map(cursor),
        _ => return cursor.unexpected("an expression"),
    };
    cursor.next();
    Ok(Expression::Literal(literal))
}

/// Strings side by side are one.
fn strings(cursor: &mut Cursor<'_>) -> String {
    let mut all = String::new();
    while let TokenKind::Text(text) = cursor.peek() {
        all.push_str(text);
        cursor.next();
    }
    all
}

fn bracketed(cursor: &mut Cursor<'_>) -> Result<Expression> {
    cursor.expect_symbol("(")?;
    if cursor.take_symbol(")") {
        return Ok(Expression::List { items: Vec::new(), is_tuple: true });
    }
    let inner = tuple(cursor, expression)?;
    cursor.expect_symbol(")")?;
    Ok(inner)
}

fn list(cursor: &mut Cursor<'_>) -> Result<Expression> {
    cursor.expect_symbol("[")?;
    let mut items = Vec::new();
    while !cursor.take_symbol("]") {
        items.push(expression(cursor)?);
        if !cursor.take_symbol(",") && !cursor.is_symbol("]") {
            return cursor.unexpected("]");
        }
    }
    Ok(Expression::List { items, is_tuple: false })
}

fn map(cursor: &mut Cursor<'_>) -> Result<Expression> {
    cursor.expect_symbol("{")?;
    let mut entries = Vec::new();
    while !cursor.take_symbol("}") {
        let key = expression(cursor)?;
        cursor.expect_symbol(":")?;
        entries.push((key, expression(cursor)?));
        if !cursor.take_symbol(",") && !cursor.is_symbol("}") {
            return cursor.unexpected("}");
        }
    }
    Ok(Expression::Map(entries))
}

/// `.name`, `[index]` and `(arguments)` after an operand.
fn postfixes(cursor: &mut Cursor<'_>) -> Result<Vec<Suffix>> {
    let mut suffixes = Vec::new();
    loop {
        let suffix = match cursor.peek() {
            TokenKind::Symbol(".") => attribute(cursor)?,
            TokenKind::Symbol("[") => subscript(cursor)?,
            TokenKind::Symbol("(") => Suffix::Call(arguments(cursor)?),
            _ => return Ok(suffixes),
        };
        suffixes.push(suffix);
    }
}

fn attribute(cursor: &mut Cursor<'_>) -> Result<Suffix> {
    cursor.expect_symbol(".")?;
    if let TokenKind::Int(index) = cursor.peek() {
        cursor.next();
        return Ok(Suffix::Item(Expression::Literal(Value::Int(*index))));
    }
    Ok(Suffix::Attribute(cursor.name()?))
}

fn subscript(cursor: &mut Cursor<'_>) -> Result<Suffix> {
    cursor.expect_symbol("[")?;
    let mut parts = [None, None, None];
    let mut colons = 0;
    while !cursor.take_symbol("]") {
        if cursor.is_symbol(":") && colons < 2 {
            cursor.next();
            colons += 1;
        } else if parts[colons].is_none() {
            parts[colons] = Some(tuple(cursor, expression)?);
        } else {
            return cursor.unexpected("]");
        }
    }
    match parts {
        [Some(index), None, None] if colons == 0 => Ok(Suffix::Item(index)),
        [None, None, None] if colons == 0 => cursor.error("an index expected between [ and ]"),
        parts => Ok(Suffix::Slice(parts)),
    }
}

/// Arguments in parentheses.
pub(crate) fn arguments(cursor: &mut Cursor<'_>) -> Result<ArgumentList> {
    cursor.expect_symbol("(")?;
    let mut arguments = ArgumentList::default();
    while !cursor.take_symbol(")") {
        if cursor.is_symbol("*") || cursor.is_symbol("**") {
            return cursor.error("arguments with * are unsupported");
        }
        if matches!(cursor.peek_second(), TokenKind::Symbol("=")) {
            let name = cursor.name()?;
            cursor.expect_symbol("=")?;
            arguments.named.push((name, expression(cursor)?));
        } else {
            arguments.positional.push(expression(cursor)?);
        }
        if !cursor.take_symbol(",") && !cursor.is_symbol(")") {
            return cursor.unexpected(")");
        }
    }
    Ok(arguments)
}

fn filter_or_test(cursor: &mut Cursor<'_>) -> Result<Option<Suffix>> {
    if cursor.take_symbol("|") {
        return filter(cursor).map(Some);
    }
    if cursor.take_word("is") {
        return test(cursor).map(Some);
    }
    if cursor.is_symbol("(") {
        return Ok(Some(Suffix::Call(arguments(cursor)?)));
    }
    Ok(None)
}

/// A filter after its `|`.
pub(crate) fn filter(cursor: &mut Cursor<'_>) -> Result<Suffix> {
    let name = cursor.name()?;
    let has_arguments = cursor.is_symbol("(");
    let arguments = has_arguments.then(|| arguments(cursor)).transpose()?;
    Ok(Suffix::Filter(name, arguments.unwrap_or_default()))
}

/// A test after its `is`: its argument may stand without parentheses.
fn test(cursor: &mut Cursor<'_>) -> Result<Suffix> {
    let is_negated = cursor.take_word("not");
    let name = cursor.name()?;
    let arguments = match cursor.peek() {
        TokenKind::Symbol("(") => arguments(cursor)?,
        TokenKind::Name(word) if matches!(word.as_str(), "else" | "or" | "and" | "if" | "is") => {
            ArgumentList::default()
        }
        TokenKind::Name(_) | TokenKind::Text(_) | TokenKind::Int(_) | TokenKind::Float(_) => {
            bare_argument(cursor)?
        }
        TokenKind::Symbol("[" | "{") => bare_argument(cursor)?,
        _ => ArgumentList::default(),
    };
    Ok(Suffix::Test { name, arguments, is_negated })
}

fn bare_argument(cursor: &mut Cursor<'_>) -> Result<ArgumentList> {
    let argument = suffixed(primary(cursor)?, postfixes(cursor)?);
    Ok(ArgumentList { positional: vec![argument], named: Vec::new() })
}
