//! How much of a prompt is read between the tokens of others.

use std::time::Duration;
use wick_session::Stepped;

/// Weight of what was measured last in a mean that moves.
const LAST: f64 = 0.25;

/// Learns what steps cost, and says how many tokens of a prompt may go with one.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Most tokens of a step.
    batch: usize,
    /// Seconds that a chunk may take where experts are read as they are wanted, which a chunk does for nearly all of them
    /// however short it is; `None` where all stand in memory.
    stall: Option<f64>,
    /// Seconds of a step without a prompt, and of each token of a prompt on top; 0 until they are known.
    step: f64,
    token: f64,
}

impl Chunk {
    pub(super) fn new(batch: usize, stall: Option<Duration>) -> Chunk {
        Chunk { batch, stall: stall.as_ref().map(Duration::as_secs_f64), step: 0.0, token: 0.0 }
    }

    /// What a step took.
    pub(super) fn learn(&mut self, stepped: Stepped, time: Duration) {
        let time = time.as_secs_f64();
        let mean =
            |old: &mut f64, new: f64| *old += (new - *old) * if *old == 0.0 { 1.0 } else { LAST };
        match stepped {
            Stepped { prompt: 0, drawn, drafted: 0, .. } if drawn > 0 => mean(&mut self.step, time),
            Stepped { prompt, drawn, .. } if prompt > 0 => {
                let rest = if drawn > 0 { time - self.step } else { time };
                mean(&mut self.token, (rest / prompt as f64).max(1e-9));
            }
            _ => {}
        }
    }

    /// Seconds of a token of a prompt; 0 until they are known.
    pub(super) fn token_seconds(&self) -> f64 {
        self.token
    }

    /// Tokens of a prompt with which a step takes no longer than two without, or than the stall that is allowed.
    pub(super) fn tokens(&self) -> usize {
        if self.token == 0.0 {
            return self.batch.min(8);
        }
        ((self.stall.unwrap_or(self.step) / self.token) as usize).clamp(1, self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stepped(prompt: usize, drawn: usize) -> Stepped {
        Stepped { prompt, drawn, ..Stepped::default() }
    }

    fn learnt(stall: Option<u64>) -> Chunk {
        let mut chunk = Chunk::new(64, stall.map(Duration::from_secs));
        assert_eq!(chunk.tokens(), 8);
        for _ in 0..20 {
            chunk.learn(stepped(0, 2), Duration::from_millis(100));
            chunk.learn(stepped(10, 2), Duration::from_millis(150));
            let drafting = Stepped { drafted: 5, ..stepped(0, 2) };
            chunk.learn(drafting, Duration::from_millis(300));
            chunk.learn(Stepped { accepted: 1, ..stepped(0, 0) }, Duration::from_millis(1));
        }
        chunk
    }

    #[test]
    fn a_chunk_takes_as_long_as_a_step() {
        // A token of a prompt takes 5 ms.
        assert!((19..=20).contains(&learnt(None).tokens()));
        assert_eq!(learnt(Some(30)).tokens(), 64);
        let mut slow = learnt(Some(1));
        (0..40).for_each(|_| slow.learn(stepped(10, 0), Duration::from_secs(2)));
        assert!((4..=5).contains(&slow.tokens()), "{}", slow.tokens());
        (0..40).for_each(|_| slow.learn(stepped(1, 0), Duration::from_secs(2)));
        assert_eq!(slow.tokens(), 1);
    }
}
