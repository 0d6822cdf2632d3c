//! Low-bit copies of Q4_0 blocks.
//!
//! A block's weights are whole numbers from −8 to 7, in scales of the block, so all that depends on a
//! weight and a step alone is computed once for each of the sixteen, for all steps side by side.

use half::f16;
use std::sync::LazyLock;
use wick_kernels::LOW_QUANTS;

/// Bytes of a block of Q4_0.
const BLOCK: usize = 18;
/// Values that a weight can have.
const VALUES: usize = 16;
/// Steps that are tried side by side: as many as lead to levels of their own, and some twice.
const STEPS: usize = 16;

/// Something for each step.
type Lanes = [f32; STEPS];

/// What the levels of each step stand for, for each value of a weight.
static TARGETS: LazyLock<[Lanes; VALUES]> = LazyLock::new(|| {
    let steps = (4..=32).map(|i| i as f32 / 10.0);
    let mut targets: Vec<[f32; VALUES]> =
        steps.map(|step| std::array::from_fn(|q| target(weight(q), step))).collect();
    targets.dedup();
    assert!(targets.len() <= STEPS, "a lane for each of {} steps", targets.len());
    std::array::from_fn(|q| std::array::from_fn(|i| targets.get(i).unwrap_or(&targets[0])[q]))
});

/// Replaces each block of Q4_0, row by row, by the nearest that has [`LOW_QUANTS`] alone.
pub(crate) fn round_to_low_bits(blocks: &mut [u8]) {
    blocks.as_chunks_mut::<BLOCK>().0.iter_mut().for_each(round_block);
}

fn round_block(block: &mut [u8; BLOCK]) {
    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
    let step = best_step(&block[2..]);
    let levels: [u8; VALUES] = std::array::from_fn(|q| {
        let level = (target(weight(q), step) + 3.0) / 2.0;
        LOW_QUANTS[level as usize]
    });
    block[..2].copy_from_slice(&f16::from_f32(scale * step).to_le_bytes());
    for byte in &mut block[2..] {
        *byte = levels[usize::from(*byte & 15)] | levels[usize::from(*byte >> 4)] << 4;
    }
}

/// The scale, in scales of the block, at which the squares of the errors of these quants are least:
/// the first such of those that the levels of the steps lead to.
fn best_step(quants: &[u8]) -> f32 {
    let steps = refined(quants);
    let errors: [Lanes; VALUES] = std::array::from_fn(|q| squared_errors(weight(q), &steps));
    let mut sums = [0.0; STEPS];
    for byte in quants {
        add(&mut sums, &errors[usize::from(byte & 15)]);
        add(&mut sums, &errors[usize::from(byte >> 4)]);
    }
    let best = (0..STEPS).min_by(|a, b| sums[*a].total_cmp(&sums[*b]));
    best.map_or(1.0, |best| steps[best])
}

/// The best scale for the levels of each step. All sums are whole numbers, so their order is free.
fn refined(quants: &[u8]) -> Lanes {
    let mut counts = [0u8; VALUES];
    for byte in quants {
        counts[usize::from(byte & 15)] += 1;
        counts[usize::from(byte >> 4)] += 1;
    }
    let (mut both, mut squares) = ([0.0; STEPS], [0.0; STEPS]);
    for (q, count) in counts.into_iter().enumerate() {
        let (count, targets) = (f32::from(count), &TARGETS[q]);
        for i in 0..STEPS {
            both[i] += count * weight(q) * targets[i];
            squares[i] += count * targets[i] * targets[i];
        }
    }
    std::array::from_fn(|i| both[i] / squares[i])
}

fn squared_errors(weight: f32, steps: &Lanes) -> Lanes {
    std::array::from_fn(|i| {
        let error = weight - steps[i] * target(weight, steps[i]);
        error * error
    })
}

fn add(sums: &mut Lanes, more: &Lanes) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// A weight, in scales of its block, from its quant.
fn weight(quant: usize) -> f32 {
    quant as f32 - 8.0
}

/// What the nearest of the four levels stands for, in steps: −3, −1, 1 or 3.
fn target(weight: f32, step: f32) -> f32 {
    let level = (weight / step + 4.0) / 2.0;
    let reached = |least: f32| if level >= least { 2.0 } else { 0.0 };
    -3.0 + reached(1.0) + reached(2.0) + reached(3.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The search as it is meant: each step that is tried, one after the other.
    fn round_plainly(block: &mut [u8; BLOCK]) {
        let level = |w: f32, step: f32| ((w / step + 4.0) / 2.0).clamp(0.0, 3.0) as usize;
        let value = |level: usize| f32::from(LOW_QUANTS[level]) - 8.0;
        let quants = |i: usize| [block[2 + i] & 15, block[2 + i] >> 4];
        let weights: [[f32; 2]; 16] =
            std::array::from_fn(|i| quants(i).map(|q| f32::from(q) - 8.0));
        let weights = weights.as_flattened();
        let refined = |step: f32| {
            let values = weights.iter().map(|w| (w, value(level(*w, step))));
            let (both, squares) = values.fold((0.0, 0.0), |(b, s), (w, v)| (b + w * v, s + v * v));
            both / squares
        };
        let error = |step: f32| -> f32 {
            weights.iter().map(|w| (w - step * value(level(*w, step))).powi(2)).sum()
        };
        let steps = (4..=32).map(|i| refined(i as f32 / 10.0));
        let step = steps.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap();
        let quants: Vec<u8> = weights.iter().map(|w| LOW_QUANTS[level(*w, step)]).collect();
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        block[..2].copy_from_slice(&f16::from_f32(scale * step).to_le_bytes());
        let bytes = quants.as_chunks::<2>().0.iter().map(|[low, high]| low | high << 4);
        block[2..].iter_mut().zip(bytes).for_each(|(byte, new)| *byte = new);
    }

    #[test]
    fn blocks_are_those_of_the_plain_search() {
        let mut random = Random::new(&[7]);
        for round in 0..20_000 {
            let mut block = [0; BLOCK];
            // From blocks of few values to blocks of all, and some that are nearly constant.
            let (mask, or) = ([0xff, 0x77, 0x33, 0x88, 0x1f][round % 5], (round / 5 % 16) as u8);
            for byte in &mut block {
                *byte = random.bits() as u8 & mask | or;
            }
            let mut plain = block;
            round_plainly(&mut plain);
            round_to_low_bits(&mut block);
            assert_eq!(block, plain, "block {round}");
        }
    }

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
