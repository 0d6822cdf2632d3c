//! Positions at their ends: the last of the longest context, and where rings of windowed layers begin again.

use std::sync::LazyLock;
use wick_core::{
    Config, Engine, HeadRows, KV_TILE, KvFormat, Logits, Options, Parallel, Serial, StepError,
    Token, TruncateError, Window,
};
use wick_kernels::Kernels;
use wick_linux::{Cpus, Pool, all_kernels, kernels};
use wick_tests::tiny::Tiny;
use wick_tests::{Model, bits, ids, some, step};

/// What the published models have.
const LONGEST: usize = 32_768;

static TWO: LazyLock<Pool> = LazyLock::new(|| Pool::new(2, &Cpus::detect()));

/// A model of four layers, three of which see `size` positions.
fn windowed(size: usize) -> Model {
    let window = Some(Window { size, period: 4 });
    let config = Config {
        layers: 4,
        heads: 1,
        kv_heads: 1,
        window,
        context: LONGEST,
        ..Tiny::default().config
    };
    Model::read(&[Tiny { config, ..Tiny::default() }.to_bytes().leak()]).arranged().with(kernels())
}

fn options(model: &Model, context: usize, batch: usize) -> Options {
    let head_rows = HeadRows::Exact;
    Options { context, sequences: 2, batch, logits: batch, head_rows, kv: model.kv }
}

/// The logits of what is appended to a sequence in one step.
fn after(engine: &mut Engine<'_>, sequence: usize, ids: &[u32]) -> Vec<u32> {
    step(engine, sequence, ids);
    (0..ids.len()).flat_map(|i| bits(engine.logits(i).unwrap())).collect()
}

/// The logits of the last positions of the longest context. Two tiles stand again and again before them, since computing
/// them all would take minutes.
fn last(
    model: &Model,
    kernels: &'static Kernels,
    batch: usize,
    pool: &'static dyn Parallel,
) -> Vec<u32> {
    let model = model.with(kernels);
    let ids = ids(2 * KV_TILE, model.config.vocab);
    let mut engine = model.engine(options(&model, LONGEST, batch), pool);
    let mut tile = vec![0; engine.tile_bytes().whole];
    for i in 0..LONGEST / KV_TILE - 1 {
        if i < 2 {
            engine.truncate(1, 0).unwrap();
            engine.prefill(1, &ids[i * KV_TILE..][..KV_TILE], Logits::None).unwrap();
            let len = engine.save_tile(1, 0, &mut tile).unwrap();
            assert_eq!(len, tile.len());
        }
        engine.load_tile(0, &tile).unwrap();
    }
    let found = ids[..KV_TILE].chunks(batch).flat_map(|ids| after(&mut engine, 0, ids)).collect();
    let full = StepError::Full { sequence: 0, held: LONGEST, more: 1, context: LONGEST };
    assert_eq!(engine.step(&[Token::new(1, 0, Logits::All)]), Err(full));
    assert_eq!(engine.len(0), LONGEST);
    found
}

#[test]
fn the_last_positions_of_the_longest_context_leave_no_trace() {
    let model = windowed(60);
    let expected = last(&model, kernels(), KV_TILE, &Serial);
    for kernels in all_kernels() {
        assert!(last(&model, kernels, KV_TILE, &*TWO) == expected, "{}", kernels.name());
    }
    let model = model.keeping(KvFormat::Q8_0);
    let expected = last(&model, kernels(), KV_TILE, &Serial);
    for batch in [7, 1].into_iter().take(some(2)) {
        assert!(last(&model, kernels(), batch, &*TWO) == expected, "Q8_0, batch {batch}");
    }
}

/// Steps of seven tokens that begin at every place of a ring, which has 64.
#[test]
fn a_step_may_begin_anywhere_in_a_ring() {
    for kept in [KvFormat::F16, KvFormat::Q8_0] {
        let model = windowed(50).keeping(kept);
        let (ids, vocab) = (ids(160, model.config.vocab), model.config.vocab);
        let expected = bits(&model.logits(&ids, 160, &Serial));
        let mut engine = model.engine(options(&model, 160, 7), &Serial);
        for start in 0..some(288).min(160 - 7) {
            engine.copy(0, 1, start).unwrap();
            let found = after(&mut engine, 1, &ids[start..start + 7]);
            assert!(found == expected[start * vocab..][..7 * vocab], "{kept:?}, from {start}");
            step(&mut engine, 0, &ids[start..=start]);
        }
    }
}

/// A text after each of the beginnings of another one, as an engine has it whose rings never begin again.
fn branches(model: &Model, text: &[u32], branch: &[u32]) -> Vec<Vec<u32>> {
    let room = text.len() + branch.len();
    let mut engine = model.engine(options(model, room, room), &Serial);
    (0..=text.len())
        .map(|len| {
            let found = after(&mut engine, 0, branch);
            engine.truncate(0, len).unwrap();
            text[len..].iter().take(1).for_each(|id| step(&mut engine, 0, &[*id]));
            found
        })
        .collect()
}

/// From each length of a sequence back to each that its rings still allow, and on with another text; in a copy of its beginning,
/// and in one of all that is cut then. The sequence itself goes on as if nothing had been.
#[test]
fn beginnings_are_taken_across_the_edge_of_a_ring() {
    // Of 64 rows, windows of 44 leave 20 that may be taken back.
    let (window, rows, batch) = (44, 64, 4);
    for kept in [KvFormat::F16, KvFormat::Q8_0] {
        let model = windowed(window).keeping(kept);
        let all = ids(some(150).max(72), model.config.vocab);
        let branch = &ids(152, model.config.vocab)[150..];
        let expected = branches(&model, &all, branch);
        let mut engine = model.engine(options(&model, all.len() + 2, batch), &Serial);
        for (len, id) in all.iter().enumerate() {
            let least = if len <= rows { 0 } else { len - rows + window - 1 };
            for to in [least, least + 1, len.saturating_sub(3), len].map(|to| to.min(len)) {
                engine.copy(0, 1, to).unwrap();
                assert!(
                    after(&mut engine, 1, branch) == expected[to],
                    "{kept:?}: {len}, copy of {to}"
                );
                engine.copy(0, 1, len).unwrap();
                engine.truncate(1, to).unwrap();
                assert!(
                    after(&mut engine, 1, branch) == expected[to],
                    "{kept:?}: {len} cut to {to}"
                );
            }
            if least > 0 {
                let error = TruncateError::Forgotten { asked: least - 1, least };
                assert_eq!(engine.copy(0, 1, least - 1), Err(error));
                assert_eq!(engine.truncate(0, least - 1), Err(error));
            }
            step(&mut engine, 0, &[*id]);
        }
    }
}
