//! Generations side by side in one engine: each has the text that it has alone, ends for its own
//! reasons, and goes on from what its sequence holds.

mod constraint;
mod copies;
mod drafts;
mod embeddings;
mod sampling;
mod tools;

use std::sync::LazyLock;
use wick_core::{
    Approximation, Arena, Candidates, Engine, ExpertKey, HeadRows, KvFormat, LeastRecent, Options,
    Plan, Sampler, Sampling, Serial, StepError, StoreReason,
};
use wick_format::Gguf;
use wick_linux::kernels;
use wick_session::{
    Ended, Failure, GenerationId, Request, Scheduler, StartError, Stepped, tokenizer,
};
use wick_tests::store::MemoryStore;
use wick_tests::{Model, golden_bytes, sample};
use wick_text::{Special, Tokenizer};

const NANO: &str = "../models/nano/nano";

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let gguf = Gguf::parse(golden_bytes(&format!("{NANO}.gguf"))).unwrap();
    tokenizer(&gguf).unwrap()
});

fn nano() -> Model {
    Model::golden(NANO).with(kernels())
}

fn options(sequences: usize, batch: usize, head_rows: HeadRows) -> Options {
    let logits = sequences.min(batch);
    Options { context: 96, sequences, batch, logits, head_rows, kv: KvFormat::F16 }
}

fn scheduler(engine: Engine<'static>) -> Scheduler<'static> {
    let vocab = engine.config().vocab;
    let memory = vec![0xAA; 8 * vocab + 128].leak();
    Scheduler::new(engine, Candidates::new(vocab, &mut Arena::new(memory)).unwrap())
}

fn in_memory(sequences: usize, batch: usize, head_rows: HeadRows) -> Scheduler<'static> {
    let model = if head_rows == HeadRows::Exact { nano() } else { nano().arranged_for(head_rows) };
    scheduler(model.engine(options(sequences, batch, head_rows), &Serial))
}

fn ids(text: &str) -> Vec<u32> {
    let text = format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
    let mut ids = Vec::new();
    TOKENIZER.encode(&text, Special::Parse, &mut ids);
    ids
}

fn request(text: &str, sampling: Sampling) -> Request {
    Request::new(ids(text), 24, Sampler::new(sampling))
}

/// Requests that differ in all that a request can say.
fn requests() -> Vec<Request> {
    let warm = Sampling { temperature: 1.2, top_k: 40, seed: 11, ..Sampling::default() };
    let wild = Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, seed: 5, ..Sampling::default() };
    let penalties = Sampling { presence_penalty: 0.4, frequency_penalty: -0.2, ..warm };
    let varied = Sampling { repeat_penalty: 1.3, min_p: 0.05, seed: 3, ..penalties };
    let logit_bias = vec![(20, -100.0), (30, 1.5)];
    vec![
        request("dim the kitchen light to 40 percent", Sampling::GREEDY),
        Request { head_rows: HeadRows::Coarse, logit_bias, ..request("what can you do?", warm) },
        Request { stop: vec![" ".into()], ..request("what is 7 times 8?", wild) },
        Request { log_probabilities: Some(3), ..request("who are you?", varied) },
    ]
}

/// What a generation has come to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Came {
    text: String,
    drawn: Vec<u32>,
    log_probabilities: Vec<(u32, u32, usize)>,
    ended: Option<Ended>,
}

impl Came {
    /// Takes what the last step brought.
    fn take(&mut self, scheduler: &Scheduler<'_>, id: GenerationId) {
        let generation = scheduler.generation(id).unwrap();
        if self.ended.is_some() {
            return;
        }
        self.text += generation.text();
        if let Some(drawn) = generation.last_drawn() {
            self.drawn.push(drawn);
        }
        if let Some(p) = generation.log_probability() {
            self.log_probabilities.push((p.id, p.value.to_bits(), p.top.len()));
        }
        self.ended = generation.ended();
        assert_eq!(self.drawn, generation.drawn());
    }
}

/// Runs requests that come one step after another, and what came of each.
fn run(scheduler: &mut Scheduler<'_>, requests: Vec<Request>) -> Vec<Came> {
    let mut waiting = requests.into_iter();
    let mut running = Vec::new();
    loop {
        let next = waiting.next().map(|request| scheduler.start(request).unwrap());
        running.extend(next.map(|id| (id, Came::default())));
        if next.is_none() && scheduler.is_idle() {
            break;
        }
        scheduler.step(&TOKENIZER);
        running.iter_mut().for_each(|(id, came)| came.take(scheduler, *id));
    }
    for (id, came) in &running {
        assert_eq!(scheduler.release(*id), came.ended);
        assert_eq!(scheduler.release(*id), None);
    }
    running.into_iter().map(|(_, came)| came).collect()
}

fn alone(head_rows: HeadRows) -> Vec<Came> {
    let one = |request| run(&mut in_memory(1, 64, head_rows), vec![request]).remove(0);
    requests().into_iter().map(one).collect()
}

#[test]
fn together_each_has_the_text_that_it_has_alone() {
    for head_rows in [HeadRows::Exact, HeadRows::Coarse] {
        let expected = alone(head_rows);
        assert!(expected.iter().all(|came| !came.drawn.is_empty()));
        assert_eq!(expected[0].ended, Some(Ended::Stop));
        assert_eq!(expected[2].ended, Some(Ended::StopString(0)));
        assert_eq!(expected[3].log_probabilities.len(), expected[3].drawn.len() + 1);
        for (batch, chunk) in [(64, 64), (64, 3), (5, 5), (3, 1), (2, 2)] {
            let mut scheduler = in_memory(4, batch, head_rows);
            scheduler.limit_prompts(chunk);
            let found = run(&mut scheduler, requests());
            assert!(found == expected, "{head_rows:?}, {batch}, {chunk}: {found:?}\n{expected:?}");
            let mut turned = requests();
            turned.reverse();
            let mut found = run(&mut scheduler, turned);
            found.reverse();
            assert!(found == expected, "{head_rows:?}, {batch}, {chunk}, in sequences used before");
        }
    }
}

/// With experts of one layer that cannot be read, those end that want them, and nobody else notices.
#[test]
fn only_who_wants_an_expert_that_cannot_be_read_fails() {
    let model = nano();
    let expected = alone(HeadRows::Exact);
    let reason = StoreReason::Refused { code: 5 };
    let (mut failures, mut mixed) = (0, 0);
    for expert in sample(0..model.config.experts) {
        let key = ExpertKey { layer: 3, expert };
        let store = Box::leak(Box::new(MemoryStore::new(model.weights, 24, expert as u64)));
        store.failing.push((key, reason));
        let engine = model.streaming(options(4, 16, HeadRows::Exact), store, &LeastRecent, &Serial);
        let mut scheduler = scheduler(engine);
        let mut requests = requests();
        requests[1].head_rows = HeadRows::Exact;
        let found = run(&mut scheduler, requests);
        let failed = |came: &Came| match came.ended {
            Some(Ended::Failed(Failure::Step(StepError::Store(error)))) => {
                assert_eq!((error.at.unwrap().0, error.reason), (key, reason));
                true
            }
            _ => false,
        };
        for (found, expected) in found.iter().zip(&expected) {
            if failed(found) {
                assert!(expected.drawn.starts_with(&found.drawn));
                failures += 1;
            } else {
                assert_eq!(found, expected, "expert {expert}");
            }
        }
        mixed += usize::from(found.iter().any(failed) && !found.iter().all(failed));
        // What was wrong has passed: the next request is answered as ever.
        let again = run(&mut scheduler, vec![self::requests().remove(0)]);
        assert_eq!(again[0], expected[0]);
    }
    assert!(failures > 0 && mixed > 0, "{failures} failures");
}

#[test]
fn a_generation_ends_for_a_reason() {
    let text = "dim the kitchen light to 40 percent";
    let whole = &alone(HeadRows::Exact)[0];
    let mut scheduler = in_memory(1, 64, HeadRows::Exact);
    let mut ended = |request: Request| run(&mut scheduler, vec![request]).remove(0);
    let greedy = || request(text, Sampling::GREEDY);
    let short = ended(Request { most: 5, ..greedy() });
    assert_eq!((short.ended, &short.drawn[..]), (Some(Ended::Length), &whole.drawn[..5]));
    let nothing = ended(Request { most: 0, ..greedy() });
    assert_eq!(nothing, Came { ended: Some(Ended::Length), ..Came::default() });

    // Every text that stands in the answer stops it before its first place, wherever tokens end.
    for (start, _) in sample(whole.text.char_indices()) {
        for len in [1, 2, 7] {
            let Some(stop) = whole.text.get(start..start + len) else { continue };
            let stopped = ended(Request { stop: vec!["\0".into(), stop.into()], ..greedy() });
            assert_eq!(stopped.ended, Some(Ended::StopString(1)));
            assert_eq!(stopped.text, whole.text[..whole.text.find(stop).unwrap()]);
        }
    }

    let full = ids(&"lamp ".repeat(80));
    let filled = Request::new(full[..90].to_vec(), 99, Sampler::new(Sampling::GREEDY));
    let came = ended(filled);
    assert!(matches!(came.ended, Some(Ended::Context | Ended::Stop)), "{came:?}");
    assert!(came.drawn.len() <= 7);

    let id = scheduler.start(greedy()).unwrap();
    scheduler.step(&TOKENIZER);
    assert_eq!(scheduler.generation(id).unwrap().ended(), None);
    assert_eq!(scheduler.release(id), Some(Ended::Cancelled));
    assert!(scheduler.is_idle() && scheduler.generation(id).is_none());
}

#[test]
fn the_context_ends_what_does_not_end_itself() {
    let endless = Sampling { temperature: 9.0, top_k: 0, top_p: 1.0, seed: 1, ..Sampling::GREEDY };
    let mut scheduler = in_memory(1, 64, HeadRows::Exact);
    let came = run(&mut scheduler, vec![Request { most: 999, ..request("hello", endless) }]);
    assert_eq!(came[0].ended, Some(Ended::Context));
    assert_eq!(ids("hello").len() + came[0].drawn.len(), 96 + 1);
}

#[test]
fn what_a_sequence_holds_is_not_read_again() {
    let mut scheduler = in_memory(2, 64, HeadRows::Exact);
    let (first, other) = ("what is 7 times 8?", "turn on the light in the kitchen");
    let greedy = |text| request(text, Sampling::GREEDY);
    let read = |scheduler: &mut Scheduler<'_>, text| {
        let id = scheduler.start(greedy(text)).unwrap();
        let cached = scheduler.generation(id).unwrap().cached_tokens();
        let mut stepped = Stepped::default();
        while !scheduler.is_idle() {
            stepped.prompt += scheduler.step(&TOKENIZER).prompt;
        }
        assert_eq!(cached + stepped.prompt, ids(text).len());
        scheduler.release(id);
        cached
    };
    assert_eq!(read(&mut scheduler, first), 0);
    // All but the last token, whose logits are wanted; in the sequence that has most of it.
    assert_eq!(read(&mut scheduler, first), ids(first).len() - 1);
    let common = ids(first).iter().zip(&ids(other)).take_while(|(a, b)| a == b).count();
    assert_eq!(read(&mut scheduler, other), common);
    assert!(common > 0 && common < ids(first).len() - 1);
}

#[test]
fn logarithms_of_probabilities_are_those_of_the_logits() {
    let mut scheduler = in_memory(1, 64, HeadRows::Coarse);
    let coarse = request("who are you?", Sampling::GREEDY);
    let id = scheduler
        .start(Request { head_rows: HeadRows::Coarse, log_probabilities: Some(20), ..coarse })
        .unwrap();
    while !scheduler.is_idle() {
        scheduler.step(&TOKENIZER);
        let generation = scheduler.generation(id).unwrap();
        let Some(found) = generation.log_probability() else { continue };
        let logits = scheduler.logits(id).unwrap();
        assert!(logits.iter().all(|logit| logit.is_finite()), "all are computed");
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        let of = |id: u32| (f64::from(logits[id as usize]) - sum.ln()) as f32;
        assert!((found.value - of(found.id)).abs() < 1e-4, "{found:?}");
        assert_eq!((found.top.len(), found.top[0].0), (20, found.id), "the likeliest is drawn");
        assert!(found.top.iter().all(|(id, value)| (value - of(*id)).abs() < 1e-4));
        assert!(found.top.is_sorted_by(|a, b| a.1 >= b.1));
        if let Some(drawn) = generation.last_drawn() {
            assert_eq!(drawn, found.id);
        }
    }
}

#[test]
fn what_cannot_be_served_is_refused_and_changes_nothing() {
    let mut scheduler = in_memory(1, 64, HeadRows::Exact);
    let vocab = nano().config.vocab;
    let with = |prompt| Request { prompt, ..request("", Sampling::GREEDY) };
    assert_eq!(scheduler.start(with(vec![])), Err(StartError::Empty));
    let long = StartError::TooLong { found: 97, context: 96 };
    assert_eq!(scheduler.start(with(vec![1; 97])), Err(long));
    let unknown = StartError::Id { id: vocab as u32, vocab };
    assert_eq!(scheduler.start(with(vec![1, vocab as u32])), Err(unknown));
    let many = Request { log_probabilities: Some(21), ..with(vec![1]) };
    let refused = StartError::LogProbabilities { found: 21, most: 20 };
    assert_eq!(scheduler.start(many), Err(refused));
    let id = scheduler.start(with(vec![1])).unwrap();
    assert_eq!(scheduler.start(with(vec![1])), Err(StartError::Busy { sequences: 1 }));
    let nothing = Stepped::default();
    assert_eq!(scheduler.step(&TOKENIZER), Stepped { prompt: 1, ..nothing });
    assert_eq!(scheduler.step(&TOKENIZER), Stepped { drawn: 1, ..nothing });
    scheduler.release(id);
    assert_eq!(scheduler.step(&TOKENIZER), Stepped::default());
}

/// Those that draw leave a prompt its turn where a step has no room, or no logits, for all.
#[test]
fn a_prompt_is_read_while_others_draw() {
    let expected = alone(HeadRows::Exact);
    for (batch, logits) in [(1, 1), (2, 2), (8, 1), (8, 2)] {
        let engine =
            nano().engine(Options { logits, ..options(3, batch, HeadRows::Exact) }, &Serial);
        let mut scheduler = scheduler(engine);
        let long = || Request { most: 60, ..request("what can you do?", Sampling::GREEDY) };
        let mut ids = [0, 1].map(|_| scheduler.start(long()).unwrap()).to_vec();
        while ids.iter().any(|id| scheduler.generation(*id).unwrap().is_reading()) {
            scheduler.step(&TOKENIZER);
        }
        let last = scheduler.start(requests().remove(0)).unwrap();
        ids.push(last);
        let mut text = String::new();
        while scheduler.generation(last).unwrap().ended().is_none() {
            let held = |scheduler: &Scheduler<'_>, id: GenerationId| {
                let generation = scheduler.generation(id).unwrap();
                if generation.ended().is_some() { usize::MAX } else { generation.held_tokens() }
            };
            let before: Vec<usize> = ids.iter().map(|id| held(&scheduler, *id)).collect();
            for _ in 0..4 {
                scheduler.step(&TOKENIZER);
                text += scheduler.generation(last).unwrap().text();
            }
            let moved = |(id, before): (&GenerationId, &usize)| {
                *before == usize::MAX || held(&scheduler, *id) > *before
            };
            assert!(ids.iter().zip(&before).all(moved), "batch {batch}, {logits} logits");
        }
        assert_eq!(text, expected[0].text, "batch {batch}, {logits} logits");
    }
}

/// A plan counts what a scheduler's candidates take.
#[test]
fn a_plan_has_room_for_the_candidates() {
    let model = nano();
    let options = options(3, 8, HeadRows::Exact);
    let plan = Plan::new(&model.config, model.weights, &options).unwrap();
    let mut arena = Arena::new(vec![0; plan.arena()].leak());
    let (weights, kernels) = (model.weights, model.kernels);
    Engine::new(model.config, weights, options, &mut arena, kernels, &Serial).unwrap();
    Candidates::new(model.config.vocab, &mut arena).unwrap();
}

/// Only drawn tokens are computed in another way: a prompt is read as it is.
#[test]
fn approximations_spare_the_prompt() {
    let model = nano();
    let approximation = Approximation { prefer_resident: 9.0, skip_missing: 0.9, low_bit: false };
    let first = |approximation| {
        let store = Box::leak(Box::new(MemoryStore::new(model.weights, 12, 1)));
        let engine = model.streaming(options(1, 1, HeadRows::Exact), store, &LeastRecent, &Serial);
        let mut scheduler = scheduler(engine);
        let text = request("what can you do?", Sampling::GREEDY);
        let id = scheduler.start(Request { approximation, ..text }).unwrap();
        while scheduler.generation(id).unwrap().is_reading() {
            scheduler.step(&TOKENIZER);
        }
        let after_prompt = scheduler.logits(id).unwrap().to_vec();
        scheduler.step(&TOKENIZER);
        (after_prompt, scheduler.logits(id).unwrap().to_vec())
    };
    let (exact, other) = (first(Approximation::NONE), first(approximation));
    assert!(exact.0 == other.0 && exact.1 != other.1);
}

/// What was computed in another way is not taken for what the model computes.
#[test]
fn an_approximate_text_is_only_gone_on_with_alike() {
    let model = nano();
    let approximation = Approximation { prefer_resident: 9.0, skip_missing: 0.9, low_bit: false };
    let store = Box::leak(Box::new(MemoryStore::new(model.weights, 12, 1)));
    let engine = model.streaming(options(1, 8, HeadRows::Exact), store, &LeastRecent, &Serial);
    let mut scheduler = scheduler(engine);
    let mut cached = |prompt: &[u32], approximation, most| {
        let request = Request::new(prompt.to_vec(), most, Sampler::new(Sampling::GREEDY));
        let id = scheduler.start(Request { approximation, ..request }).unwrap();
        let cached = scheduler.generation(id).unwrap().cached_tokens();
        while !scheduler.is_idle() {
            scheduler.step(&TOKENIZER);
        }
        let text = [prompt, scheduler.generation(id).unwrap().drawn()].concat();
        scheduler.release(id);
        (cached, text)
    };
    let prompt = ids("what can you do?");
    let (_, text) = cached(&prompt, approximation, 9);
    assert!(text.len() > prompt.len() + 4);
    // The last token that was drawn is not held, and the last one of a prompt is read anew.
    assert_eq!(cached(&text, approximation, 0).0, text.len() - 1);
    assert_eq!(cached(&text, Approximation::NONE, 0).0, prompt.len());
    assert_eq!(cached(&text, approximation, 0).0, text.len() - 1);
}
