//! Ctrl-C: stops what is being computed, or ends the process where nothing is.

use crate::exit::{Exit, Failure, OrExit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the next ctrl-C ends the process: set by the first one, and while nothing is computed.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches for ctrl-C. The first fails the next [`Interrupt::check`], a second ends the process
    /// at once.
    pub(crate) fn watch() -> Result<Interrupt, Failure> {
        let interrupt = Interrupt(Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&interrupt.0);
        let handler = move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(Exit::Interrupted as i32);
            }
        };
        ctrlc::set_handler(handler).or_exit(Exit::Failed)?;
        Ok(interrupt)
    }

    /// Fails once ctrl-C was pressed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Failure::interrupted()),
            false => Ok(()),
        }
    }

    /// From here on nothing checks: a single ctrl-C ends the process. Tells whether there was one
    /// before, which may have come after the last check.
    pub(crate) fn idle(&self) -> bool {
        self.0.swap(true, Ordering::Relaxed)
    }

    /// From here on something checks again.
    pub(crate) fn busy(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
