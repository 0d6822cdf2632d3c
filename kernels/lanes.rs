//! Eight singles side by side.

use crate::vector::add_lanes;
use half::f16;

/// Eight lanes of singles. What is computed is the same bits for every implementation.
pub(crate) trait Lanes: Copy {
    /// Zeros.
    ///
    /// # Safety
    /// The processor has the features of these lanes.
    unsafe fn zero() -> Self;

    /// The same value in all lanes.
    ///
    /// # Safety
    /// The processor has the features of these lanes.
    unsafe fn splat(value: f32) -> Self;

    /// Eight values.
    ///
    /// # Safety
    /// The processor has the features of these lanes.
    unsafe fn load(values: &[f32; 8]) -> Self;

    /// Eight half-precision values.
    ///
    /// # Safety
    /// The processor has the features of these lanes.
    unsafe fn widen(halves: &[f16; 8]) -> Self;

    /// `self · other`.
    ///
    /// # Safety
    /// The processor has the features of these lanes.
    unsafe fn multiply(self, other: Self) -> Self;

    /// `self + a · b`, rounded twice.
    ///
    /// # Safety
    /// The processor has the features of these lanes.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;

    /// `self + √other`.
    ///
    /// # Safety
    /// The processor has the features of these lanes.
    unsafe fn add_root(self, other: Self) -> Self;

    /// The sum of the lanes, in the order of [`add_lanes`].
    ///
    /// # Safety
    /// The processor has the features of these lanes.
    unsafe fn sum(self) -> f32;

    /// The values of the lanes.
    ///
    /// # Safety
    /// The processor has the features of these lanes.
    unsafe fn values(self) -> [f32; 8];

    /// The values in half precision, ties to even.
    ///
    /// # Safety
    /// The processor has the features of these lanes.
    unsafe fn narrow(self) -> [f16; 8];

    /// Asks for the cache line of `place`, for the second-level cache. Where nothing is done, memory is
    /// left to see what comes.
    #[inline(always)]
    fn prefetch(_place: *const u8) {}
}

/// `halves[i] = values[i]`, rounded to half precision.
///
/// # Safety
/// The processor has the features of `L`.
#[inline(always)]
pub(crate) unsafe fn narrow<L: Lanes>(values: &[f32], halves: &mut [f16]) {
    let ((values, tail), (halves, tail_halves)) = (values.as_chunks(), halves.as_chunks_mut());
    for (to, from) in halves.iter_mut().zip(values) {
        // SAFETY: the caller has the features.
        *to = unsafe { L::load(from).narrow() };
    }
    for (to, from) in tail_halves.iter_mut().zip(tail) {
        *to = f16::from_f32(*from);
    }
}

impl Lanes for [f32; 8] {
    #[inline(always)]
    unsafe fn zero() -> [f32; 8] {
        [0.0; 8]
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 8] {
        [value; 8]
    }

    #[inline(always)]
    unsafe fn load(values: &[f32; 8]) -> [f32; 8] {
        *values
    }

    #[inline(always)]
    unsafe fn widen(halves: &[f16; 8]) -> [f32; 8] {
        halves.map(f16::to_f32)
    }

    #[inline(always)]
    unsafe fn multiply(self, other: [f32; 8]) -> [f32; 8] {
        core::array::from_fn(|lane| self[lane] * other[lane])
    }

    #[inline(always)]
    unsafe fn add_product(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        core::array::from_fn(|lane| self[lane] + a[lane] * b[lane])
    }

    #[inline(always)]
    unsafe fn add_root(self, other: [f32; 8]) -> [f32; 8] {
        core::array::from_fn(|lane| self[lane] + libm::sqrtf(other[lane]))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        add_lanes(self)
    }

    #[inline(always)]
    unsafe fn values(self) -> [f32; 8] {
        self
    }

    #[inline(always)]
    unsafe fn narrow(self) -> [f16; 8] {
        self.map(f16::from_f32)
    }
}
