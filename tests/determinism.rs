//! The same bits however a token got to its place: any number of threads, any batch, beside other
//! sequences, after truncation.

use std::sync::LazyLock;
use wick_core::{
    Arrangement, Config, Engine, EngineError, HeadRows, KvFormat, Layer, Logits, Options,
    OptionsError, Parallel, Part, Plan, Section, Serial, StepError, Token, TruncateError, Weights,
    Window, arranged_bytes,
};
use wick_kernels::Kernels;
use wick_linux::{ArrangedMemory, Arranging, Cpus, Pool, all_kernels};
use wick_tests::tiny::Tiny;
use wick_tests::{Model, bits, ids, largest_difference, range, sample, some, step};

/// Models that together go through every way of computing: both orientations of down, windows,
/// blocks of 1, 32 and 256.
const MODELS: [&str; 5] = ["window8", "q4_0-tied", "powerinfer", "q4_k_m", "legacy-mix"];

/// These models, and some with keys and values in Q8_0: heads of 32 and 96, one KV head and two, rings.
fn models() -> Vec<(String, Model)> {
    let mut models = Vec::from(MODELS.map(|name| (name.to_owned(), Model::golden(name))));
    let kept = KvFormat::Q8_0;
    for name in ["q4_0-tied", "legacy-mix"] {
        models.push((format!("{name} in Q8_0"), Model::golden(name).keeping(kept)));
    }
    models.push(("a ring in Q8_0".to_owned(), windowed(8).keeping(kept)));
    models
}

/// A model with windows of this size and heads of 96.
fn windowed(size: usize) -> Model {
    with_heads((4, 2, 96), size)
}

/// A model with so many heads and KV heads of a size, and windows of this size.
fn with_heads((heads, kv_heads, head): (usize, usize, usize), window: usize) -> Model {
    let window = Some(Window { size: window, period: 4 });
    let config = Config { layers: 5, heads, kv_heads, head, window, ..Tiny::default().config };
    Model::read(&[Tiny { config, ..Tiny::default() }.to_bytes().leak()])
}

static TWO: LazyLock<Pool> = LazyLock::new(|| Pool::new(2, &Cpus::detect()));
static FOUR: LazyLock<Pool> = LazyLock::new(|| Pool::new(4, &Cpus::detect()));

#[test]
fn threads_and_batches_leave_no_trace() {
    for (name, model) in models() {
        let ids = ids(40, model.config.vocab);
        let expected = bits(&model.logits(&ids, 1, &Serial));
        let pools: [&'static dyn Parallel; 3] = [&Serial, &*TWO, &*FOUR];
        for (pool, batch) in pools.into_iter().flat_map(|p| [1, 3, 7, 16, 40].map(|b| (p, b))) {
            let found = bits(&model.logits(&ids, batch, pool));
            assert!(found == expected, "{name}: {} threads, batch {batch}", pool.threads());
        }
    }
}

/// Heads that share a KV head part where threads would idle: six as three, two and one of each, seven as four and three. Rings
/// of the windowed layers wrap.
#[test]
fn shared_heads_leave_no_trace() {
    // Where only some are taken, 3 and 6.
    let pools = sample([3, 2, 4, 5, 6, 7, 8]).map(|threads| Pool::new(threads, &Cpus::detect()));
    let pools: &'static [Pool] = pools.collect::<Vec<_>>().leak();
    for (heads, kept) in [
        ((12, 2, 32), KvFormat::F16),
        ((12, 2, 32), KvFormat::Q8_0),
        ((14, 2, 48), KvFormat::F16),
        ((7, 1, 64), KvFormat::Q8_0),
    ] {
        let model = with_heads(heads, 60).keeping(kept);
        let ids = ids(150, model.config.vocab);
        let expected = bits(&model.logits(&ids, 1, &Serial));
        for (pool, batch) in pools.iter().flat_map(|pool| [1, 2, 5].map(|batch| (pool, batch))) {
            let found = bits(&model.logits(&ids, batch, pool));
            let threads = pool.threads();
            assert!(found == expected, "{heads:?} {kept:?}, {threads} threads, batch {batch}");
        }
    }
}

#[test]
fn kernels_and_arrangements_leave_no_trace() {
    let nano = Model::golden("../models/nano/nano");
    let nanos =
        [KvFormat::F16, KvFormat::Q8_0].map(|kv| (format!("nano in {kv:?}"), nano.keeping(kv)));
    for (name, model) in models().into_iter().chain(nanos) {
        // nano is many times larger; what more positions show, the small models show too.
        let ids = ids(if name.starts_with("nano") { some(70) } else { 70 }, model.config.vocab);
        let expected = bits(&model.logits(&ids, 1, &Serial));
        for kernels in all_kernels() {
            for model in [model.with(kernels), model.arranged().with(kernels)] {
                for (batch, pool) in [(1, &Serial as &dyn Parallel), (9, &*TWO)] {
                    let found = bits(&model.logits(&ids, batch, pool));
                    assert!(found == expected, "{name}: {}, batch {batch}", kernels.name());
                }
            }
        }
    }
}

/// A ring holds the window and a batch: 64 positions for one token at a time, 128 for 40.
#[test]
fn rings_of_any_length_see_the_same_window() {
    for kept in [KvFormat::F16, KvFormat::Q8_0] {
        let model = windowed(60).keeping(kept);
        let ids = ids(200, model.config.vocab);
        let expected = bits(&model.logits(&ids, 1, &Serial));
        for batch in [4, 40, 200] {
            assert!(
                bits(&model.logits(&ids, batch, &Serial)) == expected,
                "{kept:?}, batch {batch}"
            );
        }
    }
}

#[test]
fn prefill_ends_with_the_same_logits() {
    let model = Model::golden("window8");
    let ids = ids(50, model.config.vocab);
    let all = model.logits(&ids, 1, &Serial);
    for batch in [1, 4, 50] {
        let mut engine = model.engine(
            Options {
                context: 64,
                sequences: 1,
                batch,
                logits: 1,
                head_rows: HeadRows::Exact,
                kv: KvFormat::F16,
            },
            &*TWO,
        );
        engine.prefill(0, &ids, Logits::All).unwrap();
        let last = &all[all.len() - model.config.vocab..];
        assert_eq!(bits(engine.logits(0).unwrap()), bits(last));
        assert!(engine.logits(1).is_none());
        assert_eq!(engine.len(0), 50);
    }
}

#[test]
fn sequences_do_not_see_each_other() {
    for (name, model) in models() {
        let vocab = model.config.vocab;
        let texts = [ids(30, vocab), ids(60, vocab)[30..].to_vec(), ids(90, vocab)[60..].to_vec()];
        let alone = texts.clone().map(|text| bits(&model.logits(&text, 5, &Serial)));
        let options = Options {
            context: 30,
            sequences: 3,
            batch: 9,
            logits: 9,
            head_rows: HeadRows::Exact,
            kv: model.kv,
        };
        let mut engine = model.engine(options, &*FOUR);
        let mut found = [vec![], vec![], vec![]];
        // Each step takes one token of the first sequence, two of the second and three of the third.
        let mut taken = [0; 3];
        while taken[0] < 30 {
            let mut batch = Vec::new();
            for (sequence, text) in texts.iter().enumerate() {
                let to = text.len().min(taken[sequence] + sequence + 1);
                let next = &text[taken[sequence]..to];
                batch.extend(next.iter().map(|id| Token::new(*id, sequence, Logits::All)));
                taken[sequence] = to;
            }
            engine.step(&batch).unwrap();
            for (i, token) in batch.iter().enumerate() {
                found[token.sequence].extend(bits(engine.logits(i).unwrap()));
            }
        }
        assert!(found == alone, "{name}");
    }
}

#[test]
fn truncation_forgets_exactly() {
    for (name, model) in models() {
        let ids = ids(40, model.config.vocab);
        let expected = bits(&model.logits(&ids, 1, &Serial));
        let options = Options {
            context: 64,
            sequences: 2,
            batch: 8,
            logits: 8,
            head_rows: HeadRows::Exact,
            kv: model.kv,
        };
        let mut engine = model.engine(options, &Serial);
        engine.prefill(1, &ids[..33], Logits::All).unwrap();
        // What is forgotten was another text.
        engine.prefill(1, &ids[..7], Logits::All).unwrap();
        engine.truncate(1, 33).unwrap();
        step(&mut engine, 1, &ids[33..40]);
        let found: Vec<u32> = (0..7).flat_map(|i| bits(engine.logits(i).unwrap())).collect();
        assert!(found == expected[33 * model.config.vocab..], "{name}");
        engine.truncate(1, 0).unwrap();
        assert!(engine.is_empty(1));
        step(&mut engine, 1, &ids[..1]);
        assert!(bits(engine.logits(0).unwrap()) == expected[..model.config.vocab], "{name}");
    }
}

#[test]
fn a_window_tells_what_it_has_forgotten() {
    let model = Model::golden("window8");
    let options = Options {
        context: 400,
        sequences: 1,
        batch: 8,
        logits: 1,
        head_rows: HeadRows::Exact,
        kv: KvFormat::F16,
    };
    let mut engine = model.engine(options, &Serial);
    let ids = ids(300, model.config.vocab);
    engine.prefill(0, &ids, Logits::All).unwrap();
    // The ring has 64 positions (8 + 8, in whole tiles), so 236 is the first that it holds.
    let error = engine.truncate(0, 200).unwrap_err();
    assert_eq!(error, TruncateError::Forgotten { asked: 200, least: 243 });
    assert_eq!(engine.truncate(0, 301), Err(TruncateError::Beyond { asked: 301, held: 300 }));
    assert_eq!(engine.len(0), 300);
    engine.truncate(0, 243).unwrap();
    engine.prefill(0, &ids[243..], Logits::All).unwrap();
    let expected = model.logits(&ids, 16, &Serial);
    assert_eq!(bits(engine.logits(0).unwrap()), bits(&expected[299 * model.config.vocab..]));
}

#[test]
fn refused_steps_change_nothing() {
    let model = Model::golden("q4_0-tied");
    let vocab = model.config.vocab;
    let mut engine = model.engine(
        Options {
            context: 8,
            sequences: 1,
            batch: 4,
            logits: 1,
            head_rows: HeadRows::Exact,
            kv: KvFormat::F16,
        },
        &Serial,
    );
    engine.prefill(0, &[1, 2, 3, 4, 5], Logits::All).unwrap();
    let before = bits(engine.logits(0).unwrap());
    let token = Token::new(1, 0, Logits::None);
    let refused = [
        (vec![token; 5], StepError::Batch { found: 5, most: 4 }),
        (vec![token; 4], StepError::Full { sequence: 0, held: 5, more: 4, context: 8 }),
        (vec![Token { logits: Logits::All, ..token }; 2], StepError::Logits { found: 2, most: 1 }),
        (
            vec![token, Token { id: vocab as u32, ..token }],
            StepError::Id { id: vocab as u32, vocab },
        ),
        (
            vec![token, Token { sequence: 1, ..token }],
            StepError::Sequence { sequence: 1, sequences: 1 },
        ),
    ];
    for (batch, error) in refused {
        assert_eq!(engine.step(&batch), Err(error));
        assert_eq!(engine.len(0), 5);
        assert_eq!(bits(engine.logits(0).unwrap()), before);
    }
    assert_eq!(
        engine.prefill(0, &[1; 4], Logits::All),
        Err(StepError::Full { sequence: 0, held: 5, more: 4, context: 8 })
    );
    let unknown = [1, vocab as u32];
    assert_eq!(
        engine.prefill(0, &unknown, Logits::All),
        Err(StepError::Id { id: vocab as u32, vocab })
    );
    assert_eq!(engine.len(0), 5);
    engine.prefill(0, &[1; 3], Logits::All).unwrap();
}

#[test]
fn a_plan_is_what_is_taken() {
    for (name, model) in models() {
        for (context, sequences, batch, logits) in [(1, 1, 1, 1), (100, 3, 17, 5), (777, 2, 64, 64)]
        {
            let options = Options {
                context,
                sequences,
                batch,
                logits,
                head_rows: HeadRows::Exact,
                kv: model.kv,
            };
            let plan = Plan::new(&model.config, model.weights, &options).unwrap();
            let mut arena = wick_core::Arena::new(vec![0; plan.arena()].leak());
            let (kernels, serial) = (Kernels::scalar(), &Serial);
            Engine::new(model.config, model.weights, options, &mut arena, kernels, serial).unwrap();
            assert_eq!(arena.used(), plan.kv + plan.scratch, "{name} {options:?}");
        }
    }
}

/// A position of a KV head of 96 takes 3 blocks of 34 bytes in place of 192 bytes, and the logits are
/// close to those of f16, but others.
#[test]
fn keys_and_values_in_q8_0_are_smaller_and_close() {
    let model = windowed(8);
    let (layers, kv_heads) = (model.config.layers, model.config.kv_heads);
    let options = |kv| Options {
        context: 1024,
        sequences: 1,
        batch: 1024,
        logits: 1,
        head_rows: HeadRows::Exact,
        kv,
    };
    let plan = |kv| Plan::new(&model.config, model.weights, &options(kv)).unwrap().kv;
    // Rings are as long as the context here; 64 bytes say how far the sequence has come.
    let positions = 1024 * 2 * layers * kv_heads;
    assert_eq!(plan(KvFormat::F16), positions * 192 + 64);
    assert_eq!(plan(KvFormat::Q8_0), positions * 3 * 34 + 64);

    // In a single layer, whose router stands before attention, the same experts are chosen.
    let config = Config { layers: 1, ..model.config };
    let model = Model::read(&[Tiny { config, ..Tiny::default() }.to_bytes().leak()]);
    let ids = ids(100, model.config.vocab);
    let exact = model.logits(&ids, 16, &Serial);
    let found = model.keeping(KvFormat::Q8_0).logits(&ids, 16, &Serial);
    let distance = largest_difference(&exact, &found) / range(&exact);
    assert!((1e-6..0.03).contains(&distance), "{distance} of the range");
}

#[test]
fn heads_that_are_no_blocks_cannot_be_kept_in_q8_0() {
    let model = Model::golden("window8").keeping(KvFormat::Q8_0);
    let options = Options {
        context: 8,
        sequences: 1,
        batch: 1,
        logits: 1,
        head_rows: HeadRows::Exact,
        kv: model.kv,
    };
    let error = Plan::new(&model.config, model.weights, &options).unwrap_err();
    assert_eq!(error, OptionsError::Head { head: 16 });
    let mut arena = wick_core::Arena::new(vec![0; 1 << 20].leak());
    let engine =
        Engine::new(model.config, model.weights, options, &mut arena, model.kernels, &Serial);
    assert_eq!(engine.unwrap_err(), EngineError::Options(error));
}

#[test]
fn a_step_tells_what_it_computed() {
    let model = Model::golden("window8");
    let Config { active, experts, expert_width, layers, .. } = model.config;
    let options = Options {
        context: 64,
        sequences: 1,
        batch: 8,
        logits: 8,
        head_rows: HeadRows::Exact,
        kv: KvFormat::F16,
    };
    let mut together = model.engine(options, &Serial);
    assert!(together.chosen_experts(0).is_empty() && together.active_neurons(0) == 0);
    assert!(together.residual(0).is_none());
    let ids = ids(8, model.config.vocab);
    step(&mut together, 0, &ids);
    let mut single = model.engine(options, &Serial);
    let mut neurons = vec![0; layers];
    for (t, id) in ids.iter().enumerate() {
        step(&mut single, 0, &[*id]);
        assert_eq!(bits(single.residual(0).unwrap()), bits(together.residual(t).unwrap()));
        for (layer, neurons) in neurons.iter_mut().enumerate() {
            let chosen = single.chosen_experts(layer);
            assert_eq!(chosen, &together.chosen_experts(layer)[t * active..][..active]);
            assert!(chosen.iter().all(|e| (*e as usize) < experts));
            *neurons += single.active_neurons(layer);
        }
    }
    for (layer, neurons) in neurons.into_iter().enumerate() {
        assert_eq!(together.active_neurons(layer), neurons);
        assert!(neurons > 0 && neurons < 8 * active * expert_width);
    }
}

#[test]
fn arranging_on_the_way_leaves_no_trace() {
    for (name, model) in models() {
        let (ids, sections) = (ids(20, model.config.vocab), model.config.layers + 1);
        let whole = model.arranged();
        let expected = bits(&model.logits(&ids, 1, &Serial));
        for (pool, at_once) in [(&*TWO, 1), (&*TWO, 2), (&*FOUR, usize::MAX)] {
            let (head_rows, experts, moved) = (HeadRows::Exact, true, false);
            let what = Arrangement { head_rows, experts, moved, section: Section::Whole };
            let is_arranged = arranged_bytes(model.weights, what) > 0;
            let memory = Box::leak(Box::new(ArrangedMemory::new(model.weights, what).unwrap()));
            let arranging = Arranging::new(model.weights, what, memory, &[], pool);
            let options = Options {
                context: ids.len(),
                sequences: 1,
                batch: 1,
                logits: 1,
                head_rows,
                kv: model.kv,
            };
            let mut engine = model.engine(options, pool);
            engine.arrange_with(Box::leak(Box::new(arranging)));
            let sections = if is_arranged { sections } else { 0 };
            assert_eq!(engine.arrange(0), sections, "{name}");
            let mut found = Vec::new();
            for (i, id) in ids.iter().enumerate() {
                step(&mut engine, 0, &[*id]);
                found.extend(bits(engine.logits(0).unwrap()));
                let left = sections.saturating_sub(at_once.saturating_mul(i + 1));
                assert_eq!(engine.arrange(at_once), left, "{name}");
            }
            assert!(found == expected, "{name}: {at_once} sections at once");
            let lm_head = |weights: &Weights<'_>| weights.lm_head().layout();
            assert_eq!(lm_head(engine.weights()), lm_head(whole.weights), "{name}");
            for (found, expected) in engine.weights().layers.iter().zip(&whole.weights.layers) {
                let layouts = |layer: &Layer<'_>| {
                    (layer.o.layout(), Part::ALL.map(|part| layer.experts(part).layout()))
                };
                assert_eq!(layouts(found), layouts(expected), "{name}");
            }
        }
    }
}

#[test]
fn a_matrix_arranged_for_something_else_is_refused() {
    let model = Model::golden("q4_0-tied").arranged();
    let mut weights = model.weights.clone();
    let layer = &mut weights.layers[1];
    std::mem::swap(&mut layer.gate, &mut layer.up);
    let error = weights.check_layouts().unwrap_err().to_string();
    let expected = "blk.1.ffn_gate_exps.weight: arranged by rows or grouped expected, split found";
    assert_eq!(error, expected);
    assert_eq!(model.weights.check_layouts(), Ok(()));
}
