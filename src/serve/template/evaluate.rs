//! Expressions to values.

use super::access;
use super::arguments::Arguments;
use super::error::{Result, TemplateError};
use super::interpreter::Interpreter;
use super::syntax::{ArgumentList, Choice, Comparison, Expression, Suffix};
use super::text::Text;
use super::value::{Object, Value};
use super::{filters, functions, methods, operators, predicates};

impl<'t> Interpreter<'t> {
    /// The value of an expression.
    pub(crate) fn evaluate(&mut self, expression: &'t Expression) -> Result<Value> {
        self.budget.step()?;
        self.budget.enter()?;
        let value = match expression {
            Expression::Literal(value) => Ok(value.clone()),
            Expression::Name(name) => Ok(self.variable(name)),
            Expression::List { items, is_tuple } => {
                let items = self.all(items)?;
                Value::sequence(items, *is_tuple, self.budget)
            }
            Expression::Map(entries) => self.map(entries),
            Expression::Unary(operator, operand) => {
                operators::unary(*operator, &self.evaluate(operand)?)
            }
            Expression::Chain(first, rest) => {
                let mut value = self.evaluate(first)?;
                for (operator, operand) in rest {
                    let operand = self.evaluate(operand)?;
                    value = operators::binary(*operator, &value, &operand, self.budget)?;
                }
                Ok(value)
            }
            Expression::Concat(operands) => {
                let values = self.all(operands)?;
                operators::concat(&values, self.budget).map(Value::Text)
            }
            Expression::And(operands) => self.first_that_is(false, operands),
            Expression::Or(operands) => self.first_that_is(true, operands),
            Expression::Compare(first, rest) => self.compare(first, rest),
            Expression::If(choice) => self.choose(choice),
            Expression::Suffixed(inner, suffixes) => self.suffixed(inner, suffixes),
        };
        self.budget.leave();
        value
    }

    #[inline(never)]
    fn all(&mut self, expressions: &'t [Expression]) -> Result<Vec<Value>> {
        expressions.iter().map(|expression| self.evaluate(expression)).collect()
    }

    fn variable(&self, name: &str) -> Value {
        let known = self.scopes.get(name).or_else(|| self.context.get(name)).cloned();
        let function = || functions::find(name).map(|name| Value::Object(Object::Function(name)));
        known.or_else(function).unwrap_or(Value::Undefined)
    }

    #[inline(never)]
    fn map(&mut self, entries: &'t [(Expression, Expression)]) -> Result<Value> {
        let mut all = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let Value::Text(key) = self.evaluate(key)? else {
                return Err(TemplateError::failed("a key of a dictionary is no text"));
            };
            all.push((key, self.evaluate(value)?));
        }
        Value::map(all, self.budget)
    }

    /// The first operand that counts as `truth`, or else the last one.
    #[inline(never)]
    fn first_that_is(&mut self, truth: bool, operands: &'t [Expression]) -> Result<Value> {
        let mut value = Value::Undefined;
        for operand in operands {
            value = self.evaluate(operand)?;
            if value.is_true() == truth {
                break;
            }
        }
        Ok(value)
    }

    #[inline(never)]
    fn compare(
        &mut self,
        first: &'t Expression,
        rest: &'t [(Comparison, Expression)],
    ) -> Result<Value> {
        let mut left = self.evaluate(first)?;
        for (operator, right) in rest {
            let right = self.evaluate(right)?;
            if !operators::compare(*operator, &left, &right, self.budget)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    #[inline(never)]
    fn choose(&mut self, choice: &'t Choice) -> Result<Value> {
        if self.evaluate(&choice.condition)?.is_true() {
            return self.evaluate(&choice.then);
        }
        match &choice.otherwise {
            Some(otherwise) => self.evaluate(otherwise),
            None => Ok(Value::Undefined),
        }
    }

    #[inline(never)]
    fn suffixed(&mut self, inner: &'t Expression, suffixes: &'t [Suffix]) -> Result<Value> {
        let mut value = self.evaluate(inner)?;
        let mut rest = suffixes.iter();
        while let Some(suffix) = rest.next() {
            self.budget.step()?;
            value = match (suffix, rest.as_slice().first()) {
                (Suffix::Attribute(name), Some(Suffix::Call(arguments))) => {
                    rest.next();
                    let arguments = self.arguments(arguments)?;
                    self.call_method(&value, name, arguments)?
                }
                (suffix, _) => self.suffix(value, suffix)?,
            };
        }
        Ok(value)
    }

    /// A value with something after it.
    #[inline(never)]
    pub(crate) fn suffix(&mut self, value: Value, suffix: &'t Suffix) -> Result<Value> {
        match suffix {
            Suffix::Attribute(name) => self.attribute(&value, name),
            Suffix::Item(index) => match self.evaluate(index)? {
                Value::Text(name) if matches!(value, Value::Object(_)) => {
                    self.attribute(&value, &name)
                }
                index => access::item(&value, &index, self.budget),
            },
            Suffix::Slice(bounds) => {
                let mut places = [None; 3];
                for (place, bound) in places.iter_mut().zip(bounds) {
                    *place = self.bound(bound.as_ref())?;
                }
                access::slice(&value, places, self.budget)
            }
            Suffix::Call(arguments) => {
                let arguments = self.arguments(arguments)?;
                self.call(&value, arguments)
            }
            Suffix::Filter(name, arguments) => {
                let arguments = self.arguments(arguments)?;
                filters::apply(name, value, arguments, self.budget)
            }
            Suffix::Test { name, arguments, is_negated } => {
                let arguments = self.all(&arguments.positional)?;
                Ok(Value::Bool(self.test(name, &value, &arguments)? != *is_negated))
            }
        }
    }

    #[inline(never)]
    fn test(&mut self, name: &str, value: &Value, arguments: &[Value]) -> Result<bool> {
        match (name, value) {
            ("filter" | "test", Value::Text(known)) => Ok(filters::is_known(name, known)),
            _ => predicates::holds(name, value, arguments, self.budget),
        }
    }

    /// The end of a slice: an integer, or nothing.
    #[inline(never)]
    fn bound(&mut self, bound: Option<&'t Expression>) -> Result<Option<i64>> {
        let Some(bound) = bound else { return Ok(None) };
        match self.evaluate(bound)? {
            Value::None => Ok(None),
            value => match value.as_int() {
                Some(number) => Ok(Some(number)),
                None => Err(TemplateError::failed("a slice has integers for its ends")),
            },
        }
    }

    #[inline(never)]
    fn attribute(&self, value: &Value, name: &str) -> Result<Value> {
        Ok(match value {
            Value::Object(Object::Namespace(place)) => {
                self.namespaces[*place].get(name).cloned().unwrap_or(Value::Undefined)
            }
            Value::Object(Object::Loop(place)) => match self.loops.get(*place) {
                Some(repetition) => repetition.attribute(name),
                None => Value::Undefined,
            },
            _ => access::attribute(value, name)?,
        })
    }

    #[inline(never)]
    fn arguments(&mut self, list: &'t ArgumentList) -> Result<Arguments> {
        let positional = self.all(&list.positional)?;
        let named =
            list.named.iter().map(|(name, value)| Ok((name.clone(), self.evaluate(value)?)));
        let named = named.collect::<Result<_>>()?;
        Ok(Arguments { positional, named })
    }

    #[inline(never)]
    fn call_method(&mut self, value: &Value, name: &str, arguments: Arguments) -> Result<Value> {
        match value {
            Value::Object(Object::Loop(place)) if *place < self.loops.len() => {
                self.loops[*place].call(name, arguments, self.budget)
            }
            Value::Object(_) => {
                let method = self.attribute(value, name)?;
                self.call(&method, arguments)
            }
            Value::Undefined => {
                Err(TemplateError::failed(format_args!("{name}() of what is undefined")))
            }
            value => methods::call(value, name, arguments, self.budget),
        }
    }

    #[inline(never)]
    fn call(&mut self, callee: &Value, arguments: Arguments) -> Result<Value> {
        match callee {
            Value::Object(Object::Macro(place)) => self.call_macro(self.macros[*place], arguments),
            Value::Object(Object::Function("namespace")) => self.namespace(arguments),
            Value::Object(Object::Function(name)) => {
                functions::call(name, arguments, self.context.now, self.budget)
            }
            other => Err(TemplateError::failed(format_args!("{} is no function", other.kind()))),
        }
    }

    #[inline(never)]
    fn namespace(&mut self, arguments: Arguments) -> Result<Value> {
        let entries = functions::entries(arguments)?;
        let bytes: usize = entries.iter().map(|(key, _)| key.len() + 2 * size_of::<Text>()).sum();
        self.budget.take(bytes + size_of::<Value>())?;
        let entries = entries.into_iter().map(|(key, value)| (key.to_string(), value));
        self.namespaces.push(entries.collect());
        Ok(Value::Object(Object::Namespace(self.namespaces.len() - 1)))
    }
}
