//! Texts as vectors.

use alloc::vec;
use alloc::vec::Vec;

/// The mean of the hidden states of a text, as it is read.
#[derive(Debug, Default)]
pub(crate) struct Embedding {
    sum: Vec<f64>,
    tokens: usize,
    /// A hidden state.
    row: Vec<f32>,
}

impl Embedding {
    /// Of states of so many values.
    pub(crate) fn with_room(hidden: usize) -> Embedding {
        Embedding { sum: vec![0.0; hidden], tokens: 0, row: vec![0.0; hidden] }
    }

    /// Adds the state of the next token, which `write` writes if there is one.
    pub(crate) fn add(&mut self, write: impl FnOnce(&mut [f32]) -> bool) {
        if write(&mut self.row) {
            self.tokens += 1;
            let pairs = self.sum.iter_mut().zip(&self.row);
            pairs.for_each(|(sum, value)| *sum += f64::from(*value));
        }
    }

    /// The mean of the states of all tokens of a text, made as long as one (L2); `None` until all were added.
    pub(crate) fn finish(&self, tokens: usize) -> Option<Vec<f32>> {
        let squares: f64 = self.sum.iter().map(|value| value * value).sum();
        // The number of tokens is a factor of all, and so is gone with the length.
        let length = libm::sqrt(squares).max(f64::MIN_POSITIVE);
        let unit = || self.sum.iter().map(|value| (value / length) as f32).collect();
        (self.tokens == tokens && tokens > 0).then(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_made_as_long_as_one() {
        let mut embedding = Embedding::with_room(2);
        let mut add = |values: [f32; 2]| {
            embedding.add(|row| {
                row.copy_from_slice(&values);
                true
            });
        };
        add([1.0, 2.0]);
        add([5.0, 6.0]);
        embedding.add(|_| false);
        assert_eq!(embedding.finish(3), None, "one is missing");
        assert_eq!(embedding.finish(2), Some(vec![0.6, 0.8]));
        assert_eq!(Embedding::with_room(2).finish(0), None);
    }
}
