//! The scale with which some weights lose least.

/// Below this the largest weight counts as zero.
const LEAST: f32 = 1e-15;
/// Candidates on either side of the first, in tenths of a quant that the largest weight is moved by.
const CANDIDATES: i32 = 9;

/// Weights as quants from `-most` to `most - 1`, and what these are multiplied with.
pub(super) struct Quants<const N: usize> {
    pub(super) scale: f32,
    pub(super) quants: [i8; N],
}

/// Sums over the weights of a candidate, from which its best scale and what that wins follow.
struct Fit {
    /// Σ importance · weight · quant.
    product: f32,
    /// Σ importance · quant².
    square: f32,
}

/// The quants of `x` whose weighted squared error is least, of nineteen ways to round: the weight of largest magnitude
/// becomes `-most`, or up to 0.9 more or less. For each, the scale is that of least squares. `importance` is what the squared
/// error of each weight counts.
///
/// This is llama.cpp's rule for Q6_K, and for Q4_0 with an importance matrix, in the order of its sums and without fused
/// multiply-adds.
pub(super) fn best<const N: usize>(x: &[f32; N], most: i32, importance: &[f32; N]) -> Quants<N> {
    let largest = super::extreme(x);
    if largest.abs() < LEAST {
        return Quants { scale: 0.0, quants: [-most as i8; N] };
    }
    let inverse = -(most as f32) / largest;
    let fit = Fit::of(x, inverse, most, importance);
    let mut scale = if fit.square == 0.0 { 0.0 } else { fit.product / fit.square };
    let (mut won, mut chosen) = (scale * fit.product, inverse);
    for tenths in (-CANDIDATES..=CANDIDATES).filter(|tenths| *tenths != 0) {
        let inverse = -(most as f32 + 0.1 * tenths as f32) / largest;
        let fit = Fit::of(x, inverse, most, importance);
        if fit.square > 0.0 && fit.product * fit.product > won * fit.square {
            scale = fit.product / fit.square;
            (won, chosen) = (scale * fit.product, inverse);
        }
    }
    Quants { scale, quants: x.map(|x| quant(x * chosen, most) as i8) }
}

impl Fit {
    fn of<const N: usize>(x: &[f32; N], inverse: f32, most: i32, importance: &[f32; N]) -> Fit {
        let mut fit = Fit { product: 0.0, square: 0.0 };
        for (x, importance) in x.iter().zip(importance) {
            let quant = quant(inverse * x, most) as f32;
            fit.product += importance * x * quant;
            fit.square += importance * quant * quant;
        }
        fit
    }
}

/// The nearest quant, ties to even.
pub(super) fn quant(x: f32, most: i32) -> i32 {
    nearest(x).clamp(-most, most - 1)
}

/// The nearest whole number, ties to even.
pub(super) fn nearest(x: f32) -> i32 {
    x.round_ties_even() as i32
}
