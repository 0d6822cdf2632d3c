//! The scale with which some weights lose least.

/// Below this the largest weight counts as zero.
const LEAST: f32 = 1e-15;
/// Candidates on either side of the first, in tenths of a quant that the largest weight is moved by.
const CANDIDATES: i32 = 9;

/// All candidates, and room that makes whole vectors.
const CHOICES: usize = 2 * CANDIDATES as usize + 1;
const LANES: usize = CHOICES.next_multiple_of(4);
/// Around it floats are the whole numbers: what it is added to is rounded to the nearest, ties to even.
const ROUNDING: f32 = 12_582_912.0;

/// Something for each candidate.
type Lanes = [f32; LANES];

/// Weights as quants from `-most` to `most - 1`, and what these are multiplied with.
pub(super) struct Quants<const N: usize> {
    pub(super) scale: f32,
    pub(super) quants: [i8; N],
}

/// Sums over the weights of each candidate, from which its best scale and what that wins follow.
struct Fits {
    /// Σ importance · weight · quant.
    products: Lanes,
    /// Σ importance · quant².
    squares: Lanes,
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
    let inverses = inverses(most, largest);
    let Fits { products, squares } = Fits::of(x, &inverses, most, importance);
    let mut scale = if squares[0] == 0.0 { 0.0 } else { products[0] / squares[0] };
    let (mut won, mut chosen) = (scale * products[0], inverses[0]);
    for i in 1..CHOICES {
        let (product, square) = (products[i], squares[i]);
        if square > 0.0 && product * product > won * square {
            scale = product / square;
            (won, chosen) = (scale * product, inverses[i]);
        }
    }
    Quants { scale, quants: x.map(|x| quant(x * chosen, most) as i8) }
}

/// What weights are multiplied with, of each candidate: first the one without a shift, then the others.
fn inverses(most: i32, largest: f32) -> Lanes {
    let shifts = (-CANDIDATES..=CANDIDATES).filter(|tenths| *tenths != 0);
    let mut inverses = [-(most as f32) / largest; LANES];
    for (inverse, tenths) in inverses[1..].iter_mut().zip(shifts) {
        *inverse = -(most as f32 + 0.1 * tenths as f32) / largest;
    }
    inverses
}

impl Fits {
    /// All candidates go side by side, each with its own sums in the order of the weights.
    fn of<const N: usize>(
        x: &[f32; N],
        inverses: &Lanes,
        most: i32,
        importance: &[f32; N],
    ) -> Fits {
        let (mut products, mut squares) = ([0.0; LANES], [0.0; LANES]);
        let (least, most) = (-most as f32, (most - 1) as f32);
        for (x, importance) in x.iter().zip(importance) {
            let weighted = importance * x;
            for i in 0..LANES {
                // No larger than a quant and one.
                let rounded = inverses[i] * x + ROUNDING - ROUNDING;
                let quant = rounded.max(least).min(most);
                products[i] += weighted * quant;
                squares[i] += importance * quant * quant;
            }
        }
        Fits { products, squares }
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
