//! When a service was asked for something last.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When a service was asked for something last.
#[derive(Debug)]
pub struct Activity(Mutex<Asked>);

#[derive(Debug)]
struct Asked {
    /// Requests that are being taken in.
    open: usize,
    last: Instant,
}

/// A request that is being taken in.
#[derive(Debug)]
pub(crate) struct Asking<'a>(&'a Activity);

impl Default for Activity {
    fn default() -> Activity {
        Activity(Mutex::new(Asked { open: 0, last: Instant::now() }))
    }
}

impl Activity {
    fn change(&self, change: impl FnOnce(&mut Asked)) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut asked);
        asked.last = Instant::now();
    }

    /// Something has been asked for now.
    pub fn touch(&self) {
        self.change(|_| ());
    }

    /// Something is being asked for, until what this returns is dropped.
    pub(crate) fn begin(&self) -> Asking<'_> {
        self.change(|asked| asked.open += 1);
        Asking(self)
    }

    /// How long nothing has been asked for.
    pub fn idle(&self) -> Duration {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.open > 0 { Duration::ZERO } else { asked.last.elapsed() }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.change(|asked| asked.open -= 1);
    }
}
