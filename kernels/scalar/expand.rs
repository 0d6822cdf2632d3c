//! Rows of any format as `f32`.

use super::block32::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Rows32};
use super::block256::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Rows256};
use super::plain::{BF16, F16, F32};
use super::row::Row;
use crate::Format;

/// Calls `for_each` of the row type of `format`.
fn for_each(format: Format, row: &[u8], each: impl FnMut(usize, f32)) {
    match format {
        Format::F32 => F32::for_each(row, each),
        Format::F16 => F16::for_each(row, each),
        Format::BF16 => BF16::for_each(row, each),
        Format::Q4_0 => Rows32::<Q4_0>::for_each(row, each),
        Format::Q4_1 => Rows32::<Q4_1>::for_each(row, each),
        Format::Q5_0 => Rows32::<Q5_0>::for_each(row, each),
        Format::Q5_1 => Rows32::<Q5_1>::for_each(row, each),
        Format::Q8_0 => Rows32::<Q8_0>::for_each(row, each),
        Format::Q2_K => Rows256::<Q2_K>::for_each(row, each),
        Format::Q3_K => Rows256::<Q3_K>::for_each(row, each),
        Format::Q4_K => Rows256::<Q4_K>::for_each(row, each),
        Format::Q5_K => Rows256::<Q5_K>::for_each(row, each),
        Format::Q6_K => Rows256::<Q6_K>::for_each(row, each),
    }
}

/// Expands a row (or a run of whole blocks of one) to `f32`: `out[c] = row[c]`.
pub fn dequantize(format: Format, row: &[u8], out: &mut [f32]) {
    for_each(format, row, |c, w| out[c] = w);
}

/// Adds a multiple of a row (or of a run of whole blocks of one): `out[c] += factor · row[c]`.
pub fn axpy(format: Format, row: &[u8], factor: f32, out: &mut [f32]) {
    for_each(format, row, |c, w| out[c] += factor * w);
}
