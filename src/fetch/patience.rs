//! What may go well another time, and how long to wait for that.

use crate::Error;
use crate::settings::Limits;
use crate::url::Url;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What is waited at most, whatever a server asks for.
const LONGEST: Duration = Duration::from_secs(300);
/// The same where it does not ask.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often is looked whether nobody wants it any more.
const TURN: Duration = Duration::from_millis(50);

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It may go well another time.
    Passing {
        /// What was found.
        reason: String,
        /// When a server wants to be asked again.
        after: Option<Duration>,
    },
    /// It will not.
    Lasting(Error),
}

impl Trouble {
    pub(crate) fn passing(reason: impl Into<String>) -> Trouble {
        Trouble::Passing { reason: reason.into(), after: None }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Lasting(error)
    }
}

/// The attempts at one thing.
pub(crate) struct Patience {
    limits: Limits,
    failed: u32,
}

impl Patience {
    pub(crate) fn new(limits: Limits) -> Patience {
        Patience { limits, failed: 0 }
    }

    /// The last attempt brought something.
    pub(crate) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits until it is time for another attempt at `url`, unless somebody stops it.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn wait(
        &mut self,
        url: &Url,
        trouble: Trouble,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let (reason, after) = match trouble {
            Trouble::Passing { reason, after } => (reason, after),
            Trouble::Lasting(error) => return Err(error),
        };
        self.failed += 1;
        if self.failed >= self.limits.attempts {
            let reason = format!(
                "{reason}, after {} attempts; try again later, which goes on with what was fetched",
                self.failed
            );
            return Err(Error::Network { url: url.to_string(), reason });
        }
        let doubled = self.limits.pause * 2u32.saturating_pow(self.failed - 1);
        let pause = after.map_or(doubled.min(LONGEST_PAUSE), |after| after.min(LONGEST));
        log::warn!("{url}: {reason}; again in {:.1} s", pause.as_secs_f64());
        let end = Instant::now() + pause;
        while Instant::now() < end && !is_stopped() {
            sleep(TURN.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }
}
