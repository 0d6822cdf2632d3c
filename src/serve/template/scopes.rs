//! Which names are known where.

use super::value::Value;
use std::collections::HashMap;

/// Variables of the template: a frame for the template, one for each block inside of it that keeps its names to itself.
pub(crate) struct Scopes<'t> {
    frames: Vec<HashMap<&'t str, Value>>,
    /// The first frame that is seen beside that of the template: a macro sees none of its caller's.
    base: usize,
}

impl<'t> Scopes<'t> {
    pub(crate) fn new() -> Scopes<'t> {
        Scopes { frames: vec![HashMap::new()], base: 0 }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        let inner = self.frames[self.base..].iter().rev().find_map(|frame| frame.get(name));
        inner.or_else(|| self.frames[0].get(name))
    }

    /// Sets a variable in the innermost frame.
    pub(crate) fn set(&mut self, name: &'t str, value: Value) {
        if let Some(frame) = self.frames.last_mut() {
            frame.insert(name, value);
        }
    }

    pub(crate) fn push(&mut self) {
        self.frames.push(HashMap::new());
    }

    pub(crate) fn pop(&mut self) {
        self.frames.pop();
    }

    /// Forgets what the innermost frame has.
    pub(crate) fn clear(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.clear();
        }
    }

    /// A frame from which the others are not seen; what has to be given back to [`Scopes::end_call`].
    pub(crate) fn begin_call(&mut self) -> usize {
        self.push();
        std::mem::replace(&mut self.base, self.frames.len() - 1)
    }

    pub(crate) fn end_call(&mut self, base: usize) {
        self.pop();
        self.base = base;
    }
}
