//! Low-bit copies of Q4_0 blocks.

use half::f16;
use wick_kernels::LOW_QUANTS;

/// Bytes of a block of Q4_0.
const BLOCK: usize = 18;

/// Replaces each block of Q4_0, row by row, by the nearest that has [`LOW_QUANTS`] alone.
pub(crate) fn round_to_low_bits(blocks: &mut [u8]) {
    blocks.as_chunks_mut::<BLOCK>().0.iter_mut().for_each(round_block);
}

fn round_block(block: &mut [u8; BLOCK]) {
    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
    let quants = |i: usize| [block[2 + i] & 15, block[2 + i] >> 4];
    let weights: [[f32; 2]; 16] = std::array::from_fn(|i| quants(i).map(|q| f32::from(q) - 8.0));
    let step = best_step(weights.as_flattened());
    block[..2].copy_from_slice(&f16::from_f32(scale * step).to_le_bytes());
    for (byte, [low, high]) in block[2..].iter_mut().zip(weights) {
        *byte = LOW_QUANTS[level(low, step)] | LOW_QUANTS[level(high, step)] << 4;
    }
}

/// The scale, in scales of the block, at which the squares of the errors are least.
fn best_step(weights: &[f32]) -> f32 {
    let steps = (4..=32).map(|i| i as f32 / 10.0).map(|step| refined(weights, step));
    let error = |step: f32| {
        weights.iter().map(|w| (w - step * value(level(*w, step))).powi(2)).sum::<f32>()
    };
    steps.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(1.0)
}

/// The best scale for the levels that another one leads to.
fn refined(weights: &[f32], step: f32) -> f32 {
    let values = weights.iter().map(|w| (w, value(level(*w, step))));
    let (both, squares) = values.fold((0.0, 0.0), |(b, s), (w, v)| (b + w * v, s + v * v));
    both / squares
}

/// Which of the four levels is nearest.
fn level(weight: f32, step: f32) -> usize {
    ((weight / step + 4.0) / 2.0).clamp(0.0, 3.0) as usize
}

/// What a level stands for, in scales.
fn value(level: usize) -> f32 {
    f32::from(LOW_QUANTS[level]) - 8.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_four_values_are_kept() {
        let mut block = [0; BLOCK];
        block[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        (0..16).for_each(|i| block[2 + i] = LOW_QUANTS[i % 4] | LOW_QUANTS[i / 4] << 4);
        let before = block;
        round_to_low_bits(&mut block);
        assert_eq!(block, before);
    }

    #[test]
    fn zeros_and_numbers_that_are_none_are_no_trouble() {
        for scale in [0u16, 0x7c00, 0x7e00, 0xfbff] {
            let mut block = [0x88; BLOCK];
            block[..2].copy_from_slice(&scale.to_le_bytes());
            round_to_low_bits(&mut block);
            assert!(block[2..].iter().all(|b| LOW_QUANTS.contains(&(b & 15))));
        }
    }
}
