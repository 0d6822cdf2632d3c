//! An answer as JSON, for programs.

use crate::answer::Figures;
use serde::Serialize;
use wick_session::Ended;

/// What became of a prompt.
#[derive(Serialize)]
pub(crate) struct Outcome<'a> {
    pub(crate) text: &'a str,
    /// Why the text ends: "stop" where the model or a stop string ended it, "length" at the most tokens,
    /// "context" where no position is left, "interrupted" by ctrl-C.
    pub(crate) finish: &'static str,
    /// Tokens of the prompt, and those of them that were held from the turns before.
    pub(crate) prompt_tokens: usize,
    pub(crate) cached_tokens: usize,
    pub(crate) answer_tokens: usize,
    /// With which the text is drawn again, or the whole conversation.
    pub(crate) seed: u64,
    pub(crate) seconds: Seconds,
}

/// How long it took.
#[derive(Serialize)]
pub(crate) struct Seconds {
    prefill: f64,
    decode: f64,
}

impl<'a> Outcome<'a> {
    /// Of an answer that ended so and has these figures.
    pub(crate) fn new(
        text: &'a str,
        ended: Option<Ended>,
        figures: &Figures,
        seed: u64,
    ) -> Outcome<'a> {
        let finish = match ended {
            Some(Ended::Stop | Ended::StopString(_)) => "stop",
            Some(Ended::Length) => "length",
            Some(Ended::Context) => "context",
            _ => "interrupted",
        };
        let [prefill, decode] = [figures.prefill, figures.decode].map(|time| time.as_secs_f64());
        let seconds = Seconds { prefill, decode };
        let (prompt_tokens, cached_tokens) = (figures.prompt + figures.cached, figures.cached);
        let answer_tokens = figures.drawn;
        Outcome { text, finish, prompt_tokens, cached_tokens, answer_tokens, seed, seconds }
    }
}
