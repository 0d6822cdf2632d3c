//! Work that several threads share, with results in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use wick_core::Parallel;

/// What `work` makes of each number below `count`, in order. Each thread takes the next number.
pub(crate) fn in_order<R: Send>(
    parallel: &dyn Parallel,
    count: usize,
    work: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = (0..count).map(|_| Mutex::new(None)).collect();
    parallel.run(&|| {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        for number in numbers.take_while(|number| *number < count) {
            let result = work(number);
            *results[number].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    });
    let result = |result: Mutex<Option<R>>| {
        result.into_inner().unwrap_or_else(PoisonError::into_inner).expect("all numbers were taken")
    };
    results.into_iter().map(result).collect()
}
