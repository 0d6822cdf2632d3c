//! What a template has while it renders.

use super::budget::Budget;
use super::context::Context;
use super::error::{Result, TemplateError};
use super::repetition::Repetition;
use super::scopes::Scopes;
use super::syntax::{Macro, Target};
use super::text::Builder;
use super::value::{Object, Value};
use std::collections::BTreeMap;

/// Whether the statements of a loop go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Next,
    Break,
    Continue,
}

/// A template on its way through a conversation. Expressions and statements, which need one another, are methods of it
/// in files of their own. Those that may call themselves again are never inlined: each frame would have room for all
/// that any of them needs.
pub(crate) struct Interpreter<'t> {
    pub(crate) budget: &'t Budget,
    pub(crate) context: &'t Context,
    pub(crate) scopes: Scopes<'t>,
    pub(crate) macros: Vec<&'t Macro>,
    /// Values have namespaces by their place here, so that none can hold itself.
    pub(crate) namespaces: Vec<BTreeMap<String, Value>>,
    pub(crate) loops: Vec<Repetition>,
    /// What is written to: the prompt, or a text that a block makes.
    pub(crate) out: Builder<'t>,
}

impl<'t> Interpreter<'t> {
    pub(crate) fn new(context: &'t Context, budget: &'t Budget) -> Interpreter<'t> {
        Interpreter {
            budget,
            context,
            scopes: Scopes::new(),
            macros: Vec::new(),
            namespaces: Vec::new(),
            loops: Vec::new(),
            out: Builder::output(budget),
        }
    }

    /// Assigns to a name, an attribute of a namespace, or several.
    #[inline(never)]
    pub(crate) fn assign(&mut self, target: &'t Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => {
                self.budget.take(size_of::<Value>())?;
                self.scopes.set(name, value);
                Ok(())
            }
            Target::Attribute(name, attribute) => {
                let Some(Value::Object(Object::Namespace(place))) = self.scopes.get(name) else {
                    return Err(TemplateError::failed(format_args!("{name} is no namespace")));
                };
                self.budget.take(attribute.len() + size_of::<Value>())?;
                self.namespaces[*place].insert(attribute.clone(), value);
                Ok(())
            }
            Target::Several(targets) => {
                let values = value.items(self.budget)?;
                if values.len() != targets.len() {
                    let (expected, found) = (targets.len(), values.len());
                    let message = format_args!("{expected} values expected, {found} found");
                    return Err(TemplateError::failed(message));
                }
                targets
                    .iter()
                    .zip(values)
                    .try_for_each(|(target, value)| self.assign(target, value))
            }
        }
    }
}
