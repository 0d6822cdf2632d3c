//! Rows of plain floating-point weights, little endian and without alignment.

use super::row::Row;
use crate::{Activation, Format};
use half::{bf16, f16};

/// Single precision.
pub(crate) struct F32;
/// Half precision.
pub(crate) struct F16;
/// The upper half of a single.
pub(crate) struct BF16;

impl Row for F32 {
    const FORMAT: Format = Format::F32;
    #[inline(always)]
    fn dot(row: &[u8], x: &Activation<'_>) -> f32 {
        dot(row, x.values, f32::from_le_bytes)
    }
    fn for_each(row: &[u8], each: impl FnMut(usize, f32)) {
        for_each(row, each, f32::from_le_bytes);
    }
}

impl Row for F16 {
    const FORMAT: Format = Format::F16;
    #[inline(always)]
    fn dot(row: &[u8], x: &Activation<'_>) -> f32 {
        dot(row, x.values, |b| f16::from_le_bytes(b).to_f32())
    }
    fn for_each(row: &[u8], each: impl FnMut(usize, f32)) {
        for_each(row, each, |b| f16::from_le_bytes(b).to_f32());
    }
}

impl Row for BF16 {
    const FORMAT: Format = Format::BF16;
    #[inline(always)]
    fn dot(row: &[u8], x: &Activation<'_>) -> f32 {
        dot(row, x.values, |b| bf16::from_le_bytes(b).to_f32())
    }
    fn for_each(row: &[u8], each: impl FnMut(usize, f32)) {
        for_each(row, each, |b| bf16::from_le_bytes(b).to_f32());
    }
}

/// The dot product in eight partial sums, which a vector unit can keep side by side.
#[inline(always)]
fn dot<const N: usize>(row: &[u8], x: &[f32], value: impl Fn([u8; N]) -> f32) -> f32 {
    let (groups, tail) = row.as_chunks::<N>().0.as_chunks::<8>();
    let (x_groups, x_tail) = x.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for (w, x) in groups.iter().zip(x_groups) {
        for lane in 0..8 {
            sums[lane] += value(w[lane]) * x[lane];
        }
    }
    for (lane, (w, x)) in tail.iter().zip(x_tail).enumerate() {
        sums[lane] += value(*w) * x;
    }
    crate::vector::add_lanes(sums)
}

fn for_each<const N: usize>(
    row: &[u8],
    mut each: impl FnMut(usize, f32),
    value: impl Fn([u8; N]) -> f32,
) {
    for (c, bytes) in row.as_chunks::<N>().0.iter().enumerate() {
        each(c, value(*bytes));
    }
}
