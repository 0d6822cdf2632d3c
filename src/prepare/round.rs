//! Rows of weights rounded to a format, or refused where it cannot hold them.

use crate::{Error, quantize_by};
use wick_kernels::{Format, scalar};

/// Appends a row, the `row`-th of a tensor, in a format, one of [`QUANTIZABLE`](crate::QUANTIZABLE).
///
/// # Errors
/// A weight is no number, or too large for the format.
pub(crate) fn round_row(
    (tensor, row): (&str, usize),
    format: Format,
    weights: &[f32],
    importance: Option<&[f32]>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let refuse = |found| Error::Weight { tensor: tensor.into(), row, found, format };
    if !scalar::all_finite(weights) {
        let found = weights.iter().copied().find(|weight| !weight.is_finite());
        return Err(refuse(found.unwrap_or(f32::NAN)));
    }
    let start = out.len();
    let known = quantize_by(format, weights, importance, out);
    debug_assert!(known, "{format} can be written");
    if is_finite(format, &out[start..]) {
        return Ok(());
    }
    let larger = |a: f32, b: &f32| if b.abs() > a.abs() { *b } else { a };
    Err(refuse(weights.iter().fold(0.0, larger)))
}

/// Whether all weights, or the scales of all blocks, are finite.
fn is_finite(format: Format, blocks: &[u8]) -> bool {
    let scale_at = match format {
        Format::F32 => return true,
        Format::Q6_K => format.block_bytes() - size_of::<u16>(),
        _ => 0,
    };
    let exponent = if format == Format::BF16 { 0x7f80 } else { 0x7c00 };
    let scales = blocks.chunks_exact(format.block_bytes()).map(|block| &block[scale_at..]);
    scales.fold(true, |all, at| all & (u16::from_le_bytes([at[0], at[1]]) & exponent != exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QUANTIZABLE;

    fn round(format: Format, at: usize, weight: f32) -> Result<(), String> {
        let mut weights = [0.5; 256];
        weights[at] = weight;
        let rounded = round_row(("t", 3), format, &weights, None, &mut Vec::new());
        rounded.map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for format in QUANTIZABLE {
            for weight in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 17, 255] {
                    let error = round(format, at, weight).unwrap_err();
                    assert_eq!(error, format!("t, row 3: finite weights expected, {weight} found"));
                }
            }
        }
    }

    /// Each format takes weights up to what its scale, of 16 bits, can say.
    #[test]
    fn what_is_too_large_is_refused() {
        for (format, most, too_large) in [
            (Format::BF16, 3.38e38, f32::MAX),
            (Format::F16, 65_504.0, 65_536.0),
            (Format::Q4_0, 65_504.0 * 8.0, 65_536.0 * 8.0),
            (Format::Q8_0, 65_504.0 * 127.0, 65_536.0 * 127.0),
            (Format::Q6_K, 65_504.0 * 32.0, 65_536.0 * 32.0 * 128.0),
        ] {
            for sign in [1.0, -1.0] {
                assert_eq!(round(format, 9, sign * most), Ok(()), "{format}");
                let error = round(format, 9, sign * too_large).unwrap_err();
                assert!(error.contains(&format!("too large for {format}")), "{error}");
            }
        }
        assert_eq!(round(Format::F32, 9, f32::MAX), Ok(()));
    }
}
