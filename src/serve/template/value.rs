//! What expressions have for values.

use super::budget::Budget;
use super::error::{Result, TemplateError};
use super::text::Text;
use std::collections::HashMap;
use std::sync::Arc;

/// A value of a template: what Python has for JSON's, and what only templates have.
///
/// Lists and dictionaries never change, so that none holds itself, and each knows how deep and how large it is:
/// whoever walks through one can rely on that.
#[derive(Clone, Debug)]
pub enum Value {
    /// What nobody defined.
    Undefined,
    /// Python's `None`.
    None,
    /// Python's `True` or `False`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(Text),
    /// A list or a tuple.
    List(Arc<List>),
    /// A dictionary.
    Map(Arc<Map>),
    /// What lives only while the template renders.
    Object(Object),
}

/// What lives only while a template renders, by its place there: none of it holds another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// What `namespace()` made.
    Namespace(usize),
    /// A macro.
    Macro(usize),
    /// The `loop` of a `for`.
    Loop(usize),
    /// A function that all templates have.
    Function(&'static str),
}

/// A list or a tuple.
#[derive(Debug)]
pub struct List {
    items: Vec<Value>,
    is_tuple: bool,
    extent: Extent,
}

/// A dictionary in the order in which it was written.
#[derive(Debug)]
pub struct Map {
    entries: Vec<(Text, Value)>,
    places: HashMap<Arc<str>, usize>,
    extent: Extent,
}

/// How deep a value nests, and how many bytes it would have if nothing in it were shared.
#[derive(Clone, Copy, Debug)]
struct Extent {
    depth: usize,
    bytes: usize,
}

impl Extent {
    fn of<'v>(values: impl Iterator<Item = &'v Value>) -> Extent {
        let zero = Extent { depth: 0, bytes: size_of::<List>() };
        let inner = values.map(Value::extent).fold(zero, |sum, one| Extent {
            depth: sum.depth.max(one.depth),
            bytes: sum.bytes.saturating_add(one.bytes),
        });
        Extent { depth: inner.depth + 1, ..inner }
    }

    /// Pays for `count` entries, and refuses what is too deep or too large to be walked through.
    fn pay(self, count: usize, budget: &Budget) -> Result<()> {
        budget.check_depth(self.depth)?;
        budget.check_size(self.bytes)?;
        budget.take(size_of::<Map>() + count * size_of::<(Text, Value)>())
    }
}

impl Value {
    /// A list.
    pub(crate) fn list(items: Vec<Value>, budget: &Budget) -> Result<Value> {
        Value::sequence(items, false, budget)
    }

    /// A list or a tuple.
    pub(crate) fn sequence(items: Vec<Value>, is_tuple: bool, budget: &Budget) -> Result<Value> {
        let list = List::new(items, is_tuple);
        list.extent.pay(list.items.len(), budget)?;
        Ok(Value::List(Arc::new(list)))
    }

    /// A dictionary. Where a key comes twice, the last value is at the first one's place.
    pub(crate) fn map(entries: Vec<(Text, Value)>, budget: &Budget) -> Result<Value> {
        let map = Map::new(entries);
        map.extent.pay(2 * map.entries.len(), budget)?;
        Ok(Value::Map(Arc::new(map)))
    }

    /// A text that the template wrote.
    pub(crate) fn text(text: &str) -> Value {
        Value::Text(Text::trusted(text))
    }

    fn extent(&self) -> Extent {
        match self {
            Value::Text(text) => Extent { depth: 0, bytes: size_of::<Value>() + text.len() },
            Value::List(list) => list.extent,
            Value::Map(map) => map.extent,
            _ => Extent { depth: 0, bytes: size_of::<Value>() },
        }
    }

    /// How many bytes it would have if nothing in it were shared.
    pub(crate) fn bytes(&self) -> usize {
        self.extent().bytes
    }

    /// How deep it nests.
    pub(crate) fn depth(&self) -> usize {
        self.extent().depth
    }

    /// What Python calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Undefined => "undefined",
            Value::None => "None",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::List(list) if list.is_tuple => "tuple",
            Value::List(_) => "list",
            Value::Map(_) => "dict",
            Value::Object(Object::Namespace(_)) => "namespace",
            Value::Object(Object::Loop(_)) => "loop",
            Value::Object(_) => "function",
        }
    }

    /// Whether it counts as true.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Value::Undefined | Value::None => false,
            Value::Bool(truth) => *truth,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            Value::Object(_) => true,
        }
    }

    /// The number as one with a fraction, `True` being 1.
    pub(crate) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(number) => Some(*number),
            _ => self.as_int().map(|number| number as f64),
        }
    }

    /// The integer, `True` being 1.
    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Bool(truth) => Some(i64::from(*truth)),
            _ => None,
        }
    }

    /// What a loop goes over: items, keys or characters.
    pub(crate) fn items(&self, budget: &Budget) -> Result<Vec<Value>> {
        let count = match self {
            Value::List(list) => list.items.len(),
            Value::Map(map) => map.entries.len(),
            Value::Text(text) => text.len(),
            _ => 0,
        };
        budget.take(count * size_of::<Value>())?;
        match self {
            Value::Undefined => Ok(Vec::new()),
            Value::List(list) => Ok(list.items.clone()),
            Value::Map(map) => {
                Ok(map.entries.iter().map(|(key, _)| Value::Text(key.clone())).collect())
            }
            Value::Text(text) => {
                let ranges = text.char_indices().map(|(at, c)| at..at + c.len_utf8());
                ranges.map(|range| text.slice(range, budget).map(Value::Text)).collect()
            }
            other => Err(TemplateError::failed(format_args!("{} has no items", other.kind()))),
        }
    }
}

impl List {
    /// A list that is not paid for.
    pub(crate) fn new(items: Vec<Value>, is_tuple: bool) -> List {
        let extent = Extent::of(items.iter());
        List { items, is_tuple, extent }
    }

    pub(crate) fn items(&self) -> &[Value] {
        &self.items
    }

    pub(crate) fn is_tuple(&self) -> bool {
        self.is_tuple
    }
}

impl Map {
    /// A dictionary that is not paid for.
    pub(crate) fn new(all: Vec<(Text, Value)>) -> Map {
        let mut entries: Vec<(Text, Value)> = Vec::with_capacity(all.len());
        let mut places = HashMap::with_capacity(all.len());
        for (key, value) in all {
            let place = *places.entry(key.shared()).or_insert(entries.len());
            match entries.get_mut(place) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        let values = Extent::of(entries.iter().map(|(_, value)| value));
        let keys: usize = entries.iter().map(|(key, _)| size_of::<Text>() + key.len()).sum();
        let extent = Extent { bytes: values.bytes.saturating_add(keys), ..values };
        Map { entries, places, extent }
    }

    pub(crate) fn entries(&self) -> &[(Text, Value)] {
        &self.entries
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.places.get(key).map(|&place| &self.entries[place].1)
    }
}
