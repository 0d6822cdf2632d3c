//! What a layer does to vectors between the matrix products.

/// Adds eight partial sums in a fixed tree.
pub(super) fn add_lanes(s: [f32; 8]) -> f32 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

/// Root-mean-square normalization: `out[i] = x[i] / sqrt(mean(x²) + eps) · weight[i]`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mut sums = [0f32; 8];
    for group in x.chunks(8) {
        for (sum, v) in sums.iter_mut().zip(group) {
            *sum += v * v;
        }
    }
    let scale = 1.0 / libm::sqrtf(add_lanes(sums) / x.len() as f32 + eps);
    for ((y, v), w) in out.iter_mut().zip(x).zip(weight) {
        *y = v * scale * w;
    }
}

/// Softmax in place. An empty slice is left alone.
pub fn softmax(x: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f32;
    for v in x.iter_mut() {
        *v = libm::expf(*v - largest);
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
