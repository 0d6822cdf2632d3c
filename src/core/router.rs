//! Choosing experts.

use crate::config::Gating;
use crate::token::Approximation;
use wick_kernels::scalar::softmax;

/// Chooses the `experts.len()` largest logits, in falling order, and gives them weights that sum
/// to one. Equal logits go to the lower expert; logits that are not numbers are chosen last.
///
/// The choice is made on logits, not on probabilities, which saturate and tie.
pub(crate) fn route(logits: &[f32], gating: Gating, experts: &mut [u32], weights: &mut [f32]) {
    for chosen in 0..experts.len() {
        let taken = &experts[..chosen];
        let free = (0..logits.len() as u32).filter(|e| !taken.contains(e));
        let better = |a: u32, b: u32| key(logits[b as usize]) > key(logits[a as usize]);
        let best = free.reduce(|a, b| if better(a, b) { b } else { a });
        experts[chosen] = best.expect("no more experts are chosen than there are");
    }
    weigh(logits, gating, experts, weights);
}

/// Gives the chosen experts their weights.
fn weigh(logits: &[f32], gating: Gating, experts: &[u32], weights: &mut [f32]) {
    for (weight, expert) in weights.iter_mut().zip(experts) {
        *weight = logits[*expert as usize];
    }
    match gating {
        Gating::Softmax => softmax(weights),
        Gating::Sigmoid => normalized_sigmoid(weights),
    }
}

/// Chooses as [`route`] does, but takes `is_resident` experts first, as far as `approximation` says.
pub(crate) fn route_approximately(
    logits: &mut [f32],
    gating: Gating,
    approximation: Approximation,
    is_resident: impl Fn(u32) -> bool,
    experts: &mut [u32],
    weights: &mut [f32],
) {
    let Approximation { prefer_resident, skip_missing, .. } = approximation;
    let raise = |logits: &mut [f32], by: f32| {
        let resident = logits.iter_mut().enumerate().filter(|(e, _)| is_resident(*e as u32));
        resident.for_each(|(_, logit)| *logit += by);
    };
    if prefer_resident > 0.0 {
        raise(logits, prefer_resident);
        route(logits, gating, experts, weights);
        raise(logits, -prefer_resident);
        weigh(logits, gating, experts, weights);
    } else {
        route(logits, gating, experts, weights);
    }
    let least = (0..weights.len()).min_by(|a, b| weights[*a].total_cmp(&weights[*b]));
    let missing = least.filter(|i| weights.len() > 1 && !is_resident(experts[*i]));
    if let Some(i) = missing.filter(|i| weights[*i] <= skip_missing) {
        let rest = 1.0 - weights[i];
        weights.iter_mut().for_each(|weight| *weight /= rest);
        // It stands for nothing: the expert of another place, at no weight.
        experts[i] = experts[if i == 0 { 1 } else { 0 }];
        weights[i] = 0.0;
    }
}

/// Sorting key that puts NaN below everything.
fn key(logit: f32) -> f32 {
    if logit.is_nan() { f32::NEG_INFINITY } else { logit }
}

/// `sigmoid(x) / Σ sigmoid(x)` in place. Where every sigmoid vanishes in `f32`, their ratios are
/// those of the exponentials, which is a softmax.
fn normalized_sigmoid(x: &mut [f32]) {
    let sigmoid = |v: f32| 1.0 / (1.0 + libm::expf(-v));
    let sum: f32 = x.iter().map(|v| sigmoid(*v)).sum();
    if sum < f32::MIN_POSITIVE {
        return softmax(x);
    }
    for v in x {
        *v = sigmoid(*v) / sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_logits_win_and_ties_go_low() {
        let (mut experts, mut weights) = ([0; 3], [0.0; 3]);
        route(&[1.0, 3.0, f32::NAN, 3.0, 2.0], Gating::Softmax, &mut experts, &mut weights);
        assert_eq!(experts, [1, 3, 4]);
        assert_eq!(weights[0], weights[1]);
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn saturated_logits_still_rank() {
        let (mut experts, mut weights) = ([0; 2], [0.0; 2]);
        route(&[40.0, 60.0, 50.0], Gating::Sigmoid, &mut experts, &mut weights);
        assert_eq!((experts, weights), ([1, 2], [0.5, 0.5]));
    }

    #[test]
    fn vanishing_sigmoids_keep_their_ratio() {
        let mut x = [-200.0, -201.0];
        normalized_sigmoid(&mut x);
        assert!((x[0] / x[1] - core::f32::consts::E).abs() < 1e-4);
        let mut x = [-20.0, -21.0];
        normalized_sigmoid(&mut x);
        assert!((x[0] / x[1] - core::f32::consts::E).abs() < 1e-4);
    }

    #[test]
    fn resident_experts_are_preferred_within_the_margin() {
        let choose = |prefer_resident, skip_missing| {
            let mut logits = [1.0, 0.9, 0.5, -1.0];
            let (mut experts, mut weights) = ([0; 2], [0.0; 2]);
            let approximation =
                Approximation { prefer_resident, skip_missing, ..Approximation::default() };
            let resident = |e| e == 0 || e == 2;
            let gating = Gating::Softmax;
            route_approximately(
                &mut logits,
                gating,
                approximation,
                resident,
                &mut experts,
                &mut weights,
            );
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            (experts, weights)
        };
        assert_eq!(choose(0.0, 0.0).0, [0, 1]);
        assert_eq!(choose(0.3, 0.0).0, [0, 1]);
        let (experts, weights) = choose(0.5, 0.0);
        assert_eq!(experts, [0, 2]);
        assert!((weights[0] / weights[1] - libm::expf(0.5)).abs() < 1e-5);
        assert_eq!(choose(0.0, 0.1).0, [0, 1]);
        let (experts, weights) = choose(0.0, 0.5);
        assert!(experts == [0, 0] && weights[1] == 0.0, "{experts:?} {weights:?}");
    }

    #[test]
    fn hopeless_logits_do_not_panic() {
        let (mut experts, mut weights) = ([0; 2], [0.0; 2]);
        route(&[f32::NAN; 4], Gating::Sigmoid, &mut experts, &mut weights);
        assert_eq!(experts, [0, 1]);
    }
}
