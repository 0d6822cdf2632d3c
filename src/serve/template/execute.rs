//! Statements to text.

use super::arguments::Arguments;
use super::error::{Result, TemplateError};
use super::interpreter::{Flow, Interpreter};
use super::repetition::Repetition;
use super::show;
use super::syntax::{Body, Expression, For, Macro, Statement, StatementKind, Suffix, Target};
use super::text::Builder;
use super::value::{Object, Value};

impl<'t> Interpreter<'t> {
    /// Renders statements, one after the other.
    pub(crate) fn execute(&mut self, body: &'t Body) -> Result<Flow> {
        self.budget.enter()?;
        for statement in body {
            self.budget.step()?;
            let flow = self.statement(statement).map_err(|error| error.at(statement.line))?;
            if flow != Flow::Next {
                self.budget.leave();
                return Ok(flow);
            }
        }
        self.budget.leave();
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &'t Statement) -> Result<Flow> {
        match &statement.kind {
            StatementKind::Data(text) => self.out.push(text)?,
            StatementKind::Print(printed) => {
                let value = self.evaluate(printed)?;
                show::write(&value, &mut self.out)?;
            }
            StatementKind::If { branches, otherwise } => return self.branch(branches, otherwise),
            StatementKind::For(repeated) => return self.repeat(repeated),
            StatementKind::Set { target, value } => {
                let value = self.evaluate(value)?;
                self.assign(target, value)?;
            }
            StatementKind::SetBlock { target, filters, body } => {
                let (text, flow) = self.captured(body, filters)?;
                self.assign(target, text)?;
                return Ok(flow);
            }
            StatementKind::Macro(definition) => self.define(definition)?,
            StatementKind::Filter { filters, body } => {
                let (text, flow) = self.captured(body, filters)?;
                show::write(&text, &mut self.out)?;
                return Ok(flow);
            }
            StatementKind::With { targets, body } => return self.with(targets, body),
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    #[inline(never)]
    fn branch(&mut self, branches: &'t [(Expression, Body)], otherwise: &'t Body) -> Result<Flow> {
        for (condition, body) in branches {
            if self.evaluate(condition)?.is_true() {
                return self.execute(body);
            }
        }
        self.execute(otherwise)
    }

    #[inline(never)]
    fn repeat(&mut self, repeated: &'t For) -> Result<Flow> {
        let over = self.evaluate(&repeated.over)?;
        let mut items = over.items(self.budget)?;
        self.scopes.push();
        if let Some(only) = &repeated.only {
            items = self.kept(items, &repeated.target, only)?;
        }
        let flow = match items.is_empty() {
            true => self.execute(&repeated.otherwise),
            false => self.each(items, repeated).map(|()| Flow::Next),
        };
        self.scopes.pop();
        flow
    }

    /// Those of the items for which a condition holds.
    #[inline(never)]
    fn kept(
        &mut self,
        items: Vec<Value>,
        target: &'t Target,
        only: &'t Expression,
    ) -> Result<Vec<Value>> {
        let mut kept = Vec::new();
        for item in items {
            self.assign(target, item.clone())?;
            if self.evaluate(only)?.is_true() {
                kept.push(item);
            }
        }
        Ok(kept)
    }

    #[inline(never)]
    fn each(&mut self, items: Vec<Value>, repeated: &'t For) -> Result<()> {
        let (count, place) = (items.len(), self.loops.len());
        self.loops.push(Repetition::new(items));
        for index in 0..count {
            self.budget.step()?;
            self.loops[place].index = index;
            let item = self.loops[place].items[index].clone();
            self.scopes.clear();
            self.scopes.set("loop", Value::Object(Object::Loop(place)));
            self.assign(&repeated.target, item)?;
            if self.execute(&repeated.body)? == Flow::Break {
                break;
            }
        }
        self.loops.pop();
        Ok(())
    }

    /// What a body writes, after filters.
    #[inline(never)]
    fn captured(&mut self, body: &'t Body, filters: &'t [Suffix]) -> Result<(Value, Flow)> {
        let outer = std::mem::replace(&mut self.out, Builder::new(self.budget));
        self.scopes.push();
        let flow = self.execute(body)?;
        self.scopes.pop();
        let written = std::mem::replace(&mut self.out, outer);
        let mut value = Value::Text(written.finish()?);
        for filter in filters {
            value = self.suffix(value, filter)?;
        }
        Ok((value, flow))
    }

    #[inline(never)]
    fn define(&mut self, definition: &'t Macro) -> Result<()> {
        self.budget.take(size_of::<Value>())?;
        self.macros.push(definition);
        let defined = Value::Object(Object::Macro(self.macros.len() - 1));
        self.scopes.set(&definition.name, defined);
        Ok(())
    }

    #[inline(never)]
    fn with(&mut self, targets: &'t [(Target, Expression)], body: &'t Body) -> Result<Flow> {
        let mut values = Vec::with_capacity(targets.len());
        for (target, value) in targets {
            values.push((target, self.evaluate(value)?));
        }
        self.scopes.push();
        for (target, value) in values {
            self.assign(target, value)?;
        }
        let flow = self.execute(body);
        self.scopes.pop();
        flow
    }

    /// What a macro writes.
    #[inline(never)]
    pub(crate) fn call_macro(&mut self, called: &'t Macro, arguments: Arguments) -> Result<Value> {
        self.budget.enter()?;
        let outer = std::mem::replace(&mut self.out, Builder::new(self.budget));
        let base = self.scopes.begin_call();
        self.pass(called, arguments)?;
        self.execute(&called.body)?;
        self.scopes.end_call(base);
        self.budget.leave();
        let written = std::mem::replace(&mut self.out, outer);
        written.finish().map(Value::Text)
    }

    /// Sets a macro's parameters.
    #[inline(never)]
    fn pass(&mut self, called: &'t Macro, arguments: Arguments) -> Result<()> {
        let (name, parameters) = (&called.name, &called.parameters);
        let (given, most) = (arguments.positional.len(), parameters.len());
        if given > most {
            let message = format_args!("{name} takes {most} arguments at most, not {given}");
            return Err(TemplateError::failed(message));
        }
        let mut positional = arguments.positional.into_iter();
        let mut named = arguments.named;
        for (parameter, default) in parameters {
            let by_name = named.iter().position(|(known, _)| known == parameter);
            let value = match (positional.next(), by_name, default) {
                (Some(value), ..) => value,
                (None, Some(at), _) => named.swap_remove(at).1,
                (None, None, Some(default)) => self.evaluate(default)?,
                (None, None, None) => Value::Undefined,
            };
            self.scopes.set(parameter, value);
        }
        match named.first() {
            Some((unknown, _)) => {
                Err(TemplateError::failed(format_args!("{name} has no parameter {unknown}")))
            }
            None => Ok(()),
        }
    }
}
