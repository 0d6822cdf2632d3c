//! Floats to blocks, as llama.cpp's reference quantizers do it.

mod q6_k;
mod search;

use half::{bf16, f16};
use q6_k::q6_k;
use search::Quants;
use wick_kernels::Format;

/// The formats that [`quantize`] writes.
pub const QUANTIZABLE: [Format; 6] =
    [Format::F32, Format::F16, Format::BF16, Format::Q4_0, Format::Q8_0, Format::Q6_K];

/// Appends `row`, whole blocks of weights, to `out` in a format; `false` if it is none of
/// [`QUANTIZABLE`]. The bytes are llama.cpp's, where that is built without fused multiply-adds (its own
/// build for x86-64 is, whatever the processor).
///
/// # Panics
/// If the row is no whole number of blocks.
#[must_use]
pub fn quantize(format: Format, row: &[f32], out: &mut Vec<u8>) -> bool {
    quantize_by(format, row, None, out)
}

/// The same where `importance` says what the squared error of each weight of the row counts, for formats whose rule
/// asks for that: Q4_0 and Q6_K.
///
/// # Panics
/// If the row is no whole number of blocks, or `importance` has another length.
#[must_use]
pub fn quantize_by(
    format: Format,
    row: &[f32],
    importance: Option<&[f32]>,
    out: &mut Vec<u8>,
) -> bool {
    assert!(row.len().is_multiple_of(format.block_len()), "{format}: whole blocks");
    assert!(importance.is_none_or(|all| all.len() == row.len()), "one importance a weight");
    match format {
        Format::F32 => out.extend(row.iter().flat_map(|x| x.to_le_bytes())),
        Format::F16 => out.extend(row.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
        Format::BF16 => out.extend(row.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes())),
        Format::Q4_0 => q4_0_row(row, importance, out),
        Format::Q8_0 => row.as_chunks().0.iter().for_each(|x| out.extend(q8_0(x))),
        Format::Q6_K => {
            let mut important = importance.map(|all| all.as_chunks().0.iter());
            for x in row.as_chunks().0 {
                out.extend(q6_k(x, important.as_mut().and_then(Iterator::next)));
            }
        }
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

fn q4_0_row(row: &[f32], importance: Option<&[f32]>, out: &mut Vec<u8>) {
    let Some(importance) = importance else {
        return row.as_chunks().0.iter().for_each(|x| out.extend(q4_0(x)));
    };
    let mean = row.iter().fold(0.0, |sum, x| sum + x * x) / row.len() as f32;
    for (x, importance) in row.as_chunks::<32>().0.iter().zip(importance.as_chunks::<32>().0) {
        let counts = std::array::from_fn(|i| importance[i] * (mean + x[i] * x[i]).sqrt());
        let Quants { scale, quants } = search::best(x, 8, &counts);
        let quants = quants.map(|quant| (quant + 8) as u8);
        out.extend(f16::from_f32(scale).to_le_bytes());
        out.extend((0..16).map(|j| quants[j] | quants[j + 16] << 4));
    }
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

    /// What llama.cpp makes of weights that are random, or hard to round (`tests/models/quantized.py`).
    #[test]
    fn blocks_are_those_of_llama_cpp() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/quantized/");
        let bytes = |name: &str| std::fs::read(format!("{folder}{name}")).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            bytes(name).as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
        };
        let (weights, importance) = (floats("weights.f32"), floats("importance.f32"));
        for (format, name, importance) in [
            (Format::Q4_0, "q4_0.bin", None),
            (Format::Q8_0, "q8_0.bin", None),
            (Format::Q6_K, "q6_k.bin", None),
            (Format::Q4_0, "q4_0-importance.bin", Some(&importance[..])),
            (Format::Q8_0, "q8_0.bin", Some(&importance)),
            (Format::Q6_K, "q6_k-importance.bin", Some(&importance)),
        ] {
            let expected = bytes(name);
            let rows = weights.chunks(512).zip(expected.chunks(format.row_bytes(512).unwrap()));
            for (i, (row, expected)) in rows.enumerate() {
                let mut found = Vec::new();
                assert!(quantize_by(format, row, importance, &mut found));
                assert!(found == expected, "{name}, row {i}");
            }
        }
    }

    #[test]
    fn other_formats_are_refused() {
        assert!(!quantize(Format::Q4_K, &[0.0; 256], &mut Vec::new()));
    }
}
