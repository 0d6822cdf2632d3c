//! Which expert gives its slot up when another one comes.

use libm::{exp2, log2};

/// What an expert is worth, as a number that only ever changes when the expert is used: the one
/// that is worth least gives its slot up.
pub trait Policy: Sync {
    /// What an expert is worth after a use at time `now`, counted in tokens, if it was worth `worth`
    /// before: `-∞` if it was never used.
    fn used(&self, worth: f64, now: f64) -> f64;

    /// Whether each layer must keep a share of the slots while they are fewer than two sweeps (the
    /// experts of two tokens in all layers). Without it, a policy that looks at the last use alone
    /// lets the later layers of a token push out what the first layers of the next one want.
    fn needs_quotas(&self) -> bool {
        false
    }
}

/// The expert that was not used for longest goes (LRU).
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastRecent;

impl Policy for LeastRecent {
    fn used(&self, _worth: f64, now: f64) -> f64 {
        now
    }

    fn needs_quotas(&self) -> bool {
        true
    }
}

/// The expert with the fewest uses goes (LFU).
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastFrequent;

impl Policy for LeastFrequent {
    fn used(&self, worth: f64, _now: f64) -> f64 {
        worth.max(0.0) + 1.0
    }
}

/// The expert with the fewest uses goes, where a use counts half after `half_life` tokens: between
/// LRU (a short half-life) and LFU (a long one).
///
/// A sum of uses that all decay alike keeps its rank among others, so the worth is the logarithm of
/// what the sum would be if it grew with time instead, and needs no touch while it is not used.
#[derive(Clone, Copy, Debug)]
pub struct Decaying {
    /// Tokens after which a use counts half; more than 0.
    pub half_life: f64,
}

/// Of what was measured (tests/bench/README.md), what comes nearest to the optimum.
impl Default for Decaying {
    fn default() -> Decaying {
        Decaying { half_life: 256.0 }
    }
}

impl Policy for Decaying {
    fn used(&self, worth: f64, now: f64) -> f64 {
        let now = now / self.half_life;
        // log2(2^worth + 2^now), which does not overflow.
        let (most, least) = if worth > now { (worth, now) } else { (now, worth) };
        most + log2(1.0 + exp2(least - most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(policy: &dyn Policy, uses: &[f64]) -> f64 {
        uses.iter().fold(f64::NEG_INFINITY, |worth, now| policy.used(worth, *now))
    }

    #[test]
    fn the_last_use_counts() {
        assert!(after(&LeastRecent, &[1.0, 2.0, 3.0]) < after(&LeastRecent, &[4.0]));
    }

    #[test]
    fn all_uses_count() {
        assert!(after(&LeastFrequent, &[1.0, 2.0]) > after(&LeastFrequent, &[9.0]));
    }

    #[test]
    fn uses_fade() {
        let policy = Decaying { half_life: 10.0 };
        // Two uses are worth one of ten tokens later, whenever that is.
        for start in [0.0, 1e6] {
            let (two, one) = ([start, start], [start + 10.0]);
            assert!((after(&policy, &two) - after(&policy, &one)).abs() < 1e-9);
        }
        assert!(after(&policy, &[0.0, 0.0, 0.0]) > after(&policy, &[10.0]));
        assert!(after(&policy, &[0.0]) < after(&policy, &[1.0]));
    }
}
