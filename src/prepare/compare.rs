//! How far the weights of two files are apart.

use crate::Error;
use crate::ordered::{break_off, in_order};
use std::ops::{ControlFlow, Range};
use wick_core::Parallel;
use wick_format::Tensor;
use wick_kernels::{Format, scalar};

/// Bytes that are compared at a time.
const PIECE: usize = 1 << 20;
/// Weights that a thread expands at a time: whole blocks of any format.
const CHUNK: usize = 1 << 18;

/// What two tensors of one shape have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Comparison {
    /// Type and bytes.
    Same,
    /// Weights that can be told, whether they differ or not.
    Weights(Deviation),
    /// The type, but not so many bytes, which are no weights that can be told.
    Bytes {
        /// How many differ.
        differing: u64,
    },
    /// Neither the type nor weights that can be told.
    Nothing,
}

/// How far weights are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deviation {
    /// How many there are.
    pub weights: u64,
    /// How many differ.
    pub differing: u64,
    /// The largest difference; that to a NaN is none.
    pub largest: f64,
    /// Sum of the squares of differences, and of the first one's weights.
    squares: [f64; 2],
}

impl Deviation {
    /// The root mean square of differences as a share of that of the first one's weights; `None` if those are all zero, or
    /// one is not finite.
    pub fn relative(&self) -> Option<f64> {
        let [differences, weights] = self.squares;
        let relative = (differences / weights).sqrt();
        relative.is_finite().then_some(relative)
    }

    fn add(&mut self, a: &[f32], b: &[f32]) {
        self.weights += a.len() as u64;
        for (&a, &b) in a.iter().zip(b) {
            let difference = f64::from(a) - f64::from(b);
            let is_same = a == b || a.is_nan() && b.is_nan();
            self.squares[1] += f64::from(a) * f64::from(a);
            if !is_same {
                self.differing += 1;
                self.largest = self.largest.max(difference.abs());
                self.squares[0] += difference * difference;
            }
        }
    }

    fn join(self, other: Deviation) -> Deviation {
        Deviation {
            weights: self.weights + other.weights,
            differing: self.differing + other.differing,
            largest: self.largest.max(other.largest),
            squares: [0, 1].map(|i| self.squares[i] + other.squares[i]),
        }
    }
}

/// Compares two tensors of one shape: their bytes if they have one type, and then what weights they are, unless bytes
/// are not to be taken for weights in the order of a file (`as_weights`). Several threads expand a few blocks at a time, with
/// the same sums however many they are. `done` is told which bytes of the first are not needed any more, each once, and may
/// break off.
///
/// # Errors
/// Comparing was broken off.
pub fn compare<'m>(
    a: &Tensor<'m>,
    b: &Tensor<'_>,
    as_weights: bool,
    parallel: &dyn Parallel,
    mut done: impl FnMut(&'m [u8]) -> ControlFlow<()>,
) -> Result<Comparison, Error> {
    let (Some(x), Some(y)) = (a.bytes(), b.bytes()) else { return Ok(Comparison::Nothing) };
    let is_one_type = a.number() == b.number() && x.len() == y.len();
    let mut same = 0;
    if is_one_type {
        same = same_bytes(x, y, &mut done)?;
        if same == x.len() {
            return Ok(Comparison::Same);
        }
    }
    let formats = a.format().zip(b.format()).filter(|_| as_weights && a.dims() == b.dims());
    match formats {
        Some((from, to)) => {
            let pair = Pair { a: (from, x), b: (to, y), weights: a.dims().elements() };
            pair.compare(same, parallel, done).map(Comparison::Weights)
        }
        None if is_one_type => {
            let differing = differing_bytes(&x[same..], &y[same..], done)?;
            Ok(Comparison::Bytes { differing })
        }
        None => Ok(Comparison::Nothing),
    }
}

/// How many bytes from the start on are the same, in whole pieces.
fn same_bytes<'m>(
    x: &'m [u8],
    y: &[u8],
    mut done: impl FnMut(&'m [u8]) -> ControlFlow<()>,
) -> Result<usize, Error> {
    let mut same = 0;
    for (x, y) in x.chunks(PIECE).zip(y.chunks(PIECE)) {
        if x != y {
            break;
        }
        same += x.len();
        break_off(done(x))?;
    }
    Ok(same)
}

fn differing_bytes<'m>(
    x: &'m [u8],
    y: &[u8],
    mut done: impl FnMut(&'m [u8]) -> ControlFlow<()>,
) -> Result<u64, Error> {
    let mut differing = 0;
    for (x, y) in x.chunks(PIECE).zip(y.chunks(PIECE)) {
        differing += x.iter().zip(y).filter(|(x, y)| x != y).count() as u64;
        break_off(done(x))?;
    }
    Ok(differing)
}

/// Two tensors' formats and bytes.
struct Pair<'m, 'n> {
    a: (Format, &'m [u8]),
    b: (Format, &'n [u8]),
    weights: usize,
}

impl<'m> Pair<'m, '_> {
    /// Compares weights; `done` knows the first bytes, `told` of them, already.
    fn compare(
        &self,
        told: usize,
        parallel: &dyn Parallel,
        mut done: impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<Deviation, Error> {
        let starts: Vec<usize> = (0..self.weights).step_by(CHUNK).collect();
        let mut all = Deviation::default();
        for round in starts.chunks(parallel.threads()) {
            let chunk = |i: usize| round[i]..(round[i] + CHUNK).min(self.weights);
            let found = in_order(parallel, round.len(), |i| self.deviation(chunk(i)));
            for (i, found) in found.into_iter().enumerate() {
                all = all.join(found);
                let Range { start, end } = bytes_of(self.a.0, chunk(i));
                break_off(done(&self.a.1[start.max(told).min(end)..end]))?;
            }
        }
        Ok(all)
    }

    /// How far some weights are apart.
    fn deviation(&self, weights: Range<usize>) -> Deviation {
        let expand = |(format, bytes): (Format, &[u8])| {
            let mut out = vec![0.0; weights.len()];
            scalar::dequantize(format, &bytes[bytes_of(format, weights.clone())], &mut out);
            out
        };
        let mut deviation = Deviation::default();
        deviation.add(&expand(self.a), &expand(self.b));
        deviation
    }
}

/// The bytes of weights that are whole blocks: rows are, so that a tensor is nothing but blocks.
fn bytes_of(format: Format, weights: Range<usize>) -> Range<usize> {
    let at = |weight: usize| weight / format.block_len() * format.block_bytes();
    at(weights.start)..at(weights.end)
}
