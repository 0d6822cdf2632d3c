//! Files that are packed for some rows of the LM head.

use crate::{damages, golden, odd_bytes, pack, whole};
use wick_core::{Arrangement, HeadRows, KvFormat, Logits, Options, Serial, arranged_bytes};
use wick_kernels::Layout;
use wick_tests::tiny::Tiny;
use wick_tests::{Model, bits, ids, step_for};

const LARGEST: Logits = Logits::Top(20);

#[test]
fn files_packed_for_the_profiler_choose_the_same_rows() {
    for parts in [golden("powerinfer"), vec![odd_bytes()[7].1[0]]] {
        let model = Model::read(&parts);
        let packed = Model::read(&[pack(&parts, HeadRows::Profiler).leak()]);
        assert_eq!(arranged_bytes(packed.weights, whole(HeadRows::Profiler)), 0);
        assert_eq!(packed.weights.lm_head().layout(), Layout::Split);
        assert_eq!(packed.weights.profiler.unwrap().fc1.layout(), Layout::Grouped);
        let ids = ids(20, model.config.vocab);
        let [expected, found] = [model, packed]
            .map(|model| logits(&model, HeadRows::Profiler, Logits::Predicted, &ids));
        assert!(expected == found);
    }
}

/// A sketch that the file has is the one that would be drawn, and is used for `coarse` alone.
#[test]
fn files_packed_for_a_sketch_have_it() {
    let nano = golden("../models/nano/nano");
    let untied = Tiny { tied: false, ..Tiny::default() }.to_bytes();
    for parts in [nano, vec![&*untied.leak()]] {
        let model = Model::read(&parts);
        let bytes: &'static [u8] = pack(&parts, HeadRows::Coarse).leak();
        let packed = Model::read(&[bytes]);
        let drawn = model.arranged_for(HeadRows::Coarse);
        assert!(packed.weights.sketch.is_some() && packed.weights.sketch == drawn.weights.sketch);
        assert_eq!(arranged_bytes(packed.weights, whole(HeadRows::Coarse)), 0);
        assert_eq!(damages(bytes), Ok(vec![]));
        let ids = ids(20, model.config.vocab);
        let expected = logits(&drawn, HeadRows::Coarse, LARGEST, &ids);
        assert!(logits(&packed, HeadRows::Coarse, LARGEST, &ids) == expected);
        let moved = packed.arranged_as(Arrangement { moved: true, ..whole(HeadRows::Coarse) });
        assert!(!bytes.as_ptr_range().contains(&moved.weights.sketch.unwrap().as_ptr()));
        assert!(logits(&moved, HeadRows::Coarse, LARGEST, &ids) == expected);
        let (all, rows) = logits(&packed, HeadRows::Exact, LARGEST, &ids);
        assert!(all == bits(&model.logits(&ids, 20, &Serial)) && rows == 20 * model.config.vocab);
    }
}

/// The bits of the logits of all of `ids`, of each of which so much is asked for, and how many rows were multiplied.
fn logits(model: &Model, head_rows: HeadRows, asked: Logits, ids: &[u32]) -> (Vec<u32>, usize) {
    let (n, kv) = (ids.len(), KvFormat::default());
    let options = Options { context: n, sequences: 1, batch: n, logits: n, head_rows, kv };
    let mut engine = model.engine(options, &Serial);
    step_for(&mut engine, 0, ids, asked);
    let all = (0..n).flat_map(|i| bits(engine.logits(i).unwrap())).collect();
    (all, engine.lm_head_rows())
}
