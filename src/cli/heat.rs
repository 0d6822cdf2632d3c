//! A hot board computes with fewer threads: all of them at a lowered clock would be no faster, and hotter.

use log::{info, warn};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;
use wick_linux::ThreadLimit;
use wick_linux::machine::Heat;
use wick_serve::service::{Conditions, Service};

/// Bytes of the stack of the thread that looks.
const STACK: usize = 128 << 10;
/// From one look to the next.
const LOOK: Duration = Duration::from_secs(5);
/// Looks at a hot board from one thread less to the next: heat follows slowly.
const HOT: usize = 6;
/// Looks at a cool board before it takes one more.
const COOL: usize = 12;

/// How many threads compute, as a board is hot or cool.
#[derive(Debug)]
struct Cooling {
    all: usize,
    now: usize,
    /// Looks that found it as it is since the number changed, or since it was otherwise.
    looks: usize,
    was_hot: bool,
}

impl Cooling {
    fn new(all: usize) -> Cooling {
        Cooling { all, now: all, looks: 0, was_hot: false }
    }

    /// Takes a look into account; whether the number of threads has changed.
    fn look(&mut self, is_hot: bool) -> bool {
        let is_new = is_hot != self.was_hot;
        self.looks = if is_new { 0 } else { self.looks + 1 };
        self.was_hot = is_hot;
        let next = match is_hot {
            true if is_new || self.looks >= HOT => self.now.saturating_sub(1).max(1),
            false if self.looks >= COOL => (self.now + 1).min(self.all),
            _ => self.now,
        };
        let has_changed = next != self.now;
        if has_changed {
            (self.now, self.looks) = (next, 0);
        }
        has_changed
    }
}

/// Looks at the board below `root` as long as the service goes on, and has as many of `threads` compute as suits it.
pub(crate) fn watch(root: PathBuf, threads: usize, limit: ThreadLimit, service: Arc<Service>) {
    let look = move || {
        let mut cooling = Cooling::new(threads);
        let mut was_low = false;
        loop {
            let heat = Heat::read(&root);
            if cooling.look(heat.is_slowed) {
                limit.set(cooling.now);
                tell(&heat, cooling.now, threads);
            }
            let is_low = heat.supply.is_some_and(|supply| supply.under_voltage);
            if is_low && !was_low {
                warn!("the board has too little voltage, and is slowed down; see wick doctor");
            }
            was_low = is_low;
            service.metrics.conditions(Conditions {
                threads: cooling.now,
                celsius: heat.celsius,
                is_throttled: heat.is_slowed,
                is_under_voltage: is_low,
            });
            sleep(LOOK);
        }
    };
    if let Err(error) = wick_linux::spawn("heat", STACK, look) {
        warn!("heat is not looked at: {error}");
    }
}

fn tell(heat: &Heat, now: usize, all: usize) {
    let degrees = heat.celsius.map_or(String::new(), |celsius| format!(" ({celsius:.0} °C)"));
    if heat.is_slowed {
        warn!("the board is hot{degrees}: {now} of {all} threads compute");
    } else {
        info!("the board is cool{degrees}: {now} of {all} threads compute");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_follow_the_heat_slowly() {
        let mut cooling = Cooling::new(4);
        let mut after = |looks: usize, is_hot: bool| {
            (0..looks).for_each(|_| _ = cooling.look(is_hot));
            cooling.now
        };
        assert_eq!(after(100, false), 4);
        assert_eq!(after(1, true), 3, "at once");
        assert_eq!(after(HOT - 1, true), 3);
        assert_eq!(after(1, true), 2);
        assert_eq!(after(100, true), 1, "one always computes");
        assert_eq!(after(COOL, false), 1);
        assert_eq!(after(1, false), 2);
        assert_eq!(after(3, false), 2);
        assert_eq!(after(1, true), 1);
        assert_eq!(after(4 * COOL, false), 4);
    }
}
