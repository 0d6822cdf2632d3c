//! What a sequence in use holds is copied to another whose prompt begins so.

use super::{Came, TOKENIZER, ids, options, request, run, scheduler};
use wick_core::{HeadRows, KvFormat, Options, Sampler, Sampling, Serial};
use wick_linux::kernels;
use wick_session::{Generation, Request, Scheduler};
use wick_tests::{Model, sample};

fn with(model: &str, options: Options) -> Scheduler<'static> {
    scheduler(Model::golden(model).with(kernels()).engine(options, &Serial))
}

/// Starts `first` and steps it so often, then `second` beside it; what came of the second, and how many tokens of its
/// prompt were there.
fn beside(
    scheduler: &mut Scheduler<'_>,
    first: Request,
    steps: usize,
    second: Request,
) -> (Came, usize) {
    scheduler.start(first).unwrap();
    for _ in 0..steps {
        scheduler.step(&TOKENIZER);
    }
    let id = scheduler.start(second).unwrap();
    let cached = scheduler.generation(id).map_or(0, Generation::cached_tokens);
    let mut came = Came::default();
    while came.ended.is_none() {
        scheduler.step(&TOKENIZER);
        came.take(scheduler, id);
    }
    (came, cached)
}

#[test]
fn a_common_beginning_is_read_once_even_from_who_is_at_it() {
    let text = "remember: the code is 4711. what is the code?";
    let other = "remember: the code is 4711. what is 2 plus 3?";
    let common = ids(text).iter().zip(ids(other)).take_while(|(a, b)| **a == *b).count();
    for kv in [KvFormat::F16, KvFormat::Q8_0] {
        let options = Options { kv, ..options(3, 64, HeadRows::Exact) };
        let alone =
            run(&mut with(super::NANO, options), vec![request(text, Sampling::GREEDY)]).remove(0);
        for steps in [1, 3] {
            let first = request(other, Sampling::GREEDY);
            let second = request(text, Sampling::GREEDY);
            let (came, cached) = beside(&mut with(super::NANO, options), first, steps, second);
            assert_eq!(came, alone, "{kv:?}, {steps} steps");
            assert!(common > 10 && cached == common, "{cached} of {common}");
        }
        // Not of those that another asked.
        let first = Request { owner: 1, ..request(text, Sampling::GREEDY) };
        let second = request(text, Sampling::GREEDY);
        let (came, cached) = beside(&mut with(super::NANO, options), first, 2, second);
        assert_eq!((came, cached), (alone, 0));
    }
}

/// Windows of 8 positions: a beginning that the ring has lost is read again, one that it holds is copied from any place of
/// the ring.
#[test]
fn rings_are_copied_as_far_as_they_reach() {
    let options = Options { context: 96, batch: 4, ..options(2, 4, HeadRows::Exact) };
    let prompt: Vec<u32> = (0..40).map(|i| 5 + i * 7 % 200).collect();
    let ask = |prompt: &[u32]| Request::new(prompt.to_vec(), 8, Sampler::new(Sampling::GREEDY));
    let mut copied = 0;
    for common in sample((2..40).step_by(3)) {
        let mut second = prompt[..common].to_vec();
        second.extend([201, 202, 203]);
        let alone = run(&mut with("window8", options), vec![ask(&second)]).remove(0);
        for steps in [1, 5, 10, 14] {
            let first = Request { most: 40, ..ask(&prompt) };
            let (came, cached) = beside(&mut with("window8", options), first, steps, ask(&second));
            assert_eq!(
                came.drawn, alone.drawn,
                "{common} in common, {steps} steps, {cached} copied"
            );
            copied += usize::from(cached > 0);
        }
    }
    assert!(copied > 5, "{copied}");
}
