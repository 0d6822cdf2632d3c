//! Floats to blocks, as llama.cpp's reference quantizers do it.

use half::{bf16, f16};
use wick_kernels::Format;

/// The formats that [`quantize`] writes.
pub const QUANTIZABLE: [Format; 6] =
    [Format::F32, Format::F16, Format::BF16, Format::Q4_0, Format::Q8_0, Format::Q6_K];

/// Appends `row`, whole blocks of weights, to `out` in a format; `false` if it is none of
/// [`QUANTIZABLE`]. Q6_K is any valid encoding, the others are llama.cpp's to the bit.
///
/// # Panics
/// If the row is no whole number of blocks.
#[must_use]
pub fn quantize(format: Format, row: &[f32], out: &mut Vec<u8>) -> bool {
    assert!(row.len().is_multiple_of(format.block_len()), "{format}: whole blocks");
    match format {
        Format::F32 => out.extend(row.iter().flat_map(|x| x.to_le_bytes())),
        Format::F16 => out.extend(row.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
        Format::BF16 => out.extend(row.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes())),
        Format::Q4_0 => row.as_chunks().0.iter().for_each(|x| out.extend(q4_0(x))),
        Format::Q8_0 => row.as_chunks().0.iter().for_each(|x| out.extend(q8_0(x))),
        Format::Q6_K => row.as_chunks().0.iter().for_each(|x| out.extend(q6_k(x))),
        _ => return false,
    }
    true
}

/// The value of largest magnitude, with its sign; the first of equals.
fn extreme(x: &[f32]) -> f32 {
    let largest = x.iter().fold(0f32, |m, v| m.max(v.abs()));
    x.iter().copied().find(|v| v.abs() == largest).unwrap_or(0.0)
}

fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The value of largest magnitude becomes −8.
fn q4_0(x: &[f32; 32]) -> [u8; 18] {
    let d = extreme(x) / -8.0;
    let id = inverse(d);
    let quant = |v: f32| ((v * id + 8.5) as i32).min(15) as u8;
    let mut block = [0; 18];
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (j, byte) in block[2..].iter_mut().enumerate() {
        *byte = quant(x[j]) | quant(x[j + 16]) << 4;
    }
    block
}

/// The largest magnitude becomes 127; halves are rounded away from zero.
fn q8_0(x: &[f32; 32]) -> [u8; 34] {
    let d = extreme(x).abs() / 127.0;
    let id = inverse(d);
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (byte, v) in block[2..].iter_mut().zip(x) {
        *byte = ((v * id).round() as i8).cast_unsigned();
    }
    block
}

/// In each group of 16 the value of largest magnitude becomes −32, as near as an 8-bit scale allows.
fn q6_k(x: &[f32; 256]) -> [u8; 210] {
    let mut scales = [0f32; 16];
    for (scale, group) in scales.iter_mut().zip(x.chunks_exact(16)) {
        *scale = extreme(group) / -32.0;
    }
    let d = f16::from_f32(extreme(&scales) / -128.0);
    let id = inverse(d.to_f32());
    let mut block = [0; 210];
    let (quants, sums) = block.split_at_mut(192);
    let (low, high) = quants.split_at_mut(128);
    sums[16..].copy_from_slice(&d.to_le_bytes());
    for (group, values) in x.chunks_exact(16).enumerate() {
        let scale = (scales[group] * id).round().clamp(-128.0, 127.0) as i8;
        sums[group] = scale.cast_unsigned();
        let id = inverse(d.to_f32() * f32::from(scale));
        for (i, v) in values.iter().enumerate() {
            let q = ((v * id).round().clamp(-32.0, 31.0) as i32 + 32) as u8;
            // Each half of 128 weights has four runs of 32: the low nibbles of two and the high
            // nibbles of two share bytes, and the two upper bits of all four share one.
            let at = group * 16 + i;
            let (half, run, l) = (at / 128, at % 128 / 32, at % 32);
            low[half * 64 + run % 2 * 32 + l] |= (q & 15) << (run / 2 * 4);
            high[half * 32 + l] |= (q >> 4) << (run * 2);
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use wick_kernels::scalar;

    fn values(n: usize) -> Vec<f32> {
        let mut random = Random::new(&[7]);
        (0..n).map(|i| random.normal() * (1.0 + (i / 32) as f32)).collect()
    }

    fn there_and_back(format: Format, row: &[f32]) -> Vec<f32> {
        let mut bytes = Vec::new();
        assert!(quantize(format, row, &mut bytes));
        assert_eq!(bytes.len(), format.row_bytes(row.len()).unwrap());
        let mut back = vec![f32::NAN; row.len()];
        scalar::dequantize(format, &bytes, &mut back);
        back
    }

    #[test]
    fn values_come_back_within_a_step() {
        let row = values(1024);
        // Steps in the largest magnitude of a group; the positive end of Q4_0 is cut at 7 of 8.
        for (format, group, step) in [
            (Format::F32, 1, 0.0),
            (Format::F16, 1, 1.0 / 1024.0),
            (Format::BF16, 1, 1.0 / 128.0),
            (Format::Q4_0, 32, 1.001 / 8.0),
            (Format::Q8_0, 32, 0.51 / 127.0 + 1.0 / 2048.0),
            (Format::Q6_K, 256, 1.1 / 32.0),
        ] {
            let back = there_and_back(format, &row);
            for (old, new) in row.chunks(group).zip(back.chunks(group)) {
                let most = step * extreme(old).abs();
                for (a, b) in old.iter().zip(new) {
                    assert!((a - b).abs() <= most, "{format}: {a} became {b}, {most} allowed");
                }
            }
        }
    }

    #[test]
    fn what_blocks_can_hold_comes_back_exactly() {
        // Quants −8 … 7, or −32 … 31, times powers of two.
        let q4: Vec<f32> = (0..256).map(|i| ((i % 16) as f32 - 8.0) * 0.25).collect();
        assert_eq!(there_and_back(Format::Q4_0, &q4), q4);
        let q6 = |i: usize| if i.is_multiple_of(16) { -32.0 } else { (i * 7 % 64) as f32 - 32.0 };
        let q6: Vec<f32> = (0..512).map(|i| q6(i) * 0.5).collect();
        assert_eq!(there_and_back(Format::Q6_K, &q6), q6);
        for format in QUANTIZABLE {
            assert_eq!(there_and_back(format, &[0.0; 512]), [0.0; 512], "{format}");
        }
    }

    #[test]
    fn quants_are_those_of_the_rules() {
        let mut x = [0.0; 32];
        (x[0], x[1], x[16], x[17]) = (-2.0, 2.0, 1.1, -0.1);
        let block = q4_0(&x);
        // d = 0.25; 2.0 would be quant 16, which is cut to 15; 1.1 is 12.9, cut to 12.
        assert_eq!(block[..4], [0x00, 0x34, 12 << 4, 15 | 8 << 4]);
        let mut x = [0.0; 32];
        (x[0], x[1], x[2]) = (-127.0, 2.5, -2.5);
        assert_eq!(q8_0(&x)[..5], [0x00, 0x3c, 0x81, 3, 0xfd]);
    }

    #[test]
    fn other_formats_are_refused() {
        assert!(!quantize(Format::Q4_K, &[0.0; 256], &mut Vec::new()));
    }
}
