//! The number formats in which GGUF stores tensors (GGUF specification, `ggml_type`).

use core::fmt;

/// How a row of weights is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "the formats' own names")]
pub enum Format {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a single.
    BF16,
    /// 32 weights: scale, 4-bit values around 8.
    Q4_0,
    /// 32 weights: scale, minimum, 4-bit values.
    Q4_1,
    /// 32 weights: scale, 5-bit values around 16.
    Q5_0,
    /// 32 weights: scale, minimum, 5-bit values.
    Q5_1,
    /// 32 weights: scale, 8-bit values.
    Q8_0,
    /// 256 weights in 16 groups: 2-bit values, 4-bit scales and minimums.
    Q2_K,
    /// 256 weights in 16 groups: 3-bit values, 6-bit scales.
    Q3_K,
    /// 256 weights in 8 groups: 4-bit values, 6-bit scales and minimums.
    Q4_K,
    /// 256 weights in 8 groups: 5-bit values, 6-bit scales and minimums.
    Q5_K,
    /// 256 weights in 16 groups: 6-bit values, 8-bit scales.
    Q6_K,
}

/// The form of an activation row that a weight format is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the formats' own names")]
pub enum Encoding {
    /// Plain `f32`.
    F32,
    /// 8-bit values, one scale for 32.
    Q8_0,
    /// 8-bit values, one scale for 256, sums of 16.
    Q8_K,
}

impl Format {
    /// Every format, in the order of the tables that are indexed by format.
    pub const ALL: [Format; 13] = [
        Format::F32,
        Format::F16,
        Format::BF16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q2_K,
        Format::Q3_K,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
    ];

    /// The format with this number in a GGUF tensor table, if it is one that wick computes with.
    pub const fn from_ggml(number: u32) -> Option<Format> {
        Some(match number {
            0 => Format::F32,
            1 => Format::F16,
            2 => Format::Q4_0,
            3 => Format::Q4_1,
            6 => Format::Q5_0,
            7 => Format::Q5_1,
            8 => Format::Q8_0,
            10 => Format::Q2_K,
            11 => Format::Q3_K,
            12 => Format::Q4_K,
            13 => Format::Q5_K,
            14 => Format::Q6_K,
            30 => Format::BF16,
            _ => return None,
        })
    }

    /// The number of this format in a GGUF tensor table (`ggml_type`).
    pub const fn ggml(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::Q4_0 => 2,
            Format::Q4_1 => 3,
            Format::Q5_0 => 6,
            Format::Q5_1 => 7,
            Format::Q8_0 => 8,
            Format::Q2_K => 10,
            Format::Q3_K => 11,
            Format::Q4_K => 12,
            Format::Q5_K => 13,
            Format::Q6_K => 14,
            Format::BF16 => 30,
        }
    }

    /// Weights in one block.
    pub const fn block_len(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::BF16 => 1,
            Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 | Format::Q8_0 => 32,
            Format::Q2_K | Format::Q3_K | Format::Q4_K | Format::Q5_K | Format::Q6_K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::BF16 => 2,
            Format::Q4_0 => 18,
            Format::Q4_1 => 20,
            Format::Q5_0 => 22,
            Format::Q5_1 => 24,
            Format::Q8_0 => 34,
            Format::Q2_K => 84,
            Format::Q3_K => 110,
            Format::Q4_K => 144,
            Format::Q5_K => 176,
            Format::Q6_K => 210,
        }
    }

    /// Bytes of a row of `cols` weights, or `None` if `cols` is no multiple of the block length
    /// (or the size does not fit).
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The form of activations that this format is multiplied with, as in llama.cpp (which also
    /// rounds activations to 16 bits for [`Format::F16`] and [`Format::BF16`]; wick does not).
    pub const fn encoding(self) -> Encoding {
        match self.block_len() {
            32 => Encoding::Q8_0,
            256 => Encoding::Q8_K,
            _ => Encoding::F32,
        }
    }

    /// The name as GGUF tools print it.
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::BF16 => "BF16",
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q5_0 => "Q5_0",
            Format::Q5_1 => "Q5_1",
            Format::Q8_0 => "Q8_0",
            Format::Q2_K => "Q2_K",
            Format::Q3_K => "Q3_K",
            Format::Q4_K => "Q4_K",
            Format::Q5_K => "Q5_K",
            Format::Q6_K => "Q6_K",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_indexed_by_format() {
        for (i, format) in Format::ALL.into_iter().enumerate() {
            assert_eq!(format as usize, i);
        }
    }

    #[test]
    fn numbers_name_formats() {
        for format in Format::ALL {
            assert_eq!(Format::from_ggml(format.ggml()), Some(format));
        }
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(Format::Q4_0.row_bytes(1536), Some(864));
        assert_eq!(Format::Q6_K.row_bytes(1536), Some(1260));
        assert_eq!(Format::Q4_0.row_bytes(33), None);
        assert_eq!(Format::F32.row_bytes(usize::MAX), None);
    }
}
