//! Reproducible random numbers and weights.

use wick_kernels::Format;

/// A generator of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A number from -1 to 1, evenly distributed.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `rows` rows of `cols` weights whose size is about `scale`.
    pub fn weights(&mut self, format: Format, rows: usize, cols: usize, scale: f32) -> Vec<u8> {
        let bytes = rows * format.row_bytes(cols).expect("rows of whole blocks");
        let mut out = Vec::with_capacity(bytes);
        while out.len() < bytes {
            self.block(format, scale, &mut out);
        }
        out
    }

    fn block(&mut self, format: Format, scale: f32, out: &mut Vec<u8>) {
        let start = out.len();
        match format {
            Format::F32 => return out.extend((scale * self.float()).to_le_bytes()),
            Format::F16 => return out.extend(half(scale * self.float()).to_le_bytes()),
            Format::BF16 => {
                return out
                    .extend(((scale * self.float()).to_bits() >> 16).to_le_bytes()[..2].iter());
            }
            _ => out.extend((0..format.block_bytes()).map(|_| self.bits() as u8)),
        }
        // Where the block keeps its f16 scale, its minimum, and the largest product of the rest.
        let (d, min, largest) = match format {
            Format::Q4_0 => (0, None, 8.0),
            Format::Q4_1 => (0, Some(2), 15.0),
            Format::Q5_0 => (0, None, 16.0),
            Format::Q5_1 => (0, Some(2), 31.0),
            Format::Q8_0 => (0, None, 128.0),
            Format::Q2_K => (80, Some(82), 3.0 * 15.0),
            Format::Q3_K => (108, None, 4.0 * 32.0),
            Format::Q4_K => (0, Some(2), 15.0 * 63.0),
            Format::Q5_K => (0, Some(2), 31.0 * 63.0),
            Format::Q6_K => (208, None, 32.0 * 128.0),
            Format::F32 | Format::F16 | Format::BF16 => unreachable!("handled above"),
        };
        let mut put = |at: usize, x: f32| {
            out[start + at..][..2].copy_from_slice(&half(x).to_le_bytes());
        };
        put(d, scale * (1.0 + 0.5 * self.float()) / largest);
        if let Some(at) = min {
            // Q4_1 and Q5_1 add the minimum; the others subtract it, times a scale of its own.
            let of = match format {
                Format::Q4_1 | Format::Q5_1 => -0.5,
                Format::Q2_K => 0.5 / 15.0,
                _ => 0.5 / 63.0,
            };
            put(at, scale * of);
        }
    }
}

/// The bits of a number in half precision, for small ones; what is too small becomes 0.
fn half(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    match exponent {
        1..=30 => sign | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16,
        e if e > 30 => sign | 0x7bff,
        _ => sign,
    }
}
