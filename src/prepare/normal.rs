//! The normal distribution.

use std::f64::consts::{PI, SQRT_2};

/// The probability of a value of at most `x`.
pub(crate) fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// The density at `x`.
fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// The `x` below which values are with probability `p`; ±8 at most.
pub(crate) fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        *(if cdf(middle) < p { &mut low } else { &mut high }) = middle;
    }
    0.5 * (low + high)
}

/// The mean square of `relu(x − shift)` for a normal `x`.
pub(crate) fn relu_square(shift: f64) -> f64 {
    (1.0 + shift * shift) * cdf(-shift) - shift * density(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_undoes_the_probability() {
        for p in [0.001, 0.1, 0.5, 0.996] {
            assert!((cdf(quantile(p)) - p).abs() < 1e-12);
        }
        assert!((quantile(0.975) - 1.959_964).abs() < 1e-6);
    }

    #[test]
    fn the_mean_square_is_the_integral() {
        assert!((relu_square(0.0) - 0.5).abs() < 1e-12);
        for shift in [-1.0f64, 0.5, 2.65] {
            let step = 1e-3;
            let at = |i: i32| shift + f64::from(i) * step;
            let sum: f64 = (0..9000).map(|i| (at(i) - shift).powi(2) * density(at(i))).sum();
            assert!((relu_square(shift) - sum * step).abs() < 1e-5, "{shift}");
        }
    }
}
