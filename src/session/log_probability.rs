//! How likely the model holds a token to be, before any sampling rule.

use alloc::vec::Vec;
use core::cmp::Ordering;

/// The natural logarithm of a token's probability, beside those of the likeliest tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogProbability {
    /// The token that was drawn.
    pub id: u32,
    /// Its logarithm: 0 or less.
    pub value: f32,
    /// The likeliest tokens, the likeliest first, ties to the lower id; as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// Most tokens that [`LogProbability::top`] can be asked for.
pub const MOST_LOG_PROBABILITIES: usize = 20;

impl LogProbability {
    /// Room for `top` of the likeliest tokens.
    pub(crate) fn with_room(top: usize) -> LogProbability {
        let top = Vec::with_capacity(top.min(MOST_LOG_PROBABILITIES));
        LogProbability { id: 0, value: 0.0, top }
    }

    /// Computes them for a token that was drawn from the logits of the whole vocabulary; as many of the
    /// likeliest as there is room for.
    pub(crate) fn compute(&mut self, logits: &[f32], id: u32) {
        let logits_or_none = || logits.iter().map(|logit| finite(*logit));
        let largest = logits_or_none().fold(f32::NEG_INFINITY, f32::max);
        let exponential = |logit: f32| libm::exp(f64::from(logit - largest));
        let sum: f64 = logits_or_none().map(exponential).sum();
        let log_sum = largest as f64 + libm::log(sum);
        let of = |logit: f32| (f64::from(logit) - log_sum) as f32;
        self.id = id;
        self.value = logits.get(id as usize).map_or(f32::NEG_INFINITY, |logit| of(finite(*logit)));
        self.top.clear();
        for (logit, id) in logits_or_none().zip(0..) {
            self.insert(id, logit);
        }
        self.top.iter_mut().for_each(|(_, logit)| *logit = of(*logit));
    }

    /// Puts a token among the likeliest, if it is one; the least of them gives way.
    fn insert(&mut self, id: u32, logit: f32) {
        let most = self.top.capacity().min(MOST_LOG_PROBABILITIES);
        let is_before = |(_, other): &(u32, f32)| other.total_cmp(&logit) != Ordering::Less;
        let place = self.top.partition_point(is_before);
        if place == most {
            return;
        }
        if self.top.len() == most {
            self.top.pop();
        }
        self.top.insert(place, (id, logit));
    }
}

/// A logit that is not finite is never drawn.
fn finite(logit: f32) -> f32 {
    if logit.is_finite() { logit } else { f32::NEG_INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_stand_in_order() {
        let logits = [1f32, 2.0, 4.0, 2.0, 1.0].map(libm::logf);
        let mut found = LogProbability::with_room(3);
        let room = found.top.capacity();
        found.compute(&logits, 3);
        let near = |a: f32, b: f32| (a - libm::logf(b)).abs() < 1e-6;
        assert_eq!(found.id, 3);
        assert!(near(found.value, 0.2));
        assert_eq!(found.top.iter().map(|(id, _)| *id).collect::<Vec<_>>()[..3], [2, 1, 3]);
        assert!(near(found.top[0].1, 0.4) && near(found.top[1].1, 0.2));
        assert_eq!(found.top.capacity(), room);
    }

    #[test]
    fn what_is_left_out_has_no_probability() {
        let mut found = LogProbability::with_room(0);
        found.compute(&[0.0, f32::NEG_INFINITY], 1);
        assert_eq!((found.value, found.top.len()), (f32::NEG_INFINITY, 0));
        found.compute(&[0.0, f32::NEG_INFINITY], 0);
        assert_eq!(found.value, 0.0);
        let mut found = LogProbability::with_room(1);
        found.compute(&[f32::NAN, 0.0, f32::INFINITY], 1);
        assert_eq!((found.value, found.top[0]), (0.0, (1, 0.0)));
    }
}
