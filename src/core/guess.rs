//! How many experts may be read on a guess.
//!
//! A read on a guess uses time in which the device would be idle: from when the last expert of a
//! layer has come until the next router has spoken. It is asked for before that, behind the reads that
//! are wanted, so that the device goes on at once. Where the guess is wrong, what is left of the read
//! when the router has spoken holds up the reads that are wanted then. So it is only worth it as far as
//! reads fit into the time, or nearly fit and are likely to be right.

use crate::config::MAX_ACTIVE;
use core::time::Duration;

/// How quickly old measurements are forgotten.
const KEPT: f32 = 0.95;

/// What was seen of guesses so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guessing {
    /// Seconds from when the last expert of a layer had come until the next router spoke.
    gap: f32,
    /// Seconds that the device takes to read an expert.
    read: f32,
    /// By rank of the expert in the guess: how often the layer chose it.
    accuracy: [f32; MAX_ACTIVE],
    /// When the last expert of the layer had come, if it has.
    since: Option<Duration>,
    /// How often it was not likely to pay.
    declined: u32,
}

/// Of guesses that are not likely to pay, one in so many is made, to see whether that has changed.
const TRIAL: u32 = 32;

impl Default for Guessing {
    fn default() -> Guessing {
        Guessing { gap: 0.0, read: 0.0, accuracy: [0.9; MAX_ACTIVE], since: None, declined: 0 }
    }
}

impl Guessing {
    /// Takes note of what reading takes: `busy` for `experts` so far.
    pub(crate) fn measure(&mut self, busy: Duration, experts: u64) {
        self.read = busy.as_secs_f32() / experts.max(1) as f32;
    }

    /// Takes note of the time from which on nothing of the layer is on its way.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.since.get_or_insert(now);
    }

    /// Takes note of the time at which the next router has spoken.
    pub(crate) fn end(&mut self, now: Duration) {
        let Some(since) = self.since.take() else { return };
        let gap = now.saturating_sub(since).as_secs_f32();
        self.gap = if self.gap == 0.0 { gap } else { KEPT * self.gap + (1.0 - KEPT) * gap };
    }

    /// Between steps the device is idle for as long as nobody asks for one: that says nothing of guesses.
    pub(crate) fn pause(&mut self) {
        self.since = None;
    }

    /// Takes note of whether a layer chose the expert of some rank in a guess.
    pub(crate) fn judge(&mut self, rank: usize, is_right: bool) {
        let accuracy = &mut self.accuracy[rank.min(MAX_ACTIVE - 1)];
        *accuracy = KEPT * *accuracy + (1.0 - KEPT) * f32::from(u8::from(is_right));
    }

    /// Whether a guess is worth the time that it takes.
    pub(crate) fn is_likely_to_pay(&mut self) -> bool {
        let pays = self.is_worth_it(0, 0);
        self.declined += u32::from(!pays);
        pays || self.declined.is_multiple_of(TRIAL)
    }

    /// Whether to read the expert of some rank, when `before` are to be read before it.
    pub(crate) fn is_worth_it(&self, rank: usize, before: usize) -> bool {
        if self.read == 0.0 {
            return false;
        }
        // What is left of the gap for this read, and what of the read would be left after the gap.
        let gain = (self.gap - before as f32 * self.read).clamp(0.0, self.read);
        let loss = self.read - gain;
        let right = self.accuracy[rank.min(MAX_ACTIVE - 1)];
        right * gain > (1.0 - right) * loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(gap_ms: u64, read_ms: u64) -> Guessing {
        let mut guessing = Guessing::default();
        for i in 0..100 {
            let now = Duration::from_secs(i);
            guessing.measure(Duration::from_millis(read_ms * (i + 1)), i + 1);
            guessing.begin(now);
            guessing.begin(now + Duration::from_millis(gap_ms / 2));
            guessing.end(now + Duration::from_millis(gap_ms));
        }
        guessing
    }

    #[test]
    fn as_many_as_fit_are_read() {
        let guessing = seen(10, 2);
        assert!((0..5).all(|n| guessing.is_worth_it(n, n)));
        assert!(!guessing.is_worth_it(5, 5));
    }

    #[test]
    fn slow_devices_are_spared() {
        assert!(!seen(1, 20).is_worth_it(0, 0));
        // Nine of ten guesses are right at first: a tenth of a read may be left over for one in it.
        assert!(seen(3, 20).is_worth_it(0, 0));
    }

    #[test]
    fn wrong_guesses_are_not_repeated() {
        let mut guessing = seen(5, 10);
        assert!(guessing.is_worth_it(1, 0));
        (0..100).for_each(|_| guessing.judge(1, false));
        assert!(!guessing.is_worth_it(1, 0) && guessing.is_worth_it(0, 0));
        (0..100).for_each(|_| guessing.judge(1, true));
        assert!(guessing.is_worth_it(1, 0));
    }

    #[test]
    fn idle_time_is_no_time_for_reads() {
        let mut guessing = seen(1, 20);
        guessing.begin(Duration::from_secs(200));
        guessing.pause();
        guessing.end(Duration::from_secs(5000));
        assert!(!guessing.is_worth_it(0, 0));
    }

    #[test]
    fn without_a_clock_nothing_is_guessed() {
        let mut guessing = Guessing::default();
        guessing.measure(Duration::ZERO, 9);
        guessing.begin(Duration::ZERO);
        guessing.end(Duration::ZERO);
        assert!(!guessing.is_worth_it(0, 0));
    }
}
