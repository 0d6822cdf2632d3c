//! Eight singles side by side.

use crate::scalar::vector::add_lanes;
use half::f16;

/// Eight lanes of singles. What is computed is the same bits for every implementation.
///
/// A variant's vectors are used only inside functions that have its features.
pub(crate) trait Lanes: Copy {
    /// Zeros.
    fn zero() -> Self;
    /// The same value in all lanes.
    fn splat(value: f32) -> Self;
    /// Eight values.
    fn load(values: &[f32; 8]) -> Self;
    /// Eight half-precision values.
    fn widen(halves: &[f16; 8]) -> Self;
    /// `self + a · b`, rounded twice.
    fn add_product(self, a: Self, b: Self) -> Self;
    /// The sum of the lanes, in the order of [`add_lanes`].
    fn sum(self) -> f32;
    /// The values of the lanes.
    fn values(self) -> [f32; 8];
    /// The values in half precision, ties to even.
    fn narrow(self) -> [f16; 8];

    /// Asks for the cache line of `place`, for the second-level cache. Where nothing is done, memory is
    /// left to see what comes.
    #[inline(always)]
    fn prefetch(_place: *const u8) {}
}

/// `halves[i] = values[i]`, rounded to half precision.
#[inline(always)]
pub(crate) fn narrow<L: Lanes>(values: &[f32], halves: &mut [f16]) {
    let ((values, tail), (halves, tail_halves)) = (values.as_chunks(), halves.as_chunks_mut());
    for (to, from) in halves.iter_mut().zip(values) {
        *to = L::load(from).narrow();
    }
    for (to, from) in tail_halves.iter_mut().zip(tail) {
        *to = f16::from_f32(*from);
    }
}

impl Lanes for [f32; 8] {
    #[inline(always)]
    fn zero() -> [f32; 8] {
        [0.0; 8]
    }

    #[inline(always)]
    fn splat(value: f32) -> [f32; 8] {
        [value; 8]
    }

    #[inline(always)]
    fn load(values: &[f32; 8]) -> [f32; 8] {
        *values
    }

    #[inline(always)]
    fn widen(halves: &[f16; 8]) -> [f32; 8] {
        halves.map(f16::to_f32)
    }

    #[inline(always)]
    fn add_product(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        core::array::from_fn(|lane| self[lane] + a[lane] * b[lane])
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        add_lanes(self)
    }

    #[inline(always)]
    fn values(self) -> [f32; 8] {
        self
    }

    #[inline(always)]
    fn narrow(self) -> [f16; 8] {
        self.map(f16::from_f32)
    }
}
