//! What a request asks for belongs to its tokens: neither the logits that another token wants, nor
//! its approximations, nor an expert of it that cannot be read change a bit of anybody else's.

use wick_core::{
    Approximation, Engine, ExpertKey, HeadRows, KvFormat, LeastRecent, Logits, Options, Part,
    Serial, StepError, StoreReason, Token,
};
use wick_kernels::Format;
use wick_linux::kernels;
use wick_tests::store::MemoryStore;
use wick_tests::tiny::Tiny;
use wick_tests::{Model, bits, ids};

const TOKENS: usize = 24;

fn options(sequences: usize, head_rows: HeadRows) -> Options {
    Options { context: TOKENS, sequences, batch: 8, logits: 8, head_rows, kv: KvFormat::F16 }
}

/// The logits after each of a sequence's ids, which it steps alone.
fn alone(engine: &mut Engine<'_>, token: Token, ids: &[u32]) -> Vec<Vec<u32>> {
    let step = |id: &u32| {
        engine.step(&[Token { id: *id, ..token }]).unwrap();
        bits(engine.logits(0).unwrap())
    };
    ids.iter().map(step).collect()
}

/// Models whose LM head can be multiplied in part.
fn partial_heads() -> [(Model, HeadRows); 2] {
    let formats = vec![("output", Format::Q4_0)];
    let coarse = Tiny { formats, tied: false, ..Tiny::default() };
    let coarse = Model::read(&[coarse.to_bytes().leak()]);
    [(coarse, HeadRows::Coarse), (Model::golden("powerinfer"), HeadRows::Profiler)]
}

#[test]
fn each_token_has_the_logits_that_it_wants() {
    for (model, head_rows) in partial_heads() {
        let plain = model.with(kernels());
        let model = plain.arranged_for(head_rows);
        let wanted =
            [Logits::Top(3), Logits::All, Logits::None, Logits::Top(20), Logits::Predicted];
        let texts = ids(5 * TOKENS, model.config.vocab);
        let texts: Vec<_> = texts.chunks(TOKENS).collect();
        let all = plain.logits(texts[1], 1, &Serial);
        let mut together = model.engine(options(5, head_rows), &Serial);
        let mut expected = Vec::new();
        for (logits, text) in wanted.iter().zip(&texts).filter(|(l, _)| **l != Logits::None) {
            let mut engine = model.engine(options(1, head_rows), &Serial);
            expected.push(alone(&mut engine, Token::new(0, 0, *logits), text));
        }
        assert!(expected[1].concat() == bits(&all), "{head_rows:?}");
        for position in 0..TOKENS {
            let sequences = wanted.iter().zip(&texts).enumerate();
            let token = |(s, (logits, text)): (_, (&Logits, &&[u32]))| {
                Token::new(text[position], s, *logits)
            };
            together.step(&sequences.map(token).collect::<Vec<_>>()).unwrap();
            for (i, expected) in expected.iter().enumerate() {
                let found = bits(together.logits(i).unwrap());
                assert!(found == expected[position], "{head_rows:?}: {i} at {position}");
            }
            assert_eq!(together.logits(4), None);
        }
    }
}

/// An engine that reads experts into slots; of one, the first read fails so.
fn streaming(
    model: &Model,
    slots: usize,
    failing: Option<(ExpertKey, StoreReason)>,
) -> Engine<'static> {
    let store = Box::leak(Box::new(MemoryStore::new(model.weights, slots, 7)));
    match failing {
        Some((key, StoreReason::Timeout)) => store.losing.push((key, Part::Up)),
        other => store.failing.extend(other),
    }
    model.streaming(options(3, HeadRows::Exact), store, &LeastRecent, &Serial)
}

#[test]
fn approximations_are_those_of_a_token() {
    let model = Model::golden("q4_0-tied");
    let texts = ids(2 * TOKENS, model.config.vocab);
    let (exact, other) = texts.split_at(TOKENS);
    let expected = bits(&model.logits(exact, 1, &Serial));
    let approximation = Approximation { prefer_resident: 9.0, skip_missing: 0.9, low_bit: true };
    let mut engine = streaming(&model, 6, None);
    let mut found = Vec::new();
    for (id, other) in exact.iter().zip(other) {
        let other = Token { approximation, ..Token::new(*other, 1, Logits::All) };
        engine.step(&[other, Token::new(*id, 0, Logits::All)]).unwrap();
        found.extend(bits(engine.logits(1).unwrap()));
    }
    assert!(found == expected);
    let mut differs = streaming(&model, 6, None);
    let other = Token { approximation, ..Token::new(0, 0, Logits::All) };
    assert!(alone(&mut differs, other, exact).concat() != expected, "it has an effect");
}

/// Which experts a text wants.
fn wanted(model: &Model, text: &[u32]) -> Vec<ExpertKey> {
    let mut engine = model.engine(options(1, HeadRows::Exact), &Serial);
    let mut all = Vec::new();
    for id in text {
        engine.step(&[Token::new(*id, 0, Logits::None)]).unwrap();
        for layer in 0..model.config.layers {
            let chosen = engine.chosen_experts(layer).iter();
            all.extend(chosen.map(|e| ExpertKey { layer, expert: *e as usize }));
        }
    }
    all
}

/// Of three sequences, whose tokens come several at a time, those fail that want the expert which
/// cannot be read. They are as they were, and the step, made again, gives what it would have given.
#[test]
fn only_who_wanted_an_expert_fails() {
    let model = Model::golden("window8");
    let texts = ids(3 * TOKENS, model.config.vocab);
    let texts: Vec<_> = texts.chunks(TOKENS).collect();
    let expected: Vec<_> = texts.iter().map(|text| bits(&model.logits(text, 1, &Serial))).collect();
    let vocab = model.config.vocab;
    let (mut partly, mut wholly) = (0, 0);
    for layer in 0..model.config.layers {
        for expert in 0..model.config.experts {
            let key = ExpertKey { layer, expert };
            let reasons = [StoreReason::Refused { code: 5 }, StoreReason::Timeout];
            let reason = reasons[expert % 2];
            let mut engine = streaming(&model, 6, Some((key, reason)));
            let batch = |from: [usize; 3]| -> Vec<Token> {
                let of = |s: usize| texts[s][from[s]..].iter().take(2).map(move |id| (s, *id));
                let all = of(0).chain(of(1)).chain(of(2));
                all.map(|(s, id)| Token::new(id, s, Logits::All)).collect()
            };
            while (0..3).any(|s| engine.len(s) < TOKENS) {
                let before = [0, 1, 2].map(|s| engine.len(s));
                let batch = batch(before);
                let result = engine.step(&batch);
                let failed = [0, 1, 2].map(|s| {
                    let mut of = (0..batch.len()).filter(|i| batch[*i].sequence == s);
                    of.any(|i| engine.failure(i).is_some())
                });
                for (i, token) in batch.iter().enumerate() {
                    assert_eq!(engine.failure(i).is_some(), failed[token.sequence]);
                    let at = before[token.sequence] + (i % 2);
                    let logits = engine.logits(i).map(bits);
                    let right = &expected[token.sequence][at * vocab..][..vocab];
                    let is_right = logits.as_deref() == Some(right);
                    assert_eq!(is_right, !failed[token.sequence], "{key:?} at {at}");
                }
                let Err(error) = result else {
                    assert_eq!(failed, [false; 3]);
                    continue;
                };
                let StepError::Store(error) = error else { panic!("{error}") };
                assert_eq!((error.at.map(|(key, _)| key), error.reason), (Some(key), reason));
                for s in 0..3 {
                    let held = before[s] + if failed[s] { 0 } else { 2 };
                    assert_eq!(engine.len(s), held);
                    assert_eq!(
                        failed[s],
                        wanted(&model, &texts[s][..before[s] + 2])
                            [before[s] * model.config.layers * model.config.active..]
                            .contains(&key)
                    );
                }
                partly += usize::from(failed.contains(&false));
                wholly += usize::from(!failed.contains(&false));
            }
        }
    }
    assert!(partly > 0 && wholly > 0, "{partly} steps failed in part, {wholly} as a whole");
}
