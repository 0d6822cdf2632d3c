//! The tokens that may be drawn, and what is done to their logits before.

use crate::arena::{Arena, ArenaError};
use crate::guidance::{Guidance, is_set};
use crate::history::History;
use crate::sampling::Sampling;
use bytemuck::{Pod, Zeroable};
use core::cmp::Ordering;

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Candidate {
    /// Logit, later probability.
    pub(crate) score: f32,
    /// While the place tells the id, how often it was drawn.
    pub(crate) id: u32,
}

/// Falling score, then rising id.
pub(crate) fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.id.cmp(&b.id))
}

/// Logits that are compared at once, and how many of them beside each other.
const PART: usize = 256;
const LANES: usize = 16;
/// For each of the likeliest there is room for so many, so that they are seldom sorted out.
const ROOM: usize = 8;

/// Whether one of some logits is no less than `least`.
fn reaches(part: &[f32], least: f32) -> bool {
    let mut largest = [f32::NEG_INFINITY; LANES];
    let (rows, rest) = part.as_chunks::<LANES>();
    for row in rows {
        for (largest, logit) in largest.iter_mut().zip(row) {
            *largest = if *logit > *largest { *logit } else { *largest };
        }
    }
    largest.iter().chain(rest).any(|logit| *logit >= least)
}

/// Room for the tokens that may be drawn, shared by all samplers of a thread.
#[derive(Debug)]
pub struct Candidates<'m>(&'m mut [Candidate]);

impl<'m> Candidates<'m> {
    /// Room for a vocabulary of `vocab` entries; [`Plan::sampler`](crate::Plan::sampler) bytes.
    ///
    /// # Errors
    /// The arena is too small.
    pub fn new(vocab: usize, arena: &mut Arena<'m>) -> Result<Candidates<'m>, ArenaError> {
        Ok(Candidates(arena.take("sampler", vocab)?))
    }

    /// Copies the finite logits of those that are allowed; the copies stand in the order of their ids.
    pub(crate) fn fill(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> &mut [Candidate] {
        let finite = logits.iter().zip(0..).filter(|(logit, _)| logit.is_finite());
        match allowed {
            None => self.copy(finite),
            Some(words) => self.copy(finite.filter(|(_, id)| is_set(words, *id))),
        }
    }

    /// The same for the `k` likeliest at least, in no order: most logits are only compared, many at once, and never copied.
    pub(crate) fn fill_likeliest(
        &mut self,
        logits: &[f32],
        allowed: Option<&[u32]>,
        k: usize,
    ) -> &mut [Candidate] {
        let room = k.saturating_mul(ROOM);
        if room >= logits.len().min(self.0.len()) {
            return self.fill(logits, allowed);
        }
        let (mut count, mut least) = (0, f32::NEG_INFINITY);
        for (part, first) in logits.chunks(PART).zip((0..).step_by(PART)) {
            if !reaches(part, least) {
                continue;
            }
            for (score, id) in part.iter().zip(first..) {
                let is_likely = score.is_finite() && score.total_cmp(&least).is_gt();
                if !is_likely || allowed.is_some_and(|words| !is_set(words, id)) {
                    continue;
                }
                self.0[count] = Candidate { score: *score, id };
                count += 1;
                if count == room {
                    // Those that come have higher ids, so that one of the same score is no likelier.
                    let (_, last, _) = self.0[..count].select_nth_unstable_by(k - 1, order);
                    (count, least) = (k, last.score);
                }
            }
        }
        &mut self.0[..count]
    }

    fn copy<'l>(&mut self, logits: impl Iterator<Item = (&'l f32, u32)>) -> &mut [Candidate] {
        let mut count = 0;
        for ((score, id), candidate) in logits.zip(&mut *self.0) {
            *candidate = Candidate { score: *score, id };
            count += 1;
        }
        &mut self.0[..count]
    }

    /// The same with biases and penalties. What this takes grows with the text, not with its square.
    pub(crate) fn weigh(
        &mut self,
        logits: &[f32],
        history: History<'_>,
        guidance: Guidance<'_>,
        sampling: &Sampling,
    ) -> &mut [Candidate] {
        let all = self.lay_out(logits);
        for (id, bias) in guidance.bias {
            if let Some(candidate) = all.get_mut(*id as usize) {
                candidate.score += bias;
            }
        }
        weaken(all, history.recent(), sampling.repeat_penalty);
        count(all, history.drawn());
        gather(all, guidance, sampling)
    }

    /// Copies all logits, each to the place that its id tells.
    fn lay_out(&mut self, logits: &[f32]) -> &mut [Candidate] {
        let len = logits.len().min(self.0.len());
        let all = &mut self.0[..len];
        for (candidate, score) in all.iter_mut().zip(logits) {
            *candidate = Candidate { score: *score, id: 0 };
        }
        all
    }
}

/// Weakens each recent token once.
fn weaken(all: &mut [Candidate], recent: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let first = |i: usize, id: &u32| !recent[..i].contains(id);
    for (_, id) in recent.iter().enumerate().filter(|(i, id)| first(*i, id)) {
        if let Some(Candidate { score, .. }) = all.get_mut(*id as usize) {
            *score = if *score > 0.0 { *score / penalty } else { *score * penalty };
        }
    }
}

/// Counts how often each token was drawn.
fn count(all: &mut [Candidate], drawn: &[u32]) {
    for id in drawn {
        if let Some(candidate) = all.get_mut(*id as usize) {
            candidate.id += 1;
        }
    }
}

/// Takes the frequency and presence penalty off those that were counted, and moves the finite ones that are allowed
/// together, in the order of their ids.
fn gather<'c>(
    all: &'c mut [Candidate],
    guidance: Guidance<'_>,
    sampling: &Sampling,
) -> &'c mut [Candidate] {
    let Sampling { presence_penalty, frequency_penalty, .. } = sampling;
    let mut kept = 0;
    for (place, id) in (0..all.len()).zip(0..) {
        let Candidate { mut score, id: count } = all[place];
        if count > 0 {
            score = score - count as f32 * frequency_penalty - presence_penalty;
        }
        if score.is_finite() && guidance.allows(id) {
            all[kept] = Candidate { score, id };
            kept += 1;
        }
    }
    &mut all[..kept]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::REPEAT_WINDOW;

    const VOCAB: usize = 300;
    const TEXT: usize = 3000;
    const PROMPT: usize = 700;

    /// Numbers that look random.
    fn numbers(seed: u32) -> impl Iterator<Item = u32> {
        let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        core::iter::successors(next(&seed), next).map(|x| x >> 8)
    }

    /// Logits from -16 to 16, some of which are not finite.
    fn logits(seed: u32) -> [f32; VOCAB] {
        let mut numbers = numbers(seed);
        core::array::from_fn(|i| match i % 19 {
            3 => f32::NEG_INFINITY,
            4 => f32::NAN,
            _ => numbers.next().unwrap() as f32 / (1 << 19) as f32 - 16.0,
        })
    }

    /// Ids, some of which are none of the vocabulary's.
    fn text(seed: u32) -> [u32; TEXT] {
        let mut numbers = numbers(seed);
        core::array::from_fn(|_| {
            let [a, b] = [0; 2].map(|_| numbers.next().unwrap() % (VOCAB as u32 + 9));
            a.min(b)
        })
    }

    /// A logit after everything, as the definitions have it.
    fn naive(id: u32, logit: f32, text: &[u32], bias: &[(u32, f32)], sampling: &Sampling) -> f32 {
        let mut logit = bias.iter().find(|(i, _)| *i == id).map_or(logit, |(_, b)| logit + b);
        let penalty = sampling.repeat_penalty;
        if penalty != 1.0 && text[TEXT - REPEAT_WINDOW..].contains(&id) {
            logit = if logit > 0.0 { logit / penalty } else { logit * penalty };
        }
        let count = text[PROMPT..].iter().filter(|i| **i == id).count() as f32;
        let presence = if count > 0.0 { sampling.presence_penalty } else { 0.0 };
        logit - count * sampling.frequency_penalty - presence
    }

    #[test]
    fn penalties_and_biases_are_what_their_definitions_say() {
        let mut memory = [0; 8 * VOCAB + 128];
        let mut candidates = Candidates::new(VOCAB, &mut Arena::new(&mut memory)).unwrap();
        let penalties = [(1.0, 0.0, 0.0), (1.0, 1.5, 0.0), (1.0, 0.0, -0.3), (1.3, -2.0, 1.7)];
        let biases: [&[(u32, f32)]; 2] =
            [&[], &[(0, -100.0), (3, 100.0), (77, 0.1), (299, 5.0), (300, 9.0)]];
        for (seed, (repeat_penalty, presence_penalty, frequency_penalty)) in (0..).zip(penalties) {
            let penalties = Sampling { presence_penalty, frequency_penalty, ..Sampling::GREEDY };
            let sampling = Sampling { repeat_penalty, ..penalties };
            let (logits, text) = (logits(seed), text(seed + 9));
            for bias in biases {
                let history = History { text: &text, prompt: PROMPT };
                let guidance = Guidance { bias, allowed: None };
                let found = candidates.weigh(&logits, history, guidance, &sampling);
                let finite = logits.iter().zip(0..).filter(|(logit, _)| logit.is_finite());
                let expected = finite.map(|(l, id)| (id, naive(id, *l, &text, bias, &sampling)));
                assert!(expected.map(bits).eq(found.iter().map(|c| bits((c.id, c.score)))));
            }
        }
    }

    /// Also where many are alike, some are not finite, and some are not allowed.
    #[test]
    fn the_likeliest_are_those_of_all() {
        const MANY: usize = 5000;
        let mut memory = [[0; 8 * MANY + 128]; 2];
        let [mut first, mut second] =
            memory.each_mut().map(|m| Candidates::new(MANY, &mut Arena::new(m)).unwrap());
        let mut words = [0; MANY.div_ceil(32)];
        words.iter_mut().zip(numbers(5)).for_each(|(word, number)| *word = number << 8 | number);
        for (seed, alike) in (0..).zip([1.0, 0.0, 8.0, 4096.0]) {
            let mut logits = [0.0; MANY];
            let mut numbers = numbers(seed).map(|n| n as f32 / (1 << 19) as f32 - 16.0);
            for (i, logit) in logits.iter_mut().enumerate() {
                let x = numbers.next().unwrap();
                *logit = match i % 97 {
                    5 => f32::INFINITY,
                    6 => f32::NAN,
                    7 => f32::NEG_INFINITY,
                    _ if alike == 0.0 => x * 0.0,
                    _ => libm::floorf(x * alike) / alike,
                };
            }
            for allowed in [None, Some(&words[..])] {
                for k in [1, 2, 20, 300, 700, MANY] {
                    let all = first.fill(&logits, allowed);
                    all.sort_unstable_by(order);
                    let some = second.fill_likeliest(&logits, allowed, k);
                    some.sort_unstable_by(order);
                    let all = all.iter().take(k).map(|c| bits((c.id, c.score)));
                    assert!(all.eq(some.iter().take(k).map(|c| bits((c.id, c.score)))), "{k}");
                }
            }
        }
    }

    fn bits((id, score): (u32, f32)) -> (u32, u32) {
        (id, score.to_bits())
    }

    #[test]
    fn nothing_to_weigh_changes_no_bit() {
        let mut memory = [0; 8 * VOCAB + 128];
        let mut candidates = Candidates::new(VOCAB, &mut Arena::new(&mut memory)).unwrap();
        let (mut logits, text) = (logits(1), text(2));
        logits[0] = -0.0;
        let mut plain = [(0, 0); VOCAB];
        let filled = candidates.fill(&logits, None);
        let len = filled.len();
        plain.iter_mut().zip(filled).for_each(|(p, c)| *p = bits((c.id, c.score)));
        let history = History { text: &text, prompt: PROMPT };
        let found = candidates.weigh(&logits, history, Guidance::default(), &Sampling::GREEDY);
        assert!(found.iter().map(|c| bits((c.id, c.score))).eq(plain[..len].iter().copied()));
    }
}
