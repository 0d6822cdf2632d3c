//! Attention of a group of query heads over the keys and values that they share: an online softmax,
//! tile by tile. Every variant compiles it with [`Steps`] of its own.

mod f16;
mod q8_0;
mod softmax;
mod steps;

use crate::{KvCells, KvView};

pub(crate) use steps::{QueryBlock, Steps};

/// The code that every variant of attention is compiled from. Its loops over lanes become vector
/// instructions where the variant has them, and round alike everywhere.
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
pub(crate) unsafe fn attend<S: Steps>(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
    // SAFETY: the caller has the features.
    unsafe {
        match kv.cells {
            KvCells::F16 { keys, values } => f16::attend::<S>(queries, kv, keys, values, out),
            KvCells::Q8_0 { keys, values } => q8_0::attend::<S>(queries, kv, keys, values, out),
        }
    }
}
