//! Spare slots have the memory that keys, values and activations have not touched, and leave no trace.

use wick_core::{Engine, HeadRows, KV_TILE, KvFormat, LeastRecent, Logits, Options, Serial};
use wick_tests::store::MemoryStore;
use wick_tests::{Model, bits, ids, step};

/// Slots that last, and spare ones, as many as have room where nothing is touched.
const LASTING: usize = 3;
const SPARE: usize = 9;
/// Positions of a sequence, and of a step that is hardly more than a few tokens.
const CONTEXT: usize = 4 * KV_TILE;
const PROMPT: usize = 66;

/// An engine for two sequences whose experts have few slots.
fn engine(model: &Model, batch: usize) -> Engine<'static> {
    let mut store = MemoryStore::new(model.weights, LASTING + SPARE, 7);
    store.spare = SPARE;
    let head_rows = HeadRows::Exact;
    let options =
        Options { context: CONTEXT, sequences: 2, batch, logits: PROMPT, head_rows, kv: model.kv };
    model.streaming(options, Box::leak(Box::new(store)), &LeastRecent, &Serial)
}

/// The logits of a step's last token.
fn last(engine: &mut Engine<'_>, sequence: usize, ids: &[u32]) -> Vec<u32> {
    step(engine, sequence, ids);
    bits(engine.logits(ids.len() - 1).unwrap())
}

#[test]
fn slots_are_given_back_as_the_context_grows() {
    for kv in [KvFormat::F16, KvFormat::Q8_0] {
        let model = Model { kv, ..Model::golden("q4_0-tied") };
        let ids = ids(CONTEXT, model.config.vocab);
        let expected = bits(&model.logits(&ids, 1, &Serial));
        let vocab = model.config.vocab;
        let expected = |position: usize| &expected[position * vocab..][..vocab];
        let mut engine = engine(&model, PROMPT);
        let mut before = engine.lent_slots();
        let mut lent = vec![before];
        assert_eq!(before, SPARE);
        for (position, id) in ids.iter().enumerate() {
            assert!(last(&mut engine, 0, &[*id]) == expected(position), "{kv:?}, {position}");
            assert!(engine.lent_slots() <= before, "{kv:?}, {position}");
            before = engine.lent_slots();
            lent.push(before);
        }
        // The other sequence's memory is not touched yet.
        assert!(before > 0, "{kv:?}");
        engine.copy(0, 1, CONTEXT).unwrap();
        assert_eq!(engine.lent_slots(), 0, "{kv:?}");

        // What is forgotten can be lent again.
        engine.truncate(0, 0).unwrap();
        assert!(last(&mut engine, 0, &ids[..PROMPT]) == expected(PROMPT - 1), "{kv:?}");
        assert!(last(&mut engine, 0, &ids[PROMPT..][..1]) == expected(PROMPT), "{kv:?}");
        engine.truncate(1, 0).unwrap();
        engine.truncate(0, 0).unwrap();
        for (position, id) in ids[..KV_TILE + 1].iter().enumerate() {
            assert!(last(&mut engine, 1, &[*id]) == expected(position), "{kv:?}, {position}");
            assert_eq!(engine.lent_slots(), lent[position + 1], "{kv:?}, {position}");
        }
    }
}

/// A long prompt has its activations back until the next short step.
#[test]
fn a_prompt_takes_what_was_lent() {
    let model = Model::golden("q4_0-tied");
    let ids = ids(CONTEXT, model.config.vocab);
    let mut engine = engine(&model, CONTEXT);
    engine.prefill(1, &ids, Logits::None).unwrap();
    engine.prefill(0, &ids[..CONTEXT - 1], Logits::None).unwrap();
    let during = engine.lent_slots();
    let expected = bits(&model.logits(&ids, CONTEXT, &Serial));
    let found = last(&mut engine, 0, &ids[CONTEXT - 1..]);
    assert!(found == expected[(CONTEXT - 1) * model.config.vocab..]);
    assert!(during < engine.lent_slots(), "{during}, then {}", engine.lent_slots());
}

#[test]
fn what_is_read_back_has_its_memory() {
    let model = Model::golden("q4_0-tied");
    let ids = ids(2 * KV_TILE + 1, model.config.vocab);
    let expected = bits(&model.logits(&ids, 1, &Serial));
    let mut engine = engine(&model, CONTEXT);
    engine.prefill(0, &ids[..KV_TILE], Logits::None).unwrap();
    engine.prefill(0, &ids[KV_TILE..2 * KV_TILE], Logits::None).unwrap();
    let mut tiles = [(); 2].map(|()| vec![0; engine.tile_bytes().whole]);
    for (tile, bytes) in tiles.iter_mut().enumerate() {
        assert!(engine.save_tile(0, tile, bytes).is_some());
    }
    engine.truncate(0, 0).unwrap();
    tiles.iter().for_each(|bytes| engine.load_tile(1, bytes).unwrap());
    let found = last(&mut engine, 1, &ids[2 * KV_TILE..]);
    assert!(found == expected[2 * KV_TILE * model.config.vocab..]);
}
