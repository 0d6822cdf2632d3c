//! Q6_K: sixteen groups of sixteen weights, with a scale of 8 bits each and one of 16 for all.

use super::search::{Quants, best, nearest, quant};
use super::{extreme, inverse};
use half::f16;

/// Weights of a block, and of a group.
const BLOCK: usize = 256;
const GROUP: usize = 16;
/// Quants are from -32 to 31.
const MOST: i32 = 32;
/// Below this the largest scale counts as zero.
const LEAST: f32 = 1e-15;

/// A block of weights; what the error of each counts is its square, or as `importance` says.
pub(super) fn q6_k(x: &[f32; BLOCK], importance: Option<&[f32; BLOCK]>) -> [u8; 210] {
    let (groups, _) = x.as_chunks::<GROUP>();
    let importance = importance.map(|all| all.as_chunks::<GROUP>().0);
    let groups: [Quants<GROUP>; 16] = std::array::from_fn(|i| match importance {
        Some(importance) => best(&groups[i], MOST, &importance[i]),
        None => best(&groups[i], MOST, &groups[i].map(|x| x * x)),
    });
    let largest = extreme(&groups.each_ref().map(|group| group.scale));
    if largest.abs() < LEAST {
        return [0; 210];
    }
    // The largest scale becomes -128.
    let to_scale = -128.0 / largest;
    let d = f16::from_f32(inverse(to_scale));
    let mut block = [0; 210];
    block[208..].copy_from_slice(&d.to_le_bytes());
    for (i, (group, x)) in groups.iter().zip(x.as_chunks::<GROUP>().0).enumerate() {
        let scale = nearest(to_scale * group.scale).min(127) as i8;
        block[192 + i] = scale.cast_unsigned();
        let step = d.to_f32() * f32::from(scale);
        // A group whose scale is lost keeps the quants that it had.
        let quants = match step == 0.0 {
            true => group.quants,
            false => x.map(|x| quant(x / step, MOST) as i8),
        };
        put(&mut block, i, &quants);
    }
    block
}

/// Puts a group's quants where they lie. Each half of 128 weights has four runs of 32: the low nibbles of two and the
/// high nibbles of two share bytes, and the two upper bits of all four share one.
fn put(block: &mut [u8; 210], group: usize, quants: &[i8; GROUP]) {
    for (i, quant) in quants.iter().enumerate() {
        let quant = (i32::from(*quant) + MOST) as u8;
        let at = group * GROUP + i;
        let (half, run, l) = (at / 128, at % 128 / 32, at % 32);
        block[half * 64 + run % 2 * 32 + l] |= (quant & 15) << (run / 2 * 4);
        block[128 + half * 32 + l] |= (quant >> 4) << (run * 2);
    }
}
