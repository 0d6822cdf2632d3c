//! Choosing the next token from its logits.

use crate::candidates::{Candidate, Candidates, order};
use crate::guidance::Guidance;
use crate::history::History;
use crate::sampling::Sampling;
use core::fmt;

/// Draws tokens; holds its random state. Which tokens came before is for its caller to say.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
}

impl Sampler {
    /// A sampler that has drawn nothing yet.
    pub fn new(sampling: Sampling) -> Sampler {
        Sampler { sampling, random: SplitMix64(sampling.seed) }
    }

    /// How it draws.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Draws from the logits of the whole vocabulary, after the text of a history. Logits that are not finite are never
    /// drawn.
    ///
    /// # Errors
    /// No logit of those that are allowed is finite.
    pub fn sample(
        &mut self,
        logits: &[f32],
        history: History<'_>,
        guidance: Guidance<'_>,
        candidates: &mut Candidates<'_>,
    ) -> Result<u32, SampleError> {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let candidates = if guidance.bias.is_empty() && !self.sampling.has_penalties() {
            match self.sampling.top() {
                0 => candidates.fill(logits, guidance.allowed),
                k => candidates.fill_likeliest(logits, guidance.allowed, k),
            }
        } else {
            candidates.weigh(logits, history, guidance, &self.sampling)
        };
        let Some(best) = candidates.iter().copied().reduce(likelier) else {
            return Err(SampleError::of(logits, guidance));
        };
        if temperature <= 0.0 {
            return Ok(best.id);
        }
        let kept = keep_top_k(candidates, top_k, top_p < 1.0 || min_p > 0.0);
        exponentiate(kept, best.score, temperature);
        let kept = keep_top_p(kept, f64::from(top_p) * sum(kept));
        let kept = keep_min_p(kept, min_p);
        Ok(draw(kept, self.random.unit() * sum(kept)))
    }
}

fn likelier(a: Candidate, b: Candidate) -> Candidate {
    if order(&b, &a).is_lt() { b } else { a }
}

/// The `k` likeliest, sorted; all if `k` is 0, sorted only where `sorted` asks for it.
fn keep_top_k(all: &mut [Candidate], k: usize, sorted: bool) -> &mut [Candidate] {
    let kept = if 0 < k && k < all.len() {
        all.select_nth_unstable_by(k - 1, order);
        &mut all[..k]
    } else {
        all
    };
    if sorted || k > 0 {
        kept.sort_unstable_by(order);
    }
    kept
}

/// Turns logits into probabilities times their sum.
fn exponentiate(kept: &mut [Candidate], largest: f32, temperature: f32) {
    kept.iter_mut().for_each(|c| c.score = libm::expf((c.score - largest) / temperature));
}

/// The sum of scores. In single precision, many that are too small to be seen beside the first would be lost together.
fn sum(kept: &[Candidate]) -> f64 {
    kept.iter().map(|c| f64::from(c.score)).sum()
}

/// The shortest head of sorted candidates whose scores reach `sum`.
fn keep_top_p(kept: &[Candidate], sum: f64) -> &[Candidate] {
    let mut reached = 0.0;
    let enough = kept.iter().position(|c| {
        reached += f64::from(c.score);
        reached >= sum
    });
    &kept[..enough.map_or(kept.len(), |last| last + 1)]
}

/// The head of sorted candidates whose scores are at least `min_p` of the first's.
fn keep_min_p(kept: &[Candidate], min_p: f32) -> &[Candidate] {
    let least = min_p.min(1.0) * kept[0].score;
    let few = kept.iter().position(|c| c.score < least);
    if min_p > 0.0 { &kept[..few.unwrap_or(kept.len())] } else { kept }
}

/// The candidate at `at` on the line of scores laid end to end.
fn draw(kept: &[Candidate], at: f64) -> u32 {
    let mut reached = 0.0;
    let hit = kept.iter().find(|c| {
        reached += f64::from(c.score);
        reached > at
    });
    hit.unwrap_or(&kept[kept.len() - 1]).id
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same numbers on every machine for ever.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0 ≤ x < 1`, in steps of 2⁻²⁴.
    fn unit(&mut self) -> f64 {
        (self.next() >> 40) as f64 / f64::from(1 << 24)
    }
}

/// No logit is a finite number of those that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleError {
    /// Logits there were.
    pub logits: usize,
    /// How many tokens were allowed, if not all were.
    pub allowed: Option<usize>,
}

impl SampleError {
    fn of(logits: &[f32], guidance: Guidance<'_>) -> SampleError {
        let logits = logits.len();
        SampleError { logits, allowed: guidance.allowed.map(|_| guidance.count(logits)) }
    }
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logits = self.logits;
        match self.allowed {
            None => write!(
                f,
                "none of {logits} logits is a finite number; the model's weights are damaged"
            ),
            Some(0) => write!(f, "none of {logits} tokens is allowed next"),
            Some(allowed) => write!(
                f,
                "none of the {allowed} tokens that are allowed next has a logit that is a finite number"
            ),
        }
    }
}

impl core::error::Error for SampleError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::history::REPEAT_WINDOW;

    /// Draws `n` tokens from the same logits.
    fn sample<const N: usize>(sampling: Sampling, recent: &[u32], logits: &[f32]) -> [u32; N] {
        let mut memory = [0; 1024];
        let mut arena = Arena::new(&mut memory);
        let mut candidates = Candidates::new(logits.len(), &mut arena).unwrap();
        let mut sampler = Sampler::new(sampling);
        let history = History { text: recent, prompt: 0 };
        core::array::from_fn(|_| {
            sampler.sample(logits, history, Guidance::default(), &mut candidates).unwrap()
        })
    }

    const ALL: Sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(sample(Sampling::GREEDY, &[], &[1.0, 3.0, f32::NAN, 3.0]), [1]);
    }

    #[test]
    fn repetition_is_weakened_once_in_either_sign() {
        let twice = Sampling { repeat_penalty: 2.0, ..Sampling::GREEDY };
        assert_eq!(sample(twice, &[1, 1, 1], &[1.4, 3.0, 0.0]), [1]);
        assert_eq!(sample(twice, &[1], &[1.6, 3.0, 0.0]), [0]);
        assert_eq!(sample(twice, &[0], &[-1.0, -1.5]), [1]);
    }

    #[test]
    fn what_lies_far_back_is_not_weakened() {
        let twice = Sampling { repeat_penalty: 2.0, ..Sampling::GREEDY };
        let mut text = [0; REPEAT_WINDOW + 1];
        text[1] = 1;
        assert_eq!(sample(twice, &text, &[1.6, 3.0, 1.55]), [2]);
        (text[0], text[1]) = (1, 0);
        assert_eq!(sample(twice, &text, &[1.6, 3.0, 1.55]), [1]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        // Odds 1 : 2 : 5 in 8,000 draws, within five standard deviations.
        let logits = [1f32, 2.0, 5.0].map(libm::logf);
        let drawn: [u32; 8000] = sample(ALL, &[], &logits);
        for (id, expected) in [(0, 1000i32), (1, 2000), (2, 5000)] {
            let count = drawn.iter().filter(|d| **d == id).count() as i32;
            assert!((count - expected).abs() < 5 * 45, "{id}: {count}");
        }
    }

    #[test]
    fn each_filter_keeps_what_it_says() {
        let logits = [0.1f32, 0.4, 0.2, 0.3].map(libm::logf);
        let kept = |sampling| {
            let drawn: [u32; 2000] = sample(sampling, &[], &logits);
            [0, 1, 2, 3].map(|id| drawn.contains(&id))
        };
        assert_eq!(kept(ALL), [true; 4]);
        assert_eq!(kept(Sampling { top_k: 2, ..ALL }), [false, true, false, true]);
        assert_eq!(kept(Sampling { top_p: 0.75, ..ALL }), [false, true, true, true]);
        assert_eq!(kept(Sampling { top_p: 0.0, ..ALL }), [false, true, false, false]);
        assert_eq!(kept(Sampling { min_p: 0.6, ..ALL }), [false, true, false, true]);
        assert_eq!(kept(Sampling { min_p: 9.0, ..ALL }), [false, true, false, false]);
    }

    #[test]
    fn top_p_counts_after_top_k_and_temperature() {
        // Of 4 : 3 : 2 : 1, top-k 2 leaves 4/7, which reaches 0.55 only after renormalization.
        let logits = [0.4f32, 0.3, 0.2, 0.1].map(libm::logf);
        let drawn: [u32; 500] = sample(Sampling { top_k: 2, top_p: 0.55, ..ALL }, &[], &logits);
        assert!(drawn.iter().all(|id| *id == 0));
        // At temperature 1/2 the odds are squared: 16/30 reaches 0.5, where 0.4 would not.
        let cold = Sampling { temperature: 0.5, top_p: 0.5, ..ALL };
        let drawn: [u32; 500] = sample(cold, &[], &logits);
        assert!(drawn.iter().all(|id| *id == 0));
    }

    #[test]
    fn a_seed_gives_one_text() {
        let logits = [0.0; 50];
        for all in [ALL, Sampling { presence_penalty: 0.5, frequency_penalty: 0.5, ..ALL }] {
            let text: [u32; 20] = core::array::from_fn(|i| i as u32 / 3);
            let sample = |seed| sample::<20>(Sampling { seed, ..all }, &text, &logits);
            assert_eq!(sample(7), sample(7));
            assert_ne!(sample(7), sample(8));
        }
    }

    #[test]
    fn a_bias_decides_before_all_else() {
        let mut memory = [0; 256];
        let mut candidates = Candidates::new(3, &mut Arena::new(&mut memory)).unwrap();
        let top = Sampling { top_k: 1, ..ALL };
        let mut sample = |sampling, bias: &[(u32, f32)]| {
            let mut sampler = Sampler::new(sampling);
            let history = History { text: &[2], prompt: 0 };
            let guidance = Guidance { bias, allowed: None };
            sampler.sample(&[1.0, 3.0, 2.0], history, guidance, &mut candidates).unwrap()
        };
        for sampling in [Sampling::GREEDY, top] {
            assert_eq!(sample(sampling, &[]), 1);
            assert_eq!(sample(sampling, &[(0, 100.0)]), 0);
            assert_eq!(sample(sampling, &[(1, -100.0)]), 2);
        }
        // 2 + 3 is halved to 2.5; were it halved before, 4 would be drawn.
        assert_eq!(sample(Sampling { repeat_penalty: 2.0, ..top }, &[(2, 3.0)]), 1);
    }

    #[test]
    fn broken_logits_are_an_error() {
        let mut memory = [0; 256];
        let mut candidates = Candidates::new(2, &mut Arena::new(&mut memory)).unwrap();
        for sampling in [ALL, Sampling { presence_penalty: 1.0, ..ALL }] {
            let logits = [f32::NAN, f32::INFINITY];
            let mut sample = |allowed| {
                let guidance = Guidance { bias: &[], allowed };
                let history = History::default();
                Sampler::new(sampling).sample(&logits, history, guidance, &mut candidates)
            };
            assert_eq!(sample(None), Err(SampleError { logits: 2, allowed: None }));
            for (words, allowed) in [(&[][..], 0), (&[0b10], 1), (&[!0], 2)] {
                let error = SampleError { logits: 2, allowed: Some(allowed) };
                assert_eq!(sample(Some(words)), Err(error));
            }
        }
    }

    #[test]
    fn only_what_is_allowed_is_drawn() {
        let mut memory = [0; 1024];
        let mut candidates = Candidates::new(70, &mut Arena::new(&mut memory)).unwrap();
        let logits: [f32; 70] = core::array::from_fn(|i| i as f32);
        let history = History { text: &[40, 40], prompt: 0 };
        let mut sample = |sampling, allowed: &[u32]| {
            let guidance = Guidance { bias: &[(33, 100.0)], allowed: Some(allowed) };
            let guidances = [guidance, Guidance { bias: &[], ..guidance }];
            guidances.map(|guidance| {
                Sampler::new(sampling).sample(&logits, history, guidance, &mut candidates).unwrap()
            })
        };
        assert_eq!(sample(Sampling::GREEDY, &[1 << 3, 1 << 8, 0]), [40; 2]);
        assert_eq!(sample(Sampling::GREEDY, &[!0, !0, !0]), [33, 69]);
        // What has no word is not allowed.
        assert_eq!(sample(Sampling::GREEDY, &[!0]), [31; 2]);
        let penalty = Sampling { presence_penalty: 2.0, ..Sampling::GREEDY };
        assert_eq!(sample(penalty, &[0, 0b1_1000_0000]), [39; 2]);
        assert_eq!(sample(Sampling { top_k: 1, ..ALL }, &[1 << 3, 1 << 8]), [40; 2]);
    }
}
