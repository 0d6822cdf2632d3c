//! Generations whose text is limited to some form.

use super::{Came, TOKENIZER, in_memory, nano, request, requests, run};
use std::sync::LazyLock;
use wick_core::{HeadRows, SampleError, Sampling};
use wick_session::{Constraint, ConstraintError, Ended, Failure, Request};
use wick_text::Special;

/// Entries of nano's vocabulary.
static VOCAB: LazyLock<usize> = LazyLock::new(|| nano().config.vocab);

/// A form that is written down beforehand.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// What may be drawn at each step; all that comes after is as in the last.
    steps: Vec<Option<Vec<u32>>>,
    /// Whether the text ends with the last step.
    ends: bool,
    /// The step that it fails before.
    fails: Option<usize>,
    taken: Vec<u32>,
    mask: Vec<u32>,
}

impl Script {
    /// A text of which each token may be one of some.
    pub(super) fn of(steps: Vec<Option<Vec<u32>>>) -> Script {
        Script { steps, ..Script::default() }
    }
}

impl Constraint for Script {
    fn allowed(&mut self) -> Result<Option<&[u32]>, ConstraintError> {
        if self.fails == Some(self.taken.len()) {
            return Err(ConstraintError { reason: "scripted" });
        }
        let step = &self.steps[self.taken.len().min(self.steps.len() - 1)];
        let Some(ids) = step else { return Ok(None) };
        self.mask = vec![0; VOCAB.div_ceil(32)];
        ids.iter().for_each(|id| self.mask[*id as usize / 32] |= 1 << (id % 32));
        Ok(Some(&self.mask))
    }

    fn take(&mut self, id: u32) -> Result<(), ConstraintError> {
        self.taken.push(id);
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.ends && self.taken.len() == self.steps.len()
    }
}

pub(super) fn with(script: &Script, request: Request) -> Request {
    Request { constraint: Some(Box::new(script.clone())), ..request }
}

fn one(script: &Script, sampling: Sampling) -> Came {
    let asked = with(script, request("what can you do?", sampling));
    run(&mut in_memory(1, 64, HeadRows::Exact), vec![asked]).remove(0)
}

fn token(text: &str) -> u32 {
    TOKENIZER.id_of(text).unwrap()
}

fn digits() -> Script {
    let digits = (0..10).map(|digit| token(&digit.to_string())).collect();
    Script { steps: vec![Some(digits)], ..Script::default() }
}

/// The token that ends a turn.
fn end() -> u32 {
    token("<|im_end|>")
}

pub(super) const WILD: Sampling =
    Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, seed: 5, ..Sampling::GREEDY };

#[test]
fn only_what_is_allowed_is_drawn() {
    for sampling in [Sampling::GREEDY, WILD, Sampling { presence_penalty: 1.0, ..WILD }] {
        let came = one(&digits(), sampling);
        assert_eq!((came.text.len(), came.ended), (24, Some(Ended::Length)), "{came:?}");
        assert!(came.text.bytes().all(|byte| byte.is_ascii_digit()), "{came:?}");
    }
    // A form that allows all changes nothing.
    let free = Script { steps: vec![None], ..Script::default() };
    let plain = request("what can you do?", WILD);
    let plain = run(&mut in_memory(1, 64, HeadRows::Exact), vec![plain]).remove(0);
    assert_eq!(one(&free, WILD), plain);
}

#[test]
fn a_text_can_be_forced_and_ends_where_it_is_complete() {
    let mut ids = Vec::new();
    TOKENIZER.encode("no lamp is \"blue\".", Special::Text, &mut ids);
    let forced = ids.iter().map(|id| Some(vec![*id])).collect();
    let mut script = Script { steps: forced, ends: true, ..Script::default() };
    let came = one(&script, WILD);
    assert_eq!((&*came.text, came.ended), ("no lamp is \"blue\".", Some(Ended::Stop)));
    assert_eq!(came.drawn, ids);
    // Where it does not end of itself, the model ends it, but only when it may.
    (script.ends, script.steps) = (false, [script.steps, vec![Some(vec![end()])]].concat());
    assert_eq!(one(&script, WILD), came);
    // A stop string is one here too.
    let asked = Request { stop: vec!["amp".into()], ..request("hi", WILD) };
    let cut = run(&mut in_memory(1, 64, HeadRows::Exact), vec![with(&script, asked)]).remove(0);
    assert_eq!((&*cut.text, cut.ended), ("no l", Some(Ended::StopString(0))));
}

#[test]
fn a_form_that_cannot_be_kept_ends_the_generation() {
    let none = one(&Script { steps: vec![Some(vec![])], ..Script::default() }, WILD);
    let Some(Ended::Failed(Failure::Sample(error))) = none.ended else { panic!("{none:?}") };
    assert!(matches!(error, SampleError { allowed: Some(0), .. }), "{error:?}");
    assert!(error.to_string().ends_with("tokens is allowed next"), "{error}");
    let fails = one(&Script { fails: Some(2), ..digits() }, WILD);
    let Some(Ended::Failed(failure)) = fails.ended else { panic!("{fails:?}") };
    assert_eq!(failure.to_string(), "the form that the text must have: scripted");
    assert_eq!(fails.drawn.len(), 2);
}

/// With its form, a generation has the text that it has alone, and so have others beside it.
#[test]
fn others_are_not_limited() {
    for head_rows in [HeadRows::Exact, HeadRows::Coarse] {
        let asked = || {
            let coarse = Request { head_rows, ..request("what can you do?", WILD) };
            let limited = [with(&digits(), coarse), with(&digits(), request("hi", WILD))];
            limited.into_iter().chain(requests()).collect::<Vec<_>>()
        };
        let together = run(&mut in_memory(6, 64, head_rows), asked());
        let alone = asked().into_iter().map(|r| run(&mut in_memory(1, 64, head_rows), vec![r]));
        assert_eq!(together, alone.map(|mut came| came.remove(0)).collect::<Vec<_>>());
    }
}
