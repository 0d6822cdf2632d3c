//! A hot board computes with fewer threads: all of them at a lowered clock are hardly faster, and keep it hot.

use crate::report::note;
use log::warn;
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
/// Looks after which the number of threads may change: heat follows slowly.
const LOOKS: usize = 6;
/// Of these, how many must find the board hot. The kernel lets go of the clock now and then to see whether it has cooled.
const HOT: usize = 4;

/// How many threads compute, as a board is hot or cool.
#[derive(Debug)]
struct Cooling {
    all: usize,
    now: usize,
    looks: usize,
    hot: usize,
    was_cool: bool,
}

impl Cooling {
    fn new(all: usize) -> Cooling {
        Cooling { all, now: all, looks: 0, hot: 0, was_cool: true }
    }

    /// Takes a look into account; whether the number of threads has changed. At least half of the threads compute: fewer would
    /// cost more than a lowered clock does.
    fn look(&mut self, is_hot: bool) -> bool {
        self.looks += 1;
        self.hot += usize::from(is_hot);
        if self.looks < LOOKS {
            return false;
        }
        let is_cool = self.hot == 0;
        let next = match self.hot {
            HOT.. => (self.now - 1).max(self.all.div_ceil(2)),
            0 if self.was_cool => (self.now + 1).min(self.all),
            _ => self.now,
        };
        let has_changed = next != self.now;
        *self = Cooling { all: self.all, now: next, looks: 0, hot: 0, was_cool: is_cool };
        has_changed
    }
}

/// Looks at the board below `root` as long as the service goes on, and has as many of `threads` compute as suits it.
pub(crate) fn watch(root: PathBuf, threads: usize, limit: ThreadLimit, service: Arc<Service>) {
    let look = move || {
        let (mut cooling, mut was_low) = (Cooling::new(threads), false);
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
        note(&format!("the board is cool{degrees}: {now} of {all} threads compute"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_follow_the_heat_slowly() {
        let mut cooling = Cooling::new(4);
        let mut after = |looks: usize, is_hot: fn(usize) -> bool| {
            (0..looks).for_each(|i| _ = cooling.look(is_hot(i)));
            cooling.now
        };
        let (hot, cool) = (|_| true, |_| false);
        assert_eq!(after(10 * LOOKS, cool), 4);
        assert_eq!(after(LOOKS - 1, hot), 4);
        assert_eq!(after(1, hot), 3);
        assert_eq!(after(LOOKS, hot), 2);
        assert_eq!(after(100 * LOOKS, hot), 2, "half of them always compute");
        assert_eq!(after(LOOKS, cool), 2);
        assert_eq!(after(LOOKS, cool), 3);
        assert_eq!(after(100 * LOOKS, |i| i % 2 == 0), 3, "as hot as it may be");
        assert_eq!(after(3 * LOOKS, cool), 4);
    }
}
