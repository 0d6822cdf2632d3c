//! How two files differ.

use super::value::{Change, First, change, shown};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::making::with_progress;
use crate::report::print;
use crate::screen::line;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use wick_format::{GgmlType, Gguf, Model, Tensor};
use wick_linux::host::Files;
use wick_linux::{Cpus, Pool};
use wick_prepare::{Comparison, compare};

/// Bytes of the second file that stay in memory, about.
const HELD: usize = 16 << 20;

/// All that differs.
#[derive(Serialize)]
struct Differences {
    a: String,
    b: String,
    keys: Part<Key, KeyChange>,
    tensors: Part<Form, TensorChange>,
    differences: usize,
    same: bool,
}

/// What only one of them has, and what both have, but otherwise.
#[derive(Serialize)]
struct Part<T, C> {
    only_a: Vec<T>,
    only_b: Vec<T>,
    different: Vec<C>,
}

#[derive(Serialize)]
struct Key {
    key: String,
    value: String,
}

#[derive(Serialize)]
struct KeyChange {
    key: String,
    #[serde(flatten)]
    change: Change,
}

#[derive(Serialize)]
struct Form {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    shape: Vec<usize>,
}

#[derive(Serialize)]
struct TensorChange {
    a: Form,
    b: Form,
    /// Bytes that differ, of types that are no weights.
    differing_bytes: Option<u64>,
    weights: Option<Weights>,
}

/// How far weights are apart.
#[derive(Serialize)]
struct Weights {
    all: u64,
    differing: u64,
    largest: f64,
    /// Root mean square of differences, as a share of that of `a`.
    relative: Option<f64>,
}

/// A tensor of the first file, and that of its name in the second.
type Pair<'m, 'n> = (Tensor<'m>, Tensor<'n>);

/// Shows how `b` differs from `a`.
pub(super) fn show(a: &Files, b: &Files, json: bool, interrupt: &Interrupt) -> Result<(), Failure> {
    let (x, y) = (a.parse()?, b.parse()?);
    let keys = keys(&x[0], &y[0]);
    let tensors = tensors(a, b, &x, &y, interrupt)?;
    let differences = keys.len() + tensors.len();
    let (a, b) = (a.name().into(), b.name().into());
    let all = Differences { a, b, keys, tensors, differences, same: differences == 0 };
    print(&all, json, |all, out| all.write(out))
}

impl<T, C> Part<T, C> {
    fn len(&self) -> usize {
        self.only_a.len() + self.only_b.len() + self.different.len()
    }
}

fn keys(a: &Gguf<'_>, b: &Gguf<'_>) -> Part<Key, KeyChange> {
    let of_b: BTreeMap<_, _> = b.entries().map(|entry| (entry.key, entry.value)).collect();
    let different = a.entries().filter_map(|entry| {
        let change = change(&entry.value, of_b.get(entry.key)?)?;
        Some(KeyChange { key: entry.key.to_owned(), change })
    });
    Part { different: different.collect(), only_a: only_keys(a, b), only_b: only_keys(b, a) }
}

/// Keys that the other file has not.
fn only_keys(a: &Gguf<'_>, other: &Gguf<'_>) -> Vec<Key> {
    let known: BTreeSet<&str> = other.entries().map(|entry| entry.key).collect();
    let only = a.entries().filter(|entry| !known.contains(entry.key));
    only.map(|entry| Key { key: entry.key.to_owned(), value: shown(&entry.value) }).collect()
}

fn tensors<'m>(
    a: &'m Files,
    b: &Files,
    x: &[Gguf<'m>],
    y: &[Gguf<'_>],
    interrupt: &Interrupt,
) -> Result<Part<Form, TensorChange>, Failure> {
    let of_b: BTreeMap<_, _> = all(y).map(|tensor| (tensor.name(), tensor)).collect();
    // In the order in which they are read best.
    let pairs = all(x).filter_map(|tensor| Some((tensor, *of_b.get(tensor.name())?)));
    let pairs: Vec<Pair<'_, '_>> = pairs.collect();
    let as_weights = !is_packed(x) && !is_packed(y);
    let different = different(a, b, &pairs, as_weights, interrupt)?;
    Ok(Part { only_a: only_tensors(x, y), only_b: only_tensors(y, x), different })
}

/// Tensors that the other file has not.
fn only_tensors(a: &[Gguf<'_>], other: &[Gguf<'_>]) -> Vec<Form> {
    let known: BTreeSet<&str> = all(other).map(|tensor| tensor.name()).collect();
    all(a).filter(|tensor| !known.contains(tensor.name())).map(|tensor| Form::of(&tensor)).collect()
}

fn all<'m>(parts: &[Gguf<'m>]) -> impl Iterator<Item = Tensor<'m>> {
    parts.iter().flat_map(Gguf::tensors)
}

/// Whether the bytes of tensors are in the order of kernels.
fn is_packed(parts: &[Gguf<'_>]) -> bool {
    Model::new(parts).is_ok_and(|model| model.packed().is_some())
}

fn different<'m>(
    a: &'m Files,
    b: &Files,
    pairs: &[Pair<'m, '_>],
    as_weights: bool,
    interrupt: &Interrupt,
) -> Result<Vec<TensorChange>, Failure> {
    let cpus = Cpus::detect();
    let pool = Pool::new(cpus.threads(), &cpus);
    let bytes = pairs.iter().filter_map(|(a, _)| a.bytes()).map(|bytes| bytes.len() as u64).sum();
    let changes = with_progress("comparing", a, bytes, interrupt, |done| {
        let (mut changes, mut held) = (Vec::new(), 0);
        for (x, y) in pairs {
            if x.dims() != y.dims() {
                changes.push(TensorChange::of(x, y, Comparison::Nothing));
                continue;
            }
            let comparison = compare(x, y, as_weights, &pool, |bytes| {
                held += bytes.len();
                if held > HELD {
                    b.release();
                    held = 0;
                }
                done(bytes)
            })?;
            let is_same = comparison == Comparison::Same;
            changes.extend((!is_same).then(|| TensorChange::of(x, y, comparison)));
        }
        Ok(changes)
    })?;
    b.check()?;
    Ok(changes)
}

impl Form {
    fn of(tensor: &Tensor<'_>) -> Form {
        Form {
            name: tensor.name().into(),
            kind: GgmlType(tensor.number()).to_string(),
            shape: tensor.dims().as_slice().into(),
        }
    }

    /// What stands behind the name.
    fn text(&self) -> String {
        format!("{} {:?}", self.kind, self.shape)
    }
}

impl TensorChange {
    fn of(a: &Tensor<'_>, b: &Tensor<'_>, comparison: Comparison) -> TensorChange {
        let (differing_bytes, weights) = match comparison {
            Comparison::Bytes { differing } => (Some(differing), None),
            Comparison::Weights(deviation) => (None, Some(deviation)),
            Comparison::Same | Comparison::Nothing => (None, None),
        };
        let weights = weights.map(|deviation| Weights {
            all: deviation.weights,
            differing: deviation.differing,
            largest: deviation.largest,
            relative: deviation.relative(),
        });
        TensorChange { a: Form::of(a), b: Form::of(b), differing_bytes, weights }
    }

    fn text(&self) -> String {
        let (name, a, b) = (line(&self.a.name), self.a.text(), self.b.text());
        let both = if a == b { a } else { format!("{a}, in b {b}") };
        let apart = match (&self.weights, self.differing_bytes) {
            (Some(weights), _) => format!("; {}", weights.text()),
            (None, Some(bytes)) => format!("; {bytes} bytes differ"),
            (None, None) => String::new(),
        };
        format!("{name}: {both}{apart}")
    }
}

impl Weights {
    fn text(&self) -> String {
        let Weights { all, differing, largest, relative } = self;
        let rms = relative.map(|relative| format!(", {:.3} % in RMS", 100.0 * relative));
        match differing {
            0 => format!("all {all} weights are the same"),
            _ => {
                let rms = rms.unwrap_or_default();
                format!("{differing} of {all} weights differ, by {largest:.3e} at most{rms}")
            }
        }
    }
}

impl KeyChange {
    fn text(&self) -> String {
        let (key, Change { a, b, differing, first }) = (line(&self.key), &self.change);
        let entry = |entry: &Option<String>| entry.clone().unwrap_or_else(|| "nothing".into());
        let Some(First { at, a: first_a, b: first_b }) = first else {
            return format!("{key}: {a}, in b {b}");
        };
        let (first_a, first_b) = (entry(first_a), entry(first_b));
        let place = match differing {
            Some(1) => format!("1 entry differs, {at}"),
            Some(count) => format!("{count} entries differ, first {at}"),
            None => format!("differs from byte {at} on"),
        };
        format!("{key}: {a}, in b {b}; {place}: {first_a}, in b {first_b}")
    }
}

impl Differences {
    /// The differences for people, one a line; the last line counts them.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "a           {}", line(&self.a))?;
        writeln!(out, "b           {}", line(&self.b))?;
        let Differences { keys, tensors, .. } = self;
        for (file, keys) in [("a", &keys.only_a), ("b", &keys.only_b)] {
            for Key { key, value } in keys {
                writeln!(out, "key         only in {file}: {} = {value}", line(key))?;
            }
        }
        keys.different.iter().try_for_each(|key| writeln!(out, "key         {}", key.text()))?;
        for (file, tensors) in [("a", &tensors.only_a), ("b", &tensors.only_b)] {
            for form in tensors {
                let (name, form) = (line(&form.name), form.text());
                writeln!(out, "tensor      only in {file}: {name}: {form}")?;
            }
        }
        let mut different = tensors.different.iter();
        different.try_for_each(|tensor| writeln!(out, "tensor      {}", tensor.text()))?;
        match self.differences {
            0 => writeln!(out, "same"),
            1 => writeln!(out, "1 difference"),
            count => writeln!(out, "{count} differences"),
        }
    }
}
