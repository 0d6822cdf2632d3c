//! The types of weights that files name by a number, whether wick computes with them or not.

use core::fmt;

/// A type of weights by its number in a tensor table, `ggml_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GgmlType(pub u32);

/// A row: number, name, weights in a block, bytes of a block.
struct Row(u32, &'static str, usize, usize);

/// All that ggml has or had; it never gives a number out twice. Those from 31 to 33 and 36 to 38 were
/// other orders of the same blocks, which is now made when a model is loaded.
#[rustfmt::skip]
const TABLE: [Row; 42] = [
    Row(0, "F32", 1, 4),           Row(1, "F16", 1, 2),           Row(2, "Q4_0", 32, 18),
    Row(3, "Q4_1", 32, 20),        Row(4, "Q4_2", 16, 10),        Row(5, "Q4_3", 16, 12),
    Row(6, "Q5_0", 32, 22),        Row(7, "Q5_1", 32, 24),        Row(8, "Q8_0", 32, 34),
    Row(9, "Q8_1", 32, 36),        Row(10, "Q2_K", 256, 84),      Row(11, "Q3_K", 256, 110),
    Row(12, "Q4_K", 256, 144),     Row(13, "Q5_K", 256, 176),     Row(14, "Q6_K", 256, 210),
    Row(15, "Q8_K", 256, 292),     Row(16, "IQ2_XXS", 256, 66),   Row(17, "IQ2_XS", 256, 74),
    Row(18, "IQ3_XXS", 256, 98),   Row(19, "IQ1_S", 256, 50),     Row(20, "IQ4_NL", 32, 18),
    Row(21, "IQ3_S", 256, 110),    Row(22, "IQ2_S", 256, 82),     Row(23, "IQ4_XS", 256, 136),
    Row(24, "I8", 1, 1),           Row(25, "I16", 1, 2),          Row(26, "I32", 1, 4),
    Row(27, "I64", 1, 8),          Row(28, "F64", 1, 8),          Row(29, "IQ1_M", 256, 56),
    Row(30, "BF16", 1, 2),         Row(31, "Q4_0_4_4", 32, 18),   Row(32, "Q4_0_4_8", 32, 18),
    Row(33, "Q4_0_8_8", 32, 18),   Row(34, "TQ1_0", 256, 54),     Row(35, "TQ2_0", 256, 66),
    Row(36, "IQ4_NL_4_4", 32, 18), Row(37, "IQ4_NL_4_8", 32, 18), Row(38, "IQ4_NL_8_8", 32, 18),
    Row(39, "MXFP4", 32, 17),      Row(40, "NVFP4", 64, 36),      Row(41, "Q1_0", 128, 18),
];

/// The table is searched by number.
const _: () = {
    let mut i = 0;
    while i < TABLE.len() {
        assert!(TABLE[i].0 as usize == i, "rows in the order of numbers");
        i += 1;
    }
};

impl GgmlType {
    fn row(self) -> Option<&'static Row> {
        TABLE.get(self.0 as usize)
    }

    /// Its name, if it is one of ggml's.
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|row| row.1)
    }

    /// Weights in a block and bytes of one, if it is one of ggml's.
    pub(crate) fn block(self) -> Option<(usize, usize)> {
        self.row().map(|row| (row.2, row.3))
    }

    /// Whether its numbers are integers, which are no weights.
    pub(crate) fn is_integer(self) -> bool {
        (24..=27).contains(&self.0)
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "ggml type {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wick_kernels::Format;

    #[test]
    fn formats_are_types_of_the_same_name_and_size() {
        for format in Format::ALL {
            let found = GgmlType(format.ggml());
            assert_eq!(found.name(), Some(format.name()));
            assert_eq!(found.block(), Some((format.block_len(), format.block_bytes())));
        }
    }
}
