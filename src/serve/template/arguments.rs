//! What a function, filter, test or method is called with.

use super::error::{Result, TemplateError};
use super::text::Text;
use super::value::Value;

/// Values by place, then by name.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) positional: Vec<Value>,
    pub(crate) named: Vec<(String, Value)>,
}

impl Arguments {
    /// Takes the value of this name out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.named.iter().position(|(known, _)| known == name)?;
        Some(self.named.swap_remove(at).1)
    }

    /// The values of these parameters of `what`, in their order.
    pub(crate) fn bind<const N: usize>(
        self,
        what: &str,
        parameters: [&str; N],
    ) -> Result<Bound<N>> {
        let given = self.positional.len();
        if given > N {
            let message = format_args!("{what} takes {N} arguments at most, not {given}");
            return Err(TemplateError::failed(message));
        }
        let mut values = [const { None }; N];
        for (place, value) in values.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            let Some(place) = parameters.iter().position(|parameter| *parameter == name) else {
                return Err(TemplateError::failed(format_args!("{what} has no argument {name}")));
            };
            values[place] = Some(value);
        }
        Ok(Bound { what: what.into(), parameters: parameters.map(String::from), values })
    }
}

/// Values by the parameters that they are for.
pub(crate) struct Bound<const N: usize> {
    what: String,
    parameters: [String; N],
    values: [Option<Value>; N],
}

impl<const N: usize> Bound<N> {
    fn expected<T>(&self, index: usize, expected: &str) -> Result<T> {
        let (what, parameter) = (&self.what, &self.parameters[index]);
        let found = self.values[index].as_ref().map_or("nothing", Value::kind);
        let message = format_args!("{what}: {parameter} is {expected}, not {found}");
        Err(TemplateError::failed(message))
    }

    /// A value, or `None` where none is given.
    pub(crate) fn get(&self, index: usize) -> Option<&Value> {
        self.values[index].as_ref()
    }

    /// A value that has to be given.
    pub(crate) fn need(&self, index: usize) -> Result<&Value> {
        match &self.values[index] {
            Some(value) => Ok(value),
            None => self.expected(index, "needed"),
        }
    }

    /// A text that has to be given.
    pub(crate) fn need_text(&self, index: usize) -> Result<&Text> {
        match self.text(index)? {
            Some(text) => Ok(text),
            None => self.expected(index, "a text"),
        }
    }

    /// A text, or `None` where none or Python's `None` is given.
    pub(crate) fn text(&self, index: usize) -> Result<Option<&Text>> {
        match &self.values[index] {
            None | Some(Value::None) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => self.expected(index, "a text"),
        }
    }

    /// An integer, or `None` where none or Python's `None` is given.
    pub(crate) fn int(&self, index: usize) -> Result<Option<i64>> {
        match &self.values[index] {
            None | Some(Value::None) => Ok(None),
            Some(value) => match value.as_int() {
                Some(number) => Ok(Some(number)),
                None => self.expected(index, "an integer"),
            },
        }
    }

    /// Whether it is true; not, where none is given.
    pub(crate) fn is_true(&self, index: usize) -> bool {
        self.values[index].as_ref().is_some_and(Value::is_true)
    }
}
