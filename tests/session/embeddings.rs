//! The embedding of a text is the mean of its hidden states, however it is read, and takes no text's place.

use super::{Came, TOKENIZER, ids, in_memory, nano, options, request, requests, run, scheduler};
use wick_core::{HeadRows, LeastRecent, Logits, Options, Sampling, Serial, Token};
use wick_session::{Ended, Request, Scheduler};
use wick_tests::store::MemoryStore;
use wick_tests::{Model, bits, largest_difference};

const TEXTS: [&str; 3] = ["who are you?", "turn on the light in the kitchen", "hi"];

/// The mean of what each token leaves, stepped alone.
fn expected(text: &[u32]) -> Vec<f32> {
    let mut engine = nano().engine(options(1, 1, HeadRows::Exact), &Serial);
    let hidden = engine.config().hidden;
    let (mut sum, mut row) = (vec![0.0; hidden], vec![0.0; hidden]);
    for id in text {
        engine.step(&[Token::new(*id, 0, Logits::None)]).unwrap();
        assert!(engine.hidden_state(0, &mut row) && !engine.hidden_state(1, &mut row));
        sum.iter_mut().zip(&row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    sum.iter().map(|value| (value / length) as f32).collect()
}

fn embed(scheduler: &mut Scheduler<'_>, text: &[u32]) -> Vec<f32> {
    let request = Request { owner: 7, ..Request::embedding(text.to_vec()) };
    let id = scheduler.start(request).unwrap();
    assert_eq!(scheduler.generation(id).unwrap().cached_tokens(), 0);
    while scheduler.generation(id).unwrap().ended().is_none() {
        assert_eq!(scheduler.generation(id).unwrap().embedding(), None);
        scheduler.step(&TOKENIZER);
    }
    let found = scheduler.generation(id).unwrap().embedding().unwrap();
    assert_eq!(scheduler.release(id), Some(Ended::Length));
    found
}

/// Hidden states are what the LM head multiplies.
#[test]
fn logits_are_products_of_hidden_states() {
    let model = Model::golden("f32-sigmoid-tied");
    let config = model.config;
    let options = Options { context: 16, ..options(1, 8, HeadRows::Exact) };
    let mut engine = model.engine(options, &Serial);
    engine.prefill(0, &[1, 2, 3, 4, 5], Logits::All).unwrap();
    let (mut row, mut head) = (vec![0.0; config.hidden], vec![0.0; config.hidden]);
    assert!(engine.hidden_state(4, &mut row));
    let products: Vec<f32> = (0..config.vocab)
        .map(|id| {
            model.weights.lm_head().dequantize_row(id, &mut head);
            head.iter().zip(&row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
        })
        .collect();
    assert!(largest_difference(&products, engine.logits(0).unwrap()) < 1e-4);
}

#[test]
fn an_embedding_does_not_depend_on_how_it_is_read() {
    let model = nano();
    for text in TEXTS.map(ids) {
        let expected = expected(&text);
        assert!((expected.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        for (sequences, batch) in [(1, 64), (2, 5), (3, 1)] {
            let found = embed(&mut in_memory(sequences, batch, HeadRows::Exact), &text);
            assert_eq!(bits(&found), bits(&expected), "batches of {batch}");
        }
        let store = Box::leak(Box::new(MemoryStore::new(model.weights, 24, 1)));
        let engine = model.streaming(options(1, 16, HeadRows::Exact), store, &LeastRecent, &Serial);
        assert_eq!(bits(&embed(&mut scheduler(engine), &text)), bits(&expected), "streamed");
    }
}

#[test]
fn nobody_notices_an_embedding_beside() {
    let alone = |request| run(&mut in_memory(1, 64, HeadRows::Exact), vec![request]).remove(0);
    let expected: Vec<Came> = requests().into_iter().map(alone).collect();
    let mut scheduler = in_memory(5, 7, HeadRows::Exact);
    let text = ids(TEXTS[1]);
    let id = scheduler.start(Request::embedding(text.clone())).unwrap();
    assert_eq!(run(&mut scheduler, requests()), expected);
    let found = scheduler.generation(id).unwrap().embedding().unwrap();
    assert_eq!(bits(&found), bits(&self::expected(&text)));
}

/// What sequences hold is kept as long as one is there that holds nothing, and what is read for an embedding is left to nobody.
#[test]
fn embeddings_go_past_what_sequences_hold() {
    let mut scheduler = in_memory(2, 64, HeadRows::Exact);
    let asked = || Request { most: 2, ..request(TEXTS[0], Sampling::GREEDY) };
    run(&mut scheduler, vec![asked()]);
    for text in TEXTS.map(ids) {
        embed(&mut scheduler, &text);
    }
    let mut cached = |request: Request| {
        let id = scheduler.start(request).unwrap();
        let cached = scheduler.generation(id).unwrap().cached_tokens();
        scheduler.release(id);
        cached
    };
    assert_eq!(cached(asked()), ids(TEXTS[0]).len() - 1);
    let other = Request { owner: 7, ..request(TEXTS[2], Sampling::GREEDY) };
    assert_eq!(cached(other), 0);
}
