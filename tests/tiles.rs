//! A KV cache that is written down and read back, tile by tile, gives the same bits.

use wick_core::{
    Config, Engine, HeadRows, KV_TILE, KvFormat, Logits, Options, Serial, TileError, TruncateError,
    Window,
};
use wick_tests::tiny::Tiny;
use wick_tests::{Model, bits, ids};

/// Positions that are computed: three tiles, and some.
const LEN: usize = 3 * KV_TILE + 20;

/// A model with windows of this size in three of four layers, and two KV heads.
fn windowed(size: usize) -> Model {
    let window = Some(Window { size, period: 4 });
    let config = Config { window, layers: 5, heads: 4, kv_heads: 2, ..Tiny::default().config };
    Model::read(&[Tiny { config, ..Tiny::default() }.to_bytes().leak()])
}

fn engine(model: &Model, context: usize, batch: usize, kv: KvFormat) -> Engine<'static> {
    let head_rows = HeadRows::Exact;
    let options = Options { context, sequences: 2, batch, logits: 1, head_rows, kv };
    model.engine(options, &Serial)
}

/// The tiles of what an engine's first sequence holds.
fn save(engine: &Engine<'_>) -> Vec<Vec<u8>> {
    let bytes = engine.tile_bytes().whole;
    let tile = |tile| {
        let mut into = vec![0; bytes];
        let found = engine.save_tile(0, tile, &mut into)?;
        into.truncate(found);
        Some(into)
    };
    (0..).map_while(tile).collect()
}

/// The logits behind all ids, with those that an engine's second sequence does not hold yet.
fn rest(engine: &mut Engine<'_>, ids: &[u32]) -> Vec<u32> {
    let held = engine.len(1);
    engine.prefill(1, &ids[held..], Logits::All).unwrap();
    bits(engine.logits(0).unwrap())
}

#[test]
fn what_was_written_down_gives_the_same_bits_in_any_context_and_batch() {
    let models = [
        ("no window", Model::golden("q4_0-tied")),
        ("a long window", windowed(2 * KV_TILE)),
        ("a window of all", windowed(1000)),
    ];
    for (name, model) in models {
        let ids = ids(LEN, model.config.vocab);
        for kv in [KvFormat::F16, KvFormat::Q8_0] {
            let mut first = engine(&model, 300, 16, kv);
            first.prefill(0, &ids[..LEN - 1], Logits::None).unwrap();
            let tiles = save(&first);
            assert_eq!(tiles.len(), 3);
            first.prefill(0, &ids[LEN - 1..], Logits::All).unwrap();
            let expected = bits(first.logits(0).unwrap());
            for (context, batch) in [(256, 7), (1024, 64)] {
                let mut second = engine(&model, context, batch, kv);
                // What stood there before leaves no trace.
                second.prefill(1, &ids[9..180], Logits::None).unwrap();
                second.truncate(1, 0).unwrap();
                for tile in &tiles {
                    second.load_tile(1, tile).unwrap();
                }
                second.truncate(1, 3 * KV_TILE).unwrap();
                assert!(rest(&mut second, &ids) == expected, "{name}, {kv:?}, {context}, {batch}");
            }
        }
    }
}

/// Windows of 8 in rings of one tile: of the first tiles, windowed layers hold nothing any more when all are written down.
#[test]
fn what_windows_have_forgotten_is_known() {
    let model = windowed(8);
    let ids = ids(LEN, model.config.vocab);
    let mut first = engine(&model, 300, 16, KvFormat::F16);
    let mut tiles = Vec::new();
    for part in ids[..LEN - 1].chunks(KV_TILE) {
        first.prefill(0, part, Logits::None).unwrap();
        // The last tile that has just become whole.
        tiles.extend(save(&first).pop().filter(|_| part.len() == KV_TILE));
    }
    let late = save(&first);
    let bytes = first.tile_bytes();
    assert!(tiles.iter().all(|tile| tile.len() == bytes.whole));
    assert!(late.iter().all(|tile| tile.len() == bytes.global && bytes.global < bytes.whole));
    first.prefill(0, &ids[LEN - 1..], Logits::All).unwrap();
    let expected = bits(first.logits(0).unwrap());

    // Nothing but what windows see is needed of them.
    let mut second = engine(&model, 300, 16, KvFormat::F16);
    for tile in [&late[0], &late[1], &tiles[2]] {
        second.load_tile(1, tile).unwrap();
    }
    second.truncate(1, 3 * KV_TILE).unwrap();
    assert!(rest(&mut second, &ids) == expected);

    second.truncate(1, 0).unwrap();
    for tile in [&tiles[0], &tiles[1], &late[2]] {
        second.load_tile(1, tile).unwrap();
    }
    let error = second.truncate(1, 3 * KV_TILE).unwrap_err();
    assert_eq!(error, TruncateError::Forgotten { asked: 3 * KV_TILE, least: 3 * KV_TILE + 7 });
    // A copy knows it too.
    assert!(second.copy(1, 0, 3 * KV_TILE).is_err());
}

#[test]
fn what_is_no_tile_is_refused() {
    let model = windowed(8);
    let ids = ids(LEN, model.config.vocab);
    let mut engine = engine(&model, 150, 16, KvFormat::F16);
    engine.prefill(0, &ids[..70], Logits::None).unwrap();
    let tile = save(&engine).remove(0);
    let expected = engine.tile_bytes();
    let cut = engine.load_tile(1, &tile[1..]);
    assert_eq!(cut, Err(TileError::Bytes { expected, found: tile.len() - 1 }));
    assert_eq!(engine.load_tile(0, &tile), Err(TileError::Place { held: 70, context: 150 }));
    engine.load_tile(1, &tile).unwrap();
    engine.load_tile(1, &tile).unwrap();
    assert_eq!(engine.load_tile(1, &tile), Err(TileError::Place { held: 128, context: 150 }));
    assert_eq!(engine.len(1), 128);
}
