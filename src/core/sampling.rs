//! How tokens are drawn.

/// How tokens are drawn. The order is: repetition penalty, frequency and presence penalty, temperature,
/// top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token always.
    pub temperature: f32,
    /// Keeps the `top_k` likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keeps the likeliest tokens until their probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this probable, relative to the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Weakens tokens among the last [`REPEAT_WINDOW`](crate::REPEAT_WINDOW); 1 does nothing.
    pub repeat_penalty: f32,
    /// Is subtracted from the logit of each token that was drawn, the prompt aside: -2 to 2, 0 does
    /// nothing, less than 0 strengthens.
    pub presence_penalty: f32,
    /// As the presence penalty, but as many times as the token was drawn.
    pub frequency_penalty: f32,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Default for Sampling {
    /// As recommended for the published models, with seed 0.
    fn default() -> Sampling {
        Sampling { temperature: 0.6, top_k: 20, top_p: 0.95, ..Sampling::GREEDY }
    }
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        seed: 0,
    };

    /// How many of the largest logits decide what is drawn, if none has a bias; 0 if all do.
    pub fn top(&self) -> usize {
        match self {
            _ if self.has_penalties() => 0,
            Sampling { temperature, .. } if *temperature <= 0.0 => 1,
            Sampling { top_k, .. } => *top_k,
        }
    }

    /// Whether logits depend on the text before.
    pub(crate) fn has_penalties(&self) -> bool {
        self.repeat_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_logits_decide_where_any_is_penalized() {
        let recommended = Sampling::default();
        assert_eq!((Sampling::GREEDY.top(), recommended.top()), (1, 20));
        for sampling in [Sampling::GREEDY, recommended] {
            assert_eq!(Sampling { repeat_penalty: 1.1, ..sampling }.top(), 0);
            assert_eq!(Sampling { presence_penalty: -0.1, ..sampling }.top(), 0);
            assert_eq!(Sampling { frequency_penalty: 0.1, ..sampling }.top(), 0);
        }
    }
}
