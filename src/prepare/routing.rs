//! How much a router must prefer each expert for it to be chosen as often as wanted.

use crate::normal::{cdf, quantile};
use crate::random::Random;

/// Draws of all experts' logits from which frequencies are computed.
const DRAWS: usize = 768;
/// Corrections; each leaves a small part of what the one before left.
const ROUNDS: usize = 16;

/// The biases to add to normal logits of deviation 1 so that expert `e` is among the `active`
/// largest with probability `frequency[e]`. The logit that an expert must beat is 0 in the mean.
///
/// The probability that an expert beats the others is averaged over draws of the others alone,
/// which leaves far less noise than counting does.
pub(crate) fn biases(frequency: &[f64], active: usize) -> Vec<f64> {
    let experts = frequency.len();
    if frequency.iter().all(|f| *f == frequency[0]) || active >= experts {
        return vec![0.0; experts];
    }
    let mut random = Random::new(&[experts as u64]);
    let noise: Vec<f64> = (0..DRAWS * experts).map(|_| smooth(&mut random)).collect();
    let wanted: Vec<f64> = frequency.iter().map(|f| quantile(*f)).collect();
    // Right if the logit to beat were always 0.
    let mut biases = wanted.clone();
    let (mut logits, mut sorted) = (vec![0.0; experts], vec![0.0; experts]);
    for _ in 0..ROUNDS {
        let mut reached = vec![0.0; experts];
        let mut level = 0.0;
        for draw in noise.chunks_exact(experts) {
            (0..experts).for_each(|e| logits[e] = biases[e] + draw[e]);
            sorted.copy_from_slice(&logits);
            let (_, last_in, rest) =
                sorted.select_nth_unstable_by(active - 1, |a, b| b.total_cmp(a));
            let (last_in, first_out) = (*last_in, rest.iter().copied().fold(f64::MIN, f64::max));
            level += last_in / DRAWS as f64;
            for e in 0..experts {
                // Without itself, an expert that is in moves the others up by one.
                let beat = if logits[e] >= last_in { first_out } else { last_in };
                reached[e] += cdf(biases[e] - beat) / DRAWS as f64;
            }
        }
        for e in 0..experts {
            biases[e] += wanted[e] - quantile(reached[e]) - level;
        }
    }
    biases
}

/// A normal number with better tails than [`Random::normal`] has.
fn smooth(random: &mut Random) -> f64 {
    (0..3).map(|_| f64::from(random.normal())).sum::<f64>() / 3f64.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_are_chosen_as_often_as_wanted() {
        let frequency = [0.9, 0.5, 0.25, 0.2, 0.08, 0.04, 0.02, 0.01];
        let biases = biases(&frequency, 2);
        let mut random = Random::new(&[99]);
        let (draws, mut counts) = (40_000, [0; 8]);
        for _ in 0..draws {
            let mut logits: Vec<(f64, usize)> =
                biases.iter().enumerate().map(|(e, b)| (b + quantile(random.unit()), e)).collect();
            logits.sort_by(|a, b| b.0.total_cmp(&a.0));
            logits[..2].iter().for_each(|(_, e)| counts[*e] += 1);
        }
        for (f, count) in frequency.iter().zip(counts) {
            let reached = f64::from(count) / f64::from(draws);
            assert!((reached - f).abs() < 0.01 + 0.02 * f, "{f} wanted, {reached} reached");
        }
    }

    #[test]
    fn equal_experts_need_no_bias() {
        assert_eq!(biases(&[0.5; 4], 2), [0.0; 4]);
        assert_eq!(biases(&[1.0; 2], 2), [0.0; 2]);
    }
}
