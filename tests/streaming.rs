//! Experts read into slots give the same bits as experts in memory: for any number of slots, any
//! policy, any order in which reads end, any batch and any number of threads.

use std::sync::{LazyLock, Mutex};
use wick_core::{
    Arranger, Decaying, Engine, ExpertKey, ExpertStore, HeadRows, KvFormat, LeastFrequent,
    LeastRecent, Logits, Options, Parallel, Part, Policy, Serial, StepError, StoreReason, Token,
    Weights,
};
use wick_linux::{Cpus, Pool, kernels};
use wick_tests::store::MemoryStore;
use wick_tests::{Model, bits, ids, step};

/// Both orientations of down, windows, Q4_0 and formats that are not arranged.
const MODELS: [&str; 4] = ["window8", "q4_0-tied", "powerinfer", "q4_k_m"];

static TWO: LazyLock<Pool> = LazyLock::new(|| Pool::new(2, &Cpus::detect()));

fn options(context: usize, batch: usize) -> Options {
    Options {
        context,
        sequences: 1,
        batch,
        logits: batch,
        head_rows: HeadRows::Exact,
        kv: KvFormat::F16,
    }
}

fn store(model: &Model, slots: usize, seed: u64) -> &'static mut MemoryStore {
    Box::leak(Box::new(MemoryStore::new(model.weights, slots, seed)))
}

/// The logits after each of `ids`, `batch` at a time.
fn logits(
    model: &Model,
    store: &'static mut MemoryStore,
    policy: &'static dyn Policy,
    ids: &[u32],
    batch: usize,
    parallel: &'static dyn Parallel,
) -> Vec<f32> {
    let slots = store.slots().count;
    let mut engine = model.streaming(options(ids.len(), batch), store, policy, parallel);
    let mut all = Vec::new();
    for chunk in ids.chunks(batch) {
        step(&mut engine, 0, chunk);
        (0..chunk.len()).for_each(|i| all.extend_from_slice(engine.logits(i).unwrap()));
    }
    let figures = engine.expert_figures().unwrap();
    assert!(figures.wanted > 0 && figures.resident <= figures.wanted, "{figures:?}");
    assert_eq!(figures.router.asked, figures.router.useful);
    assert!(figures.guess.useful + figures.guess.wasted <= figures.guess.asked, "{figures:?}");
    // With fewer slots none is free for a guess, with more there is nothing left to guess, and in
    // steps of many tokens the layers want all experts.
    let has_room = slots > model.config.active && slots <= 2 * model.config.layers;
    assert!(figures.guess.asked > 0 || !has_room || batch > 1, "{figures:?}");
    all
}

#[test]
fn slots_leave_no_trace() {
    let policies: [&'static dyn Policy; 3] = [&LeastRecent, &LeastFrequent, &DECAYING];
    for name in MODELS {
        let model = Model::golden(name).with(kernels());
        let (layers, experts) = (model.config.layers, model.config.experts);
        let ids = ids(30, model.config.vocab);
        let expected = bits(&model.logits(&ids, 1, &Serial));
        let all = layers * experts;
        for (seed, slots) in [1, 2, 3, layers * 2, all / 2, all].into_iter().enumerate() {
            for (policy, batch) in policies.into_iter().zip([1, 4, 30]) {
                for pool in [&Serial as &dyn Parallel, &*TWO] {
                    let store = store(&model, slots, seed as u64);
                    let found = bits(&logits(&model, store, policy, &ids, batch, pool));
                    assert!(found == expected, "{name}: {slots} slots, batch {batch}");
                }
            }
        }
    }
}

static DECAYING: Decaying = Decaying { half_life: 16.0 };

#[test]
fn experts_that_have_a_slot_are_not_read_again() {
    let model = Model::golden("q4_0-tied");
    let all = model.config.layers * model.config.experts;
    let mut engine = model.streaming(options(64, 8), store(&model, all, 1), &LeastRecent, &Serial);
    let ids = ids(60, model.config.vocab);
    ids.chunks(5).for_each(|chunk| step(&mut engine, 0, chunk));
    let figures = *engine.expert_figures().unwrap();
    assert!(figures.router.asked + figures.guess.asked <= all as u64, "{figures:?}");
    assert!(figures.wanted > 3 * all as u64 / 2, "{figures:?}");
}

/// A failing read ends the step, and only that: what was before is there, and the same step then
/// gives what it would have given.
#[test]
fn a_failing_read_ends_the_step_alone() {
    let model = Model::golden("window8");
    let ids = ids(40, model.config.vocab);
    let expected = bits(&model.logits(&ids, 1, &Serial));
    let reason = StoreReason::Refused { code: 5 };
    for layer in 0..model.config.layers {
        let store = store(&model, 6, layer as u64);
        for expert in 0..model.config.experts {
            store.failing.push((ExpertKey { layer, expert }, reason));
        }
        let mut engine = model.streaming(options(40, 1), store, &LeastRecent, &Serial);
        let (mut found, mut failures) = (Vec::new(), 0);
        for (position, id) in ids.iter().enumerate() {
            let token = Token::new(*id, 0, Logits::All);
            while let Err(error) = engine.step(&[token]) {
                let StepError::Store(error) = error else { panic!("{error}") };
                let (key, _) = error.at.unwrap();
                assert_eq!((key.layer, error.reason), (layer, reason));
                assert_eq!((engine.len(0), engine.logits(0)), (position, None));
                failures += 1;
            }
            found.extend_from_slice(engine.logits(0).unwrap());
        }
        assert!(bits(&found) == expected, "layer {layer}");
        // A read on a guess may fail unnoticed; nobody guesses for the first layer.
        assert!(layer > 0 || failures > 0, "{failures} failures");
        assert!(failures <= model.config.experts, "{failures} failures");
    }
}

/// A read that never ends fails the step that waits for it, in every layer and for every part. The slot
/// stays out of use, and what goes on in the others gives the same bits, until none is left.
#[test]
fn a_lost_read_takes_a_slot_and_nothing_else() {
    let model = Model::golden("window8");
    let ids = ids(40, model.config.vocab);
    let expected = bits(&model.logits(&ids, 1, &Serial));
    let (layers, experts) = (model.config.layers, model.config.experts);
    let keys = (0..layers * experts).map(|i| ExpertKey { layer: i / experts, expert: i % experts });
    for (losing, slots) in
        keys.clone().zip(Part::ALL.into_iter().cycle()).step_by(3).zip([2, 6].into_iter().cycle())
    {
        let store = store(&model, slots, 3);
        store.losing.push(losing);
        let mut engine = model.streaming(options(40, 1), store, &LeastRecent, &Serial);
        let (mut found, mut failures) = (Vec::new(), 0);
        for id in &ids {
            let token = Token::new(*id, 0, Logits::All);
            while let Err(error) = engine.step(&[token]) {
                let StepError::Store(error) = error else { panic!("{error}") };
                assert_eq!((error.at, error.reason), (Some(losing), StoreReason::Timeout));
                failures += 1;
            }
            found.extend_from_slice(engine.logits(0).unwrap());
        }
        assert!(bits(&found) == expected, "{losing:?}");
        assert!(failures <= 1);
    }
    let store = store(&model, 2, 3);
    store.losing.extend(keys.map(|key| (key, Part::Gate)));
    let mut engine = model.streaming(options(40, 1), store, &LeastRecent, &Serial);
    for _ in 0..5 {
        let Err(StepError::Store(error)) = engine.step(&[Token::new(1, 0, Logits::All)]) else {
            panic!("no slot is left")
        };
        assert_eq!((error.reason, engine.len(0)), (StoreReason::Timeout, 0));
    }
}

/// What is read before it is wanted fills empty slots, and changes no logits.
#[test]
fn experts_can_be_read_before_they_are_wanted() {
    let model = Model::golden("q4_0-tied");
    let (layers, experts) = (model.config.layers, model.config.experts);
    let all = || {
        (0..layers).flat_map(|layer| (0..experts).map(move |expert| ExpertKey { layer, expert }))
    };
    let with_slots =
        |slots| model.streaming(options(16, 8), store(&model, slots, 7), &LeastRecent, &Serial);
    let logits = |engine: &mut Engine<'_>| {
        engine.prefill(0, &ids(6, model.config.vocab), Logits::All).unwrap();
        bits(engine.logits(0).unwrap())
    };
    let expected = logits(&mut with_slots(layers * experts));
    // With a slot for each, nothing is read any more when it is wanted.
    let mut warm = with_slots(layers * experts);
    assert!(all().all(|key| warm.expert_worth(key).is_none() && warm.preload(key, -1.0)));
    let reads = |engine: &Engine<'_>| engine.store_figures().unwrap().reads;
    assert_eq!(logits(&mut warm), expected);
    assert_eq!(reads(&warm), 3 * (layers * experts) as u64);
    // With fewer, those that come first have them.
    let mut some = with_slots(layers * experts / 2);
    let started = all().take_while(|key| some.preload(*key, -1.0)).count();
    assert_eq!(started, layers * experts / 2);
    assert_eq!(logits(&mut some), expected);
    let mut resident = model.engine(options(16, 8), &Serial);
    assert!(!resident.preload(ExpertKey { layer: 0, expert: 0 }, 0.0));
    assert_eq!(logits(&mut resident), expected);
}

/// Weights with somebody who notes what is asked of them.
struct Noting {
    model: Model,
    named: &'static Mutex<Vec<Vec<u32>>>,
}

impl Arranger for Noting {
    fn arrange(&mut self, _most: usize) -> usize {
        0
    }

    fn weights(&self) -> &Weights<'_> {
        self.model.weights
    }

    fn will_need(&self, layer: usize, experts: &[u32]) {
        let mut named = self.named.lock().unwrap();
        assert_eq!(layer, named.len());
        named.push(experts.to_vec());
    }
}

#[test]
fn experts_in_memory_are_named_to_who_has_them_when_the_router_has_chosen() {
    let model = Model::golden("window8");
    let engines = [
        (model.engine(options(8, 8), &Serial), model.config.layers),
        (model.streaming(options(8, 8), store(&model, 4, 1), &LeastRecent, &Serial), 0),
    ];
    for (mut engine, layers) in engines {
        let named: &'static Mutex<Vec<Vec<u32>>> = Box::leak(Box::default());
        engine.arrange_with(Box::leak(Box::new(Noting { model, named })));
        step(&mut engine, 0, &ids(5, model.config.vocab));
        let chosen = (0..layers).map(|layer| engine.chosen_experts(layer).to_vec());
        assert_eq!(*named.lock().unwrap(), chosen.collect::<Vec<_>>());
    }
}
