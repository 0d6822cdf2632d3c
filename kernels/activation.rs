//! Activation rows: `f32` values and the 8-bit forms that quantized weights are multiplied with.

use crate::Encoding;
use half::f16;

/// One row of 8-bit values with its scales.
///
/// In the Q8_0 form there is a scale and a sum for every 32 values, in the Q8_K form a scale for
/// every 256 and a sum for every 16. A value is `scale · quant`.
#[derive(Clone, Copy, Debug)]
pub struct Q8<'a> {
    /// The quants, one for each value.
    pub quants: &'a [i8],
    /// The scales.
    pub scales: &'a [f32],
    /// Sums of quants, for weights that carry a minimum.
    pub sums: &'a [i16],
}

/// The number of blocks that each of some rows has: a scale for `block` quants, a sum for `group`.
/// Kernels rely on it where they read without checks.
///
/// # Panics
/// If a row has other lengths.
#[inline(always)]
pub(crate) fn count_blocks<const T: usize>(
    rows: [&Q8<'_>; T],
    block: usize,
    group: usize,
) -> usize {
    let blocks = rows[0].scales.len();
    for row in rows {
        assert!(row.scales.len() == blocks && row.quants.len() == blocks * block);
        assert!(row.sums.len() == blocks * block / group);
    }
    blocks
}

/// [`Q8`] while it is written.
#[derive(Debug)]
pub struct Q8Mut<'a> {
    /// The quants, one for each value.
    pub quants: &'a mut [i8],
    /// The scales.
    pub scales: &'a mut [f32],
    /// Sums of quants.
    pub sums: &'a mut [i16],
}

/// One activation row in every form that its consumers need; forms that nobody needs are empty.
#[derive(Clone, Copy, Debug)]
pub struct Activation<'a> {
    /// The values themselves.
    pub values: &'a [f32],
    /// 8-bit form for weights in blocks of 32.
    pub q8_0: Q8<'a>,
    /// 8-bit form for weights in blocks of 256.
    pub q8_k: Q8<'a>,
}

/// [`Activation`] while it is written.
#[derive(Debug)]
pub struct ActivationMut<'a> {
    /// The values, to be written first.
    pub values: &'a mut [f32],
    /// 8-bit form for weights in blocks of 32.
    pub q8_0: Q8Mut<'a>,
    /// 8-bit form for weights in blocks of 256.
    pub q8_k: Q8Mut<'a>,
}

/// Which 8-bit forms a row needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encodings {
    /// Some consumer multiplies in Q8_0.
    pub q8_0: bool,
    /// Some consumer multiplies in Q8_K.
    pub q8_k: bool,
}

impl Encodings {
    /// These encodings and `encoding`.
    #[must_use]
    pub const fn with(self, encoding: Encoding) -> Encodings {
        match encoding {
            Encoding::F32 => self,
            Encoding::Q8_0 => Encodings { q8_0: true, ..self },
            Encoding::Q8_K => Encodings { q8_k: true, ..self },
        }
    }
}

/// How an activation row lies in one slice of `f32`, so that rows can be cut from a single slab:
/// the values, then for each form its scales, quants and sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLayout {
    cols: usize,
    q8_0: [usize; 3],
    q8_k: [usize; 3],
}

/// Elements of scales, quants and sums of a row with one scale for `per_scale` values and one sum
/// for `per_sum`.
const fn q8_lens(cols: usize, per_scale: usize, per_sum: usize) -> [usize; 3] {
    [cols / per_scale, cols, cols / per_sum]
}

/// `f32`s that hold scales, quants and sums of these lengths.
const fn q8_floats([scales, quants, sums]: [usize; 3]) -> usize {
    scales + quants.div_ceil(4) + sums.div_ceil(2)
}

impl RowLayout {
    /// The layout of a row of `cols` values. A form is present only where `cols` is a multiple of
    /// its block, since no weights could use it otherwise.
    pub const fn new(cols: usize, encodings: Encodings) -> RowLayout {
        let q8_0 = encodings.q8_0 && cols.is_multiple_of(32);
        let q8_k = encodings.q8_k && cols.is_multiple_of(256);
        RowLayout {
            cols,
            q8_0: if q8_0 { q8_lens(cols, 32, 32) } else { [0; 3] },
            q8_k: if q8_k { q8_lens(cols, 256, 16) } else { [0; 3] },
        }
    }

    /// Values in a row.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// `f32`s from the start of one row to the next.
    pub const fn stride(&self) -> usize {
        self.cols + q8_floats(self.q8_0) + q8_floats(self.q8_k)
    }

    /// The row that lies in `slab`, of [`RowLayout::stride`] elements.
    pub fn view<'a>(&self, slab: &'a [f32]) -> Activation<'a> {
        let (values, rest) = slab.split_at(self.cols);
        let (q8_0, q8_k) = rest.split_at(q8_floats(self.q8_0));
        Activation { values, q8_0: q8_view(q8_0, self.q8_0), q8_k: q8_view(q8_k, self.q8_k) }
    }

    /// The row that lies in `slab`, to be written.
    pub fn view_mut<'a>(&self, slab: &'a mut [f32]) -> ActivationMut<'a> {
        let (values, rest) = slab.split_at_mut(self.cols);
        let (q8_0, q8_k) = rest.split_at_mut(q8_floats(self.q8_0));
        ActivationMut {
            values,
            q8_0: q8_view_mut(q8_0, self.q8_0),
            q8_k: q8_view_mut(q8_k, self.q8_k),
        }
    }

    /// Computes the 8-bit forms of the row in `slab` from its values, blocks of Q8_0 by `quantize`:
    /// the code that every variant of [`crate::Kernels::encode`] is compiled from.
    #[inline(always)]
    pub(crate) fn encode(&self, slab: &mut [f32], quantize: impl Fn(&[f32; 32]) -> Block) {
        let row = self.view_mut(slab);
        quantize_q8_0(row.values, row.q8_0, quantize);
        quantize_q8_k(row.values, row.q8_k);
    }
}

fn q8_view(slab: &[f32], [scales, quants, sums]: [usize; 3]) -> Q8<'_> {
    let (s, rest) = slab.split_at(scales);
    let (q, rest) = rest.split_at(quants.div_ceil(4));
    Q8 {
        scales: s,
        quants: &bytemuck::cast_slice(q)[..quants],
        sums: &bytemuck::cast_slice(rest)[..sums],
    }
}

fn q8_view_mut(slab: &mut [f32], [scales, quants, sums]: [usize; 3]) -> Q8Mut<'_> {
    let (s, rest) = slab.split_at_mut(scales);
    let (q, rest) = rest.split_at_mut(quants.div_ceil(4));
    Q8Mut {
        scales: s,
        quants: &mut bytemuck::cast_slice_mut(q)[..quants],
        sums: &mut bytemuck::cast_slice_mut(rest)[..sums],
    }
}

/// The Q8_0 form. An empty one is left alone.
#[inline(always)]
fn quantize_q8_0(values: &[f32], out: Q8Mut<'_>, quantize: impl Fn(&[f32; 32]) -> Block) {
    let blocks = values.as_chunks::<32>().0.iter().zip(out.quants.as_chunks_mut::<32>().0);
    for ((x, quants), (scale, sum)) in blocks.zip(out.scales.iter_mut().zip(out.sums)) {
        let block = quantize(x);
        (*quants, *scale, *sum) = (block.quants, block.scale, block.sum);
    }
}

/// A block of 32 values in Q8_0.
pub(crate) struct Block {
    pub(crate) quants: [i8; 32],
    /// A value that f16 has.
    pub(crate) scale: f32,
    /// The sum of the quants.
    pub(crate) sum: i16,
}

/// A block as llama.cpp's reference quantizes it: scale = largest magnitude / 127 (stored as f16,
/// used to divide at full precision), quants rounded half away from zero.
#[inline(always)]
pub(crate) fn quantize_block(x: &[f32; 32]) -> Block {
    let (exact, inverse) = block_scale(largest_magnitude(x));
    let rounded = x.map(|v| round_half_away(v * inverse));
    Block {
        quants: rounded.map(|q| q as i8),
        scale: f16::from_f32(exact).to_f32(),
        sum: rounded.map(|q| q as i16).iter().sum(),
    }
}

/// The scale of a block with this largest magnitude, and what its values are multiplied with.
#[inline(always)]
pub(crate) fn block_scale(largest: f32) -> (f32, f32) {
    let exact = largest / 127.0;
    (exact, if exact != 0.0 { 1.0 / exact } else { 0.0 })
}

/// Q8_K as llama.cpp's reference: the value of largest magnitude becomes −127, so the scale is
/// negative when that value is positive; quants rounded half to even. An empty form is left alone.
#[inline(always)]
fn quantize_q8_k(values: &[f32], out: Q8Mut<'_>) {
    let blocks = values.as_chunks::<256>().0.iter().zip(out.quants.as_chunks_mut::<256>().0);
    let sums = out.sums.as_chunks_mut::<16>().0;
    for ((x, quants), (scale, sums)) in blocks.zip(out.scales.iter_mut().zip(sums)) {
        let largest = largest_magnitude(x);
        let extreme = x.iter().find(|v| v.abs() == largest).map_or(0.0, |v| *v);
        let inverse = if extreme != 0.0 { -127.0 / extreme } else { 0.0 };
        *quants = x.map(|v| round_half_even(v * inverse).min(127) as i8);
        *scale = if inverse != 0.0 { 1.0 / inverse } else { 0.0 };
        for (sum, group) in sums.iter_mut().zip(quants.as_chunks::<16>().0) {
            *sum = group.map(i16::from).iter().sum();
        }
    }
}

/// The largest magnitude of values that are numbers, in eight lanes.
#[inline(always)]
fn largest_magnitude(x: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    for group in x.as_chunks::<8>().0 {
        for (lane, v) in lanes.iter_mut().zip(group) {
            *lane = lane.max(v.abs());
        }
    }
    lanes.iter().fold(0.0, |m, v| m.max(*v))
}

/// Rounds a value of at most 200 in magnitude, which is a scaled activation; others become 0.
#[inline(always)]
fn round_half_away(v: f32) -> i32 {
    let magnitude = v.abs();
    let even = round_half_even(magnitude);
    // A tie that was rounded down goes up instead.
    let rounded = even + i32::from(magnitude - even as f32 == 0.5);
    if v < 0.0 { -rounded } else { rounded }
}

/// Rounds a value of at most 200 in magnitude, which is a scaled activation; others become 0.
#[inline(always)]
fn round_half_even(v: f32) -> i32 {
    // Beyond this number the next float is one away, so that the sum is rounded to a whole number,
    // which stands in the lowest bits.
    const SHIFT: f32 = 12_582_912.0;
    let whole = (v + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
    if v.abs() <= 200.0 { whole } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const BOTH: Encodings = Encodings { q8_0: true, q8_k: true };

    #[test]
    fn forms_that_do_not_fit_are_absent() {
        assert_eq!(RowLayout::new(100, BOTH).stride(), 100);
        let layout = RowLayout::new(96, BOTH);
        assert_eq!(layout.stride(), 96 + 3 + 24 + 2);
        let mut slab = vec![1.0; layout.stride()];
        layout.encode(&mut slab, quantize_block);
        let row = layout.view(&slab);
        assert_eq!((row.q8_0.quants.len(), row.q8_k.quants.len()), (96, 0));
        assert_eq!(row.q8_0.sums, [32 * 127; 3]);
    }

    #[test]
    fn rounding_is_that_of_the_reference() {
        let halves = (-1040..=1040).map(|i| i as f32 / 8.0);
        let close = [0.499_999_97, -0.499_999_97, 126.499_99, f32::MIN_POSITIVE, -0.0];
        for v in halves.chain(close) {
            assert_eq!(round_half_away(v), libm::roundf(v) as i32, "{v}");
            assert_eq!(round_half_even(v), libm::rintf(v) as i32, "{v}");
        }
        assert_eq!((round_half_away(f32::NAN), round_half_even(f32::NAN)), (0, 0));
    }

    #[test]
    fn zeros_stay_zero() {
        let layout = RowLayout::new(256, BOTH);
        let mut slab = vec![0.0; layout.stride()];
        layout.encode(&mut slab, quantize_block);
        assert!(slab.iter().all(|x| *x == 0.0));
    }

    proptest! {
        /// Both forms give each value back within half a step.
        #[test]
        fn values_survive(values in prop::collection::vec(-1e3f32..1e3, 512)) {
            let layout = RowLayout::new(512, BOTH);
            let mut slab = vec![0.0; layout.stride()];
            slab[..512].copy_from_slice(&values);
            layout.encode(&mut slab, quantize_block);
            let row = layout.view(&slab);
            for (form, per_scale, per_sum) in [(row.q8_0, 32, 32), (row.q8_k, 256, 16)] {
                for (i, v) in values.iter().enumerate() {
                    let scale = form.scales[i / per_scale];
                    // Half a step, and the rounding of the scale to f16 times 127 steps.
                    let tolerance = scale.abs() * (0.5 + 127.0 / 2048.0) + 1e-6;
                    prop_assert!((scale * f32::from(form.quants[i]) - v).abs() <= tolerance);
                }
                let sums: Vec<i16> =
                    form.quants.chunks(per_sum).map(|c| c.iter().map(|q| i16::from(*q)).sum()).collect();
                prop_assert_eq!(form.sums, &sums[..]);
            }
        }
    }
}
