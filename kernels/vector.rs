//! What a layer does to vectors between the matrix products.

/// Adds eight partial sums in a fixed tree.
#[inline(always)]
pub(crate) fn add_lanes(s: [f32; 8]) -> f32 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

/// `e^x`, within 2 units in the last place; 0 below −87. It is made of steps that every vector unit
/// rounds alike, so that it is the same bits everywhere.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// `ln 2` in two parts, the first with so few bits that its multiples are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// Minimax polynomial of `(e^r − 1 − r) / r²` for `|r| ≤ ln 2 / 2`, highest power first.
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    /// Adding this rounds to a whole number, which then stands in the lowest bits.
    const SHIFT: f32 = 12_582_912.0;
    let clamped = if x > 88.0 { 88.0 } else { x };
    let clamped = if clamped < -87.0 { -87.0 } else { clamped };
    let shifted = clamped * core::f32::consts::LOG2_E + SHIFT;
    let whole = shifted - SHIFT;
    let r = (clamped - whole * LN_2[0]) - whole * LN_2[1];
    let mut p = POLYNOMIAL[0];
    for c in &POLYNOMIAL[1..] {
        p = p * r + c;
    }
    let mantissa = p * (r * r) + r + 1.0;
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { mantissa * scale }
}

/// Whether all values are finite.
pub fn all_finite(x: &[f32]) -> bool {
    // Anything else is NaN times 0, and stays so in a sum.
    let mut sums = [0f32; 8];
    let (groups, tail) = x.as_chunks::<8>();
    for group in groups {
        for (sum, v) in sums.iter_mut().zip(group) {
            *sum += v * 0.0;
        }
    }
    for (sum, v) in sums.iter_mut().zip(tail) {
        *sum += v * 0.0;
    }
    add_lanes(sums) == 0.0
}

/// Whether all magnitudes are at most `limit`, and none is NaN.
pub fn all_within(x: &[f32], limit: f32) -> bool {
    // All are looked at, without a branch for each.
    x.iter().fold(true, |all, v| all & (v.abs() <= limit))
}

/// Root-mean-square normalization: `out[i] = x[i] / sqrt(mean(x²) + eps) · weight[i]`; NaN where `x` has a
/// value that is not finite, or its squares no finite sum.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mut sums = [0f32; 8];
    let (groups, tail) = x.as_chunks::<8>();
    for group in groups {
        for (sum, v) in sums.iter_mut().zip(group) {
            *sum += v * v;
        }
    }
    for (sum, v) in sums.iter_mut().zip(tail) {
        *sum += v * v;
    }
    let mean = add_lanes(sums) / x.len() as f32;
    // An infinite sum would make zeros of all values that are finite.
    let scale = if mean < f32::INFINITY { 1.0 / libm::sqrtf(mean + eps) } else { f32::NAN };
    for ((y, v), w) in out.iter_mut().zip(x).zip(weight) {
        *y = v * scale * w;
    }
}

/// Softmax in place. An empty slice is left alone.
pub fn softmax(x: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f32;
    for v in x.iter_mut() {
        *v = exp(*v - largest);
        sum += *v;
    }
    for v in x.iter_mut() {
        *v /= sum;
    }
}

/// Cosines and sines of one position for rotary embeddings: entry `i` of `dims / 2` turns by
/// `position · base^(−2i / dims)`. Angles are computed in double precision, since at position
/// 32,768 a single has no more than three digits left behind the point.
pub fn rope_table(position: usize, base: f32, cos: &mut [f32], sin: &mut [f32]) {
    let pairs = cos.len() as f64;
    for (i, (c, s)) in cos.iter_mut().zip(sin).enumerate() {
        let frequency = libm::pow(f64::from(base), -(i as f64) / pairs);
        let (sine, cosine) = libm::sincos(position as f64 * frequency);
        (*c, *s) = (cosine as f32, sine as f32);
    }
}

/// Rotary embedding of one head in the NEOX manner: the first `2 · cos.len()` values turn in
/// pairs `(i, i + cos.len())`, the others stay.
pub fn rope(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, rest) = head.split_at_mut(cos.len());
    for (((a, b), c), s) in low.iter_mut().zip(rest).zip(cos).zip(sin) {
        (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
    }
}

/// `out[i] += factor · x[i]`.
pub fn scale_add(factor: f32, x: &[f32], out: &mut [f32]) {
    for (y, v) in out.iter_mut().zip(x) {
        *y += factor * v;
    }
}
