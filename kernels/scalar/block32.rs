//! Blocks of 32 weights: one scale, sometimes a minimum, quants of 4, 5 or 8 bits.

use super::row::Row;
use crate::{Activation, Format, Q8};
use core::marker::PhantomData;
use half::f16;

/// A block of 32, taken apart: weight `i` is `scale · quants[i] + minimum`.
pub(crate) struct Block {
    scale: f32,
    minimum: f32,
    quants: [i8; 32],
}

/// How a format's block is taken apart.
pub(crate) trait Unpack {
    const FORMAT: Format;
    fn unpack(block: &[u8]) -> Block;
}

/// Scale and quants of 4 bits around 8.
pub(crate) struct Q4_0;
/// Scale, minimum and quants of 4 bits.
pub(crate) struct Q4_1;
/// Scale and quants of 5 bits around 16.
pub(crate) struct Q5_0;
/// Scale, minimum and quants of 5 bits.
pub(crate) struct Q5_1;
/// Scale and quants of 8 bits.
pub(crate) struct Q8_0;

impl Unpack for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    #[inline(always)]
    fn unpack(block: &[u8]) -> Block {
        let quants = nibbles(&block[2..18]).map(|q| q as i8 - 8);
        Block { scale: half_at(block, 0), minimum: 0.0, quants }
    }
}

impl Unpack for Q4_1 {
    const FORMAT: Format = Format::Q4_1;
    #[inline(always)]
    fn unpack(block: &[u8]) -> Block {
        let quants = nibbles(&block[4..20]).map(|q| q as i8);
        Block { scale: half_at(block, 0), minimum: half_at(block, 2), quants }
    }
}

impl Unpack for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    #[inline(always)]
    fn unpack(block: &[u8]) -> Block {
        let quants = with_fifth_bit(&block[2..6], nibbles(&block[6..22])).map(|q| q as i8 - 16);
        Block { scale: half_at(block, 0), minimum: 0.0, quants }
    }
}

impl Unpack for Q5_1 {
    const FORMAT: Format = Format::Q5_1;
    #[inline(always)]
    fn unpack(block: &[u8]) -> Block {
        let quants = with_fifth_bit(&block[4..8], nibbles(&block[8..24])).map(|q| q as i8);
        Block { scale: half_at(block, 0), minimum: half_at(block, 2), quants }
    }
}

impl Unpack for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    #[inline(always)]
    fn unpack(block: &[u8]) -> Block {
        let mut quants = [0; 32];
        for (q, byte) in quants.iter_mut().zip(&block[2..34]) {
            *q = *byte as i8;
        }
        Block { scale: half_at(block, 0), minimum: 0.0, quants }
    }
}

/// `total` and the product of a block of weights with block `i` of an activation row.
#[inline(always)]
pub(super) fn add_block<U: Unpack>(mut total: f32, block: &[u8], x: &Q8<'_>, i: usize) -> f32 {
    let w = U::unpack(block);
    let mut sum = 0i32;
    for (q, a) in w.quants.iter().zip(&x.quants[i * 32..][..32]) {
        sum += i32::from(*q) * i32::from(*a);
    }
    total += sum as f32 * (w.scale * x.scales[i]);
    if matches!(U::FORMAT, Format::Q4_1 | Format::Q5_1) {
        total += w.minimum * (x.scales[i] * f32::from(x.sums[i]));
    }
    total
}

/// A row of blocks of 32 in the format `U`.
pub(crate) struct Rows32<U>(PhantomData<U>);

impl<U: Unpack> Row for Rows32<U> {
    const FORMAT: Format = U::FORMAT;

    #[inline(always)]
    fn dot(row: &[u8], x: &Activation<'_>) -> f32 {
        let blocks = row.chunks_exact(U::FORMAT.block_bytes()).enumerate();
        blocks.fold(0.0, |total, (i, block)| add_block::<U>(total, block, &x.q8_0, i))
    }

    fn for_each(row: &[u8], mut each: impl FnMut(usize, f32)) {
        for (i, block) in row.chunks_exact(U::FORMAT.block_bytes()).enumerate() {
            let w = U::unpack(block);
            for (j, q) in w.quants.iter().enumerate() {
                each(i * 32 + j, w.scale * f32::from(*q) + w.minimum);
            }
        }
    }
}

/// The `f16` at a byte offset of a block.
#[inline(always)]
pub(super) fn half_at(block: &[u8], offset: usize) -> f32 {
    f16::from_le_bytes([block[offset], block[offset + 1]]).to_f32()
}

/// 16 bytes as 32 values: the low nibbles are the first half, the high nibbles the second.
#[inline(always)]
fn nibbles(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (j, byte) in bytes.iter().enumerate() {
        out[j] = byte & 15;
        out[j + 16] = byte >> 4;
    }
    out
}

/// Adds bit `j` of `high` to quant `j` as its fifth bit.
#[inline(always)]
fn with_fifth_bit(high: &[u8], mut quants: [u8; 32]) -> [u8; 32] {
    for (j, q) in quants.iter_mut().enumerate() {
        *q |= (high[j / 8] >> (j % 8) & 1) << 4;
    }
    quants
}
