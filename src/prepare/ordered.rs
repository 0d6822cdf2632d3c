//! Work that several threads share, with results in order.

use crate::{Error, Writer};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use wick_core::Parallel;

/// Writes what `make` makes of each piece, in order; no more are made than there are threads before they are written,
/// so that memory stays small. `written` is told which piece was written, its bytes and what else was made, and may break
/// off.
///
/// # Errors
/// A piece cannot be made, the file cannot be written, or was broken off.
pub(crate) fn write_in_order<P: Sync, T: Send>(
    pieces: &[P],
    parallel: &dyn Parallel,
    writer: &mut Writer,
    make: impl Fn(&P) -> Result<(Vec<u8>, T), Error> + Sync,
    mut written: impl FnMut(&P, &[u8], T) -> ControlFlow<()>,
) -> Result<(), Error> {
    for round in pieces.chunks(parallel.threads()) {
        let made = in_order(parallel, round.len(), |i| make(&round[i]));
        for (piece, made) in round.iter().zip(made) {
            let (bytes, more) = made?;
            writer.write(&bytes)?;
            break_off(written(piece, &bytes, more))?;
        }
    }
    Ok(())
}

/// The error of what the caller wants no more of.
pub(crate) fn break_off(flow: ControlFlow<()>) -> Result<(), Error> {
    if flow.is_break() { Err(Error::Interrupted) } else { Ok(()) }
}

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
