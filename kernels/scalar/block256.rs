//! Super-blocks of 256 weights ("K-quants"): groups with small integer scales of their own.

use super::block32::half_at;
use super::row::Row;
use crate::{Activation, Format};
use core::marker::PhantomData;

/// A super-block in 16 groups of 16, taken apart: weight `i` of group `g` is
/// `scale · scales[g] · quants[i] − minimum · minimums[g]`.
pub(crate) struct Block {
    scale: f32,
    minimum: f32,
    scales: [i32; 16],
    minimums: [i32; 16],
    quants: [i8; 256],
}

/// How a format's super-block is taken apart.
pub(crate) trait Unpack {
    const FORMAT: Format;
    fn unpack(block: &[u8]) -> Block;
}

/// Quants of 2 bits, scales and minimums of 4.
#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q2_K;
/// Quants of 3 bits, scales of 6.
#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q3_K;
/// Quants of 4 bits, scales and minimums of 6.
#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q4_K;
/// Quants of 5 bits, scales and minimums of 6.
#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q5_K;
/// Quants of 6 bits, scales of 8.
#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q6_K;

impl Unpack for Q2_K {
    const FORMAT: Format = Format::Q2_K;
    #[inline(always)]
    fn unpack(block: &[u8]) -> Block {
        let (packed, rest) = block.split_at(16);
        let mut scales = [0; 16];
        let mut minimums = [0; 16];
        for (g, byte) in packed.iter().enumerate() {
            scales[g] = i32::from(byte & 15);
            minimums[g] = i32::from(byte >> 4);
        }
        let quants = crumbs(&rest[..64]).map(|q| q as i8);
        Block { scale: half_at(rest, 64), minimum: half_at(rest, 66), scales, minimums, quants }
    }
}

impl Unpack for Q3_K {
    const FORMAT: Format = Format::Q3_K;
    #[inline(always)]
    fn unpack(block: &[u8]) -> Block {
        let (high, rest) = block.split_at(32);
        let (low, rest) = rest.split_at(64);
        let mut quants = crumbs(low).map(|q| q as i8);
        // A high bit that is not set takes 4 away.
        for (q, bit) in quants.iter_mut().zip(bit_planes(high)) {
            *q -= 4 * (1 - bit as i8);
        }
        let scales = signed_scales(&rest[..12]);
        Block { scale: half_at(rest, 12), minimum: 0.0, scales, minimums: [0; 16], quants }
    }
}

impl Unpack for Q4_K {
    const FORMAT: Format = Format::Q4_K;
    #[inline(always)]
    fn unpack(block: &[u8]) -> Block {
        let (scales, minimums) = scales_and_minimums(&block[4..16]);
        let quants = nibble_pairs(&block[16..144]).map(|q| q as i8);
        Block { scale: half_at(block, 0), minimum: half_at(block, 2), scales, minimums, quants }
    }
}

impl Unpack for Q5_K {
    const FORMAT: Format = Format::Q5_K;
    #[inline(always)]
    fn unpack(block: &[u8]) -> Block {
        let (scales, minimums) = scales_and_minimums(&block[4..16]);
        let mut quants = nibble_pairs(&block[48..176]).map(|q| q as i8);
        for (q, bit) in quants.iter_mut().zip(bit_planes(&block[16..48])) {
            *q += 16 * bit as i8;
        }
        Block { scale: half_at(block, 0), minimum: half_at(block, 2), scales, minimums, quants }
    }
}

impl Unpack for Q6_K {
    const FORMAT: Format = Format::Q6_K;
    #[inline(always)]
    fn unpack(block: &[u8]) -> Block {
        let (low, rest) = block.split_at(128);
        let (high, rest) = rest.split_at(64);
        // Each half of the weights has 64 bytes: low nibbles for its first 64, high for the rest.
        let mut quants = [0; 256];
        let crumbs = crumbs(high);
        for (i, (quants, crumbs)) in
            quants.chunks_exact_mut(64).zip(crumbs.chunks_exact(64)).enumerate()
        {
            let low = &low[i / 2 * 64..][..64];
            for ((q, byte), crumb) in quants.iter_mut().zip(low).zip(crumbs) {
                *q = (byte >> (i % 2 * 4) & 15 | crumb << 4) as i8 - 32;
            }
        }
        let mut scales = [0; 16];
        for (scale, byte) in scales.iter_mut().zip(rest) {
            *scale = i32::from(*byte as i8);
        }
        Block { scale: half_at(rest, 16), minimum: 0.0, scales, minimums: [0; 16], quants }
    }
}

/// A row of super-blocks in the format `U`.
pub(crate) struct Rows256<U>(PhantomData<U>);

impl<U: Unpack> Row for Rows256<U> {
    const FORMAT: Format = U::FORMAT;

    #[inline(always)]
    fn dot(row: &[u8], x: &Activation<'_>) -> f32 {
        let x = &x.q8_k;
        let mut total = 0f32;
        for (i, block) in row.chunks_exact(U::FORMAT.block_bytes()).enumerate() {
            let w = U::unpack(block);
            let (mut sum, mut minimums) = (0i32, 0i32);
            for g in 0..16 {
                let quants = &w.quants[g * 16..][..16];
                let values = &x.quants[i * 256 + g * 16..][..16];
                let products =
                    quants.iter().zip(values).map(|(q, a)| i32::from(*q) * i32::from(*a));
                sum += w.scales[g] * products.sum::<i32>();
                minimums += w.minimums[g] * i32::from(x.sums[i * 16 + g]);
            }
            total += x.scales[i] * w.scale * sum as f32;
            if !matches!(U::FORMAT, Format::Q3_K | Format::Q6_K) {
                total -= x.scales[i] * w.minimum * minimums as f32;
            }
        }
        total
    }

    fn for_each(row: &[u8], mut each: impl FnMut(usize, f32)) {
        for (i, block) in row.chunks_exact(U::FORMAT.block_bytes()).enumerate() {
            let w = U::unpack(block);
            for (j, q) in w.quants.iter().enumerate() {
                let scale = w.scale * w.scales[j / 16] as f32;
                let minimum = w.minimum * w.minimums[j / 16] as f32;
                each(i * 256 + j, scale * f32::from(*q) - minimum);
            }
        }
    }
}

/// 64 bytes as 256 values of 2 bits: each run of 32 bytes gives 128, bit pair after bit pair.
#[inline(always)]
fn crumbs(bytes: &[u8]) -> [u8; 256] {
    planes::<4, 2>(bytes)
}

/// 128 bytes as 256 values of 4 bits: each run of 32 bytes gives 32 low, then 32 high nibbles.
#[inline(always)]
fn nibble_pairs(bytes: &[u8]) -> [u8; 256] {
    planes::<2, 4>(bytes)
}

/// Each run of 32 bytes gives `N` runs of 32 values of `BITS` bits, from the lowest bits up.
#[inline(always)]
fn planes<const N: usize, const BITS: usize>(bytes: &[u8]) -> [u8; 256] {
    let mut out = [0; 256];
    for (plane, values) in out.chunks_exact_mut(32).enumerate() {
        let run = &bytes[plane / N * 32..][..32];
        for (value, byte) in values.iter_mut().zip(run) {
            *value = byte >> (plane % N * BITS) & ((1 << BITS) - 1);
        }
    }
    out
}

/// Bit `plane` of 32 bytes for each run of 32 values, in order: 0 or 1.
#[inline(always)]
fn bit_planes(bytes: &[u8]) -> [u8; 256] {
    let mut out = [0; 256];
    for (plane, values) in out.chunks_exact_mut(32).enumerate() {
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value = byte >> plane & 1;
        }
    }
    out
}

/// Eight 6-bit scales and minimums in 12 bytes, each spread over its two groups of 16.
#[inline(always)]
fn scales_and_minimums(s: &[u8]) -> ([i32; 16], [i32; 16]) {
    let [scales, minimums] = packed_scales(&core::array::from_fn(|i| s[i])).map(u64::to_le_bytes);
    let spread = |bytes: [u8; 8]| core::array::from_fn(|g| i32::from(bytes[g / 2]));
    (spread(scales), spread(minimums))
}

/// Eight 6-bit scales and minimums in 12 bytes as bytes, lowest first: the last four of each have
/// their low bits in the last 4 bytes, and their high bits where the first four leave room.
#[inline(always)]
pub(crate) fn packed_scales(s: &[u8; 12]) -> [u64; 2] {
    let word = |i: usize| u32::from_le_bytes([s[i], s[i + 1], s[i + 2], s[i + 3]]);
    let pack = |first: u32, low: u32| {
        let last = low & 0x0F0F_0F0F | first >> 2 & 0x3030_3030;
        u64::from(first & 0x3F3F_3F3F) | u64::from(last) << 32
    };
    [pack(word(0), word(8)), pack(word(4), word(8) >> 4)]
}

/// Sixteen 6-bit scales around 32 in 12 bytes: low nibbles in the first 8 bytes, high pairs in
/// the last 4.
#[inline(always)]
fn signed_scales(s: &[u8]) -> [i32; 16] {
    core::array::from_fn(|g| {
        let low = s[g % 8] >> (g / 8 * 4) & 15;
        let high = s[8 + g % 4] >> (g / 4 * 2) & 3;
        i32::from(low | high << 4) - 32
    })
}
