//! Drafts: several tokens of a text that repeats itself are drawn from one step, and are the same.

use super::constraint::{Script, WILD, with};
use super::{Came, TOKENIZER, ids, nano, options, request, requests, run, scheduler};
use wick_core::{
    Approximation, HeadRows, KvFormat, LeastRecent, Options, Sampling, Serial, StoreReason,
};
use wick_session::{Ended, GenerationId, Request, Scheduler, Stepped};
use wick_tests::sample;
use wick_tests::store::MemoryStore;
use wick_text::Special;

/// Options with room for so many drafted tokens.
fn roomy(sequences: usize, batch: usize, drafts: usize) -> Options {
    let logits = batch.min(sequences + drafts);
    Options { context: 160, logits, ..options(sequences, batch, HeadRows::Exact) }
}

fn drafting(options: Options, drafts: usize) -> Scheduler<'static> {
    let mut scheduler = scheduler(nano().engine(options, &Serial));
    scheduler.draft(drafts);
    scheduler
}

/// A text that says the same again and again, but for one word.
fn litany(most: usize) -> Request {
    let mut line = Vec::new();
    TOKENIZER.encode("no lamp is blue, and no door is open. ", Special::Text, &mut line);
    let mut text = line.repeat(8);
    text[3 * line.len() + 5] = line[7];
    let steps = text.into_iter().map(|id| Some(vec![id])).collect();
    let asked = Request { most, log_probabilities: Some(2), ..request("what can you do?", WILD) };
    with(&Script::of(steps), asked)
}

/// A text that falls into a loop by itself, at last.
fn loops() -> Request {
    let lamp = ids("lamp")[4];
    let sampling = Sampling { temperature: 0.7, seed: 2, ..Sampling::default() };
    Request { logit_bias: vec![(lamp, 12.0)], most: 60, ..request("who are you?", sampling) }
}

fn all() -> Vec<Request> {
    requests().into_iter().chain([litany(70), loops()]).collect()
}

/// What the steps of a generation did.
fn total(scheduler: &mut Scheduler<'_>, id: GenerationId, came: &mut Came) -> (usize, Stepped) {
    let (mut steps, mut all) = (0, Stepped::default());
    while came.ended.is_none() {
        let stepped = scheduler.step(&TOKENIZER);
        came.take(scheduler, id);
        steps += usize::from(stepped.drawn > 0);
        all.drawn += stepped.drawn;
        all.drafted += stepped.drafted;
        all.accepted += stepped.accepted;
        all.rejected += stepped.rejected;
    }
    (steps, all)
}

#[test]
fn what_is_said_again_takes_fewer_steps() {
    let expected = run(&mut drafting(roomy(1, 64, 0), 0), vec![litany(100)]).remove(0);
    let mut scheduler = drafting(roomy(1, 64, 8), 8);
    let id = scheduler.start(litany(100)).unwrap();
    let mut came = Came::default();
    let (steps, all) = total(&mut scheduler, id, &mut came);
    assert_eq!(came, expected);
    assert!(steps < 50, "{steps} for 100 tokens, {all:?}");
    assert_eq!(all.drafted, all.accepted + all.rejected);
    assert_eq!(all.drawn + all.accepted + 1, 100);
    assert!(all.rejected > 0, "one word is another: {all:?}");
    // The KV cache holds what it would without.
    assert_eq!(scheduler.engine().len(0), ids("what can you do?").len() + 99);
}

#[test]
fn drafts_change_nothing() {
    let one = |request| run(&mut drafting(roomy(1, 64, 0), 0), vec![request]).remove(0);
    let expected: Vec<Came> = all().into_iter().map(one).collect();
    for (batch, logits, drafts) in [(64, 14, 8), (64, 7, 8), (8, 8, 3), (6, 6, 5), (3, 2, 2)] {
        let options = Options { logits, ..roomy(6, batch, 0) };
        let found = run(&mut drafting(options, drafts), all());
        assert!(found == expected, "{batch}, {logits}, {drafts}: {found:?}\n{expected:?}");
    }
    for (kv, head_rows) in [(KvFormat::Q8_0, HeadRows::Exact), (KvFormat::F16, HeadRows::Coarse)] {
        let model = nano().arranged_for(head_rows);
        let options = Options { kv, head_rows, ..roomy(6, 16, 9) };
        let come = |drafts| {
            let mut scheduler = scheduler(model.engine(options, &Serial));
            scheduler.draft(drafts);
            let coarse = all().into_iter().map(|request| Request { head_rows, ..request });
            run(&mut scheduler, coarse.collect())
        };
        assert_eq!(come(0), come(8));
    }
}

#[test]
fn the_context_and_the_number_of_tokens_end_a_text_that_is_drafted() {
    let mut scheduler = drafting(roomy(1, 16, 8), 8);
    for most in sample(40..50).chain([999]) {
        let expected = run(&mut drafting(roomy(1, 16, 0), 0), vec![litany(most)]);
        let found = run(&mut scheduler, vec![litany(most)]);
        assert_eq!(found, expected, "{most}");
    }
    assert_eq!(run(&mut scheduler, vec![litany(999)])[0].ended, Some(Ended::Context));
}

/// What was drafted and not drawn is not taken for what was said.
#[test]
fn a_text_that_is_given_up_holds_what_was_drawn() {
    let mut scheduler = drafting(roomy(1, 16, 8), 8);
    for drawn in sample(30..50) {
        let id = scheduler.start(litany(99)).unwrap();
        while scheduler.generation(id).unwrap().drawn().len() < drawn {
            assert_ne!(scheduler.step(&TOKENIZER), Stepped::default());
        }
        let text = [&ids("what can you do?"), scheduler.generation(id).unwrap().drawn()].concat();
        scheduler.release(id);
        assert_eq!(scheduler.engine().len(0), text.len() - 1);
        let more = || Request { prompt: text.clone(), ..request("", Sampling::GREEDY) };
        let expected = run(&mut drafting(roomy(1, 16, 0), 0), vec![more()]);
        assert_eq!(run(&mut scheduler, vec![more()]), expected, "{drawn}");
    }
}

/// An expert that only a drafted token wants, and that cannot be read, ends nothing.
#[test]
fn drafts_that_fail_are_done_without() {
    let model = nano();
    let asked = || Request { prompt: vec![ids("hi")[0]], ..litany(70) };
    let expected = run(&mut drafting(roomy(1, 16, 0), 0), vec![asked()]).remove(0);
    let mut spared = 0;
    for reads in sample((1000..4000).step_by(50)) {
        let store = Box::leak(Box::new(MemoryStore::new(model.weights, 12, 1)));
        store.failing_after = Some((reads, StoreReason::Refused { code: 5 }));
        let engine = model.streaming(roomy(1, 16, 8), store, &LeastRecent, &Serial);
        let mut scheduler = scheduler(engine);
        scheduler.draft(8);
        let id = scheduler.start(asked()).unwrap();
        let mut came = Came::default();
        while came.ended.is_none() {
            let stepped = scheduler.step(&TOKENIZER);
            came.take(&scheduler, id);
            spared += usize::from(stepped == Stepped::default() && came.ended.is_none());
        }
        match came.ended {
            Some(Ended::Failed(_)) => assert!(expected.drawn.starts_with(&came.drawn)),
            _ => assert_eq!(came, expected),
        }
    }
    assert!(spared > 0);
}

#[test]
fn approximations_go_without_drafts() {
    let model = nano();
    let store = Box::leak(Box::new(MemoryStore::new(model.weights, 12, 1)));
    let mut scheduler = scheduler(model.streaming(roomy(1, 16, 8), store, &LeastRecent, &Serial));
    scheduler.draft(8);
    let approximation = Approximation { prefer_resident: 0.1, ..Approximation::NONE };
    let id = scheduler.start(Request { approximation, ..litany(70) }).unwrap();
    let (_, all) = total(&mut scheduler, id, &mut Came::default());
    assert_eq!((all.drafted, all.accepted), (0, 0));
}
