//! Attention in plain Rust.

use crate::KvView;
use crate::attention::{QueryBlock, Steps, attend};

/// Products one by one.
struct OneByOne;

impl Steps for OneByOne {
    type Lanes = [f32; 8];

    #[inline(always)]
    unsafe fn multiply(keys: &[i8; 256], query: &QueryBlock) -> [i32; 8] {
        let mut sums = [0; 8];
        for (keys, query) in keys.as_chunks::<32>().0.iter().zip(query.quants.as_chunks::<4>().0) {
            for (sum, key) in sums.iter_mut().zip(keys.as_chunks::<4>().0) {
                for (k, q) in key.iter().zip(query) {
                    *sum += i32::from(*k) * i32::from(*q);
                }
            }
        }
        sums
    }
}

/// Attention with an online softmax over the positions `kv.from .. kv.to`, tile by tile.
///
/// `queries` and `out` hold some heads of one KV head's group side by side, `kv.head` values each.
/// Scores are scaled by `1 / sqrt(head)`. Keys in Q8_0 are multiplied with queries in Q8_0.
pub fn attention(queries: &[f32], kv: &KvView<'_>, out: &mut [f32]) {
    // SAFETY: plain Rust needs no features.
    unsafe { attend::<OneByOne>(queries, kv, out) }
}
