//! How fast the machine's memory can be read, which bounds how fast tokens can be decoded.

use crate::memory_limit;
use crate::refusal::Refusal;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use wick_core::Parallel;

/// Far more than caches hold.
const BUFFER: usize = 1 << 30;
/// Less than this may fit into a cache.
const LEAST: usize = 64 << 20;
/// `u64`s that a thread takes at a time.
const CHUNK: usize = 1 << 17;
/// How long passes go on. The fastest counts: nothing makes one faster than memory is.
const DURATION: Duration = Duration::from_millis(500);

/// Bytes per second at which the threads of `parallel` together read memory: a plain sum over
/// 1 GiB, or over half of what the process may still use where that is less. `None` where that is
/// too little to measure with.
pub fn read_bandwidth(parallel: &dyn Parallel) -> Option<f64> {
    let rest = memory_limit().map_or(u64::MAX, |limit| limit.bytes / 2);
    let bytes = usize::try_from(rest).unwrap_or(BUFFER).min(BUFFER);
    if bytes < LEAST { None } else { measure(parallel, bytes, DURATION) }
}

/// The fastest of the passes over a buffer of `bytes` that begin within `duration`.
fn measure(parallel: &dyn Parallel, bytes: usize, duration: Duration) -> Option<f64> {
    let len = bytes / size_of::<u64>();
    Refusal::check(bytes).ok()?;
    // Written, because all of memory that never was is one and the same page of zeros.
    let buffer = vec![1u64; len];
    let start = Instant::now();
    let mut fastest = pass(parallel, &buffer);
    while start.elapsed() < duration {
        fastest = fastest.min(pass(parallel, &buffer));
    }
    Some(size_of_val(&buffer[..]) as f64 / fastest.as_secs_f64().max(1e-9))
}

/// The time to add all of `buffer` up.
fn pass(parallel: &dyn Parallel, buffer: &[u64]) -> Duration {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    parallel.run(&|| {
        while let Some(chunk) = buffer.chunks(CHUNK).nth(next.fetch_add(1, Ordering::Relaxed)) {
            black_box(chunk.iter().fold(0u64, |sum, v| sum.wrapping_add(*v)));
        }
    });
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cpus, Pool};

    #[test]
    fn memory_has_a_speed() {
        let pool = Pool::new(2, &Cpus::detect());
        let speed = measure(&pool, 1 << 22, Duration::ZERO).unwrap();
        assert!(speed.is_finite() && speed > 0.0, "{speed}");
    }
}
