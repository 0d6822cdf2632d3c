//! Multiplying some rows of the LM head only.

use std::sync::LazyLock;
use wick_core::{
    Config, EngineError, HeadRows, HeadRowsError, KvFormat, Matrix, Options, Parallel, Plan,
    Serial, Weights,
};
use wick_kernels::{Encodings, Format, Kernels, Layout, RowLayout};
use wick_linux::{Cpus, Pool, all_kernels, kernels};
use wick_prepare::quantize;
use wick_tests::tiny::Tiny;
use wick_tests::{Model, bits, ids, some, step_for};

static TWO: LazyLock<Pool> = LazyLock::new(|| Pool::new(2, &Cpus::detect()));
static FOUR: LazyLock<Pool> = LazyLock::new(|| Pool::new(4, &Cpus::detect()));

/// The model with another LM head.
fn with_lm_head(model: &Model, lm_head: Matrix<'static>) -> Model {
    let weights = Weights { own_lm_head: Some(lm_head), ..model.weights.clone() };
    Model { weights: Box::leak(Box::new(weights)), ..*model }
}

/// The rows that the LM head multiplies, read through one that gives them back.
fn hidden(model: &Model, ids: &[u32]) -> Vec<f32> {
    let (vocab, hidden) = (model.config.vocab, model.config.hidden);
    let one = |i: usize| f32::from(u8::from(i.is_multiple_of(hidden + 1) && i < hidden * hidden));
    let bytes: Vec<u8> = (0..vocab * hidden).flat_map(|i| one(i).to_le_bytes()).collect();
    let identity = Matrix::new(Format::F32, vocab, hidden, bytes.leak()).unwrap();
    let logits = with_lm_head(model, identity).logits(ids, 8, &Serial);
    logits.chunks(vocab).flat_map(|row| row[..hidden].to_vec()).collect()
}

/// `matrix · x` by the scalar kernels, with the 8-bit form of `x`.
fn product(matrix: &Matrix<'_>, x: &[f32]) -> Vec<f32> {
    let layout = RowLayout::new(x.len(), Encodings { q8_0: true, q8_k: false });
    let mut slab = vec![0.0; layout.stride()];
    slab[..x.len()].copy_from_slice(x);
    Kernels::scalar().encode()(&layout, &mut slab);
    let mut out = vec![f32::NAN; matrix.rows()];
    let product = Kernels::scalar().matmul(matrix.format(), Layout::Rows).unwrap();
    product(matrix.bytes(), &[layout.view(&slab)], &mut out);
    out
}

/// The logits after each of `ids`, and the rows that were multiplied for them.
fn logits(
    model: &Model,
    head_rows: HeadRows,
    top: usize,
    ids: &[u32],
    batch: usize,
    parallel: &'static dyn Parallel,
) -> (Vec<f32>, usize) {
    let options = Options {
        context: ids.len(),
        sequences: 1,
        batch,
        logits: batch,
        head_rows,
        kv: KvFormat::F16,
    };
    let mut engine = model.engine(options, parallel);
    let (mut all, mut rows) = (Vec::new(), 0);
    for chunk in ids.chunks(batch) {
        step_for(&mut engine, 0, chunk, head_rows.logits(top));
        rows += engine.lm_head_rows();
        (0..chunk.len()).for_each(|i| all.extend_from_slice(engine.logits(i).unwrap()));
    }
    (all, rows)
}

#[test]
fn the_profiler_chooses_rows() {
    let model = Model::golden("powerinfer");
    let (vocab, width) = (model.config.vocab, model.config.hidden);
    let ids = ids(40, vocab);
    let profiler = model.weights.profiler.unwrap();
    let scores = hidden(&model, &ids)
        .chunks(width)
        .flat_map(|x| product(&profiler.fc2, &product(&profiler.fc1, x)))
        .collect::<Vec<f32>>();
    let dense = model.logits(&ids, 1, &Serial);
    let masked =
        |(logit, score): (&f32, &f32)| if *score > 0.0 { *logit } else { f32::NEG_INFINITY };
    let expected: Vec<f32> = dense.iter().zip(&scores).map(masked).collect();
    let counted = expected.iter().filter(|logit| logit.is_finite()).count();
    assert!(counted > 0 && counted < expected.len());
    for kernels in all_kernels() {
        for model in [model, model.arranged_for(HeadRows::Profiler)] {
            let pools: [&'static dyn Parallel; 3] = [&Serial, &*TWO, &*FOUR];
            for (pool, batch) in pools.into_iter().zip([7, 1, 40]) {
                let (found, rows) =
                    logits(&model.with(kernels), HeadRows::Profiler, 0, &ids, batch, pool);
                assert!(bits(&found) == bits(&expected), "{}, batch {batch}", kernels.name());
                assert_eq!(rows, counted);
            }
        }
    }
}

/// nano, whose LM head and embedding are Q8_0, with both in another format.
fn nano(format: Format) -> Model {
    let model = Model::golden("../models/nano/nano");
    let (vocab, hidden) = (model.config.vocab, model.config.hidden);
    let (mut row, mut bytes) = (vec![0.0; hidden], Vec::new());
    for i in 0..vocab {
        model.weights.lm_head().dequantize_row(i, &mut row);
        assert!(quantize(format, &row, &mut bytes), "{format}");
    }
    assert!(model.weights.is_tied());
    let embedding = Matrix::new(format, vocab, hidden, bytes.leak()).unwrap();
    let weights = Weights { embedding, ..model.weights.clone() };
    Model { weights: Box::leak(Box::new(weights)), ..model }
}

/// The `k` largest, ties to the lower row.
fn largest(logits: &[f32], k: usize) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..logits.len()).collect();
    rows.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    rows.truncate(k);
    rows
}

#[test]
fn the_largest_are_found() {
    let config = Config { vocab: 4096, hidden: 256, heads: 8, ..Tiny::default().config };
    let tiny = |format, vocab| {
        let formats = vec![("output", format), ("token_embd", Format::Q4_0)];
        let config = Config { vocab, ..config };
        Model::read(&[Tiny { config, formats, tied: false, ..Tiny::default() }.to_bytes().leak()])
    };
    let models = [
        ("nano in Q4_0", nano(Format::Q4_0)),
        ("nano in Q6_K", nano(Format::Q6_K)),
        ("nano in Q8_0", Model::golden("../models/nano/nano")),
        ("random", tiny(Format::Q4_0, 4096)),
        ("random, groups but no more", tiny(Format::Q4_0, 4104)),
        ("random in F16", tiny(Format::F16, 4096)),
    ];
    for (name, model) in models {
        let vocab = model.config.vocab;
        let ids = ids(some(if name.starts_with("nano") { 120 } else { 60 }), vocab);
        let dense = model.logits(&ids, 16, &Serial);
        // The reference is scalar; what it is compared with may be fast.
        let model = model.with(kernels());
        let coarse = model.arranged_for(HeadRows::Coarse);
        for top in [1, 20, 64] {
            let (found, rows) = logits(&coarse, HeadRows::Coarse, top, &ids, 16, &Serial);
            assert!(rows < ids.len() * vocab, "{name}: {rows} rows for {top}");
            for (found, dense) in found.chunks(vocab).zip(dense.chunks(vocab)) {
                assert_eq!(largest(found, top), largest(dense, top), "{name}, {top}");
                let same =
                    |(f, d): (&f32, &f32)| *f == f32::NEG_INFINITY || f.to_bits() == d.to_bits();
                assert!(found.iter().zip(dense).all(same), "{name}, {top}");
            }
            for (kernels, pool) in all_kernels().into_iter().flat_map(|k| [(k, &*TWO), (k, &*FOUR)])
            {
                let ids = &ids[..some(20).max(8)];
                let again = logits(&coarse.with(kernels), HeadRows::Coarse, top, ids, 7, pool);
                let expected = bits(&found[..ids.len() * vocab]);
                assert!(bits(&again.0) == expected, "{name}, {}", kernels.name());
            }
        }
        for top in [0, 65] {
            let (found, rows) = logits(&coarse, HeadRows::Coarse, top, &ids, 16, &*TWO);
            assert!(bits(&found) == bits(&dense) && rows == ids.len() * vocab, "{name}, {top}");
        }
        let (found, _) = logits(&model, HeadRows::Coarse, 20, &ids, 16, &Serial);
        assert!(bits(&found) == bits(&dense), "{name}: not arranged");
    }
}

#[test]
fn what_the_model_has_not_is_refused() {
    let refused = |model: &Model, head_rows| {
        let options =
            Options { context: 8, sequences: 1, batch: 1, logits: 1, head_rows, kv: KvFormat::F16 };
        let plan = Plan::new(&model.config, model.weights, &options).unwrap();
        let mut arena = wick_core::Arena::new(vec![0; plan.arena()].leak());
        let (weights, kernels) = (model.weights, model.kernels);
        wick_core::Engine::new(model.config, weights, options, &mut arena, kernels, &Serial)
            .unwrap_err()
    };
    let without = Model::golden("q4_0-tied");
    let error = refused(&without, HeadRows::Profiler);
    assert_eq!(error, EngineError::LmHead(HeadRowsError::NoProfiler));
    assert!(error.to_string().contains("lm_head_profiler.weight"), "{error}");
    let odd = Config { vocab: 300, ..Tiny::default().config };
    let odd = Model::read(&[Tiny { config: odd, ..Tiny::default() }.to_bytes().leak()]);
    let error = refused(&odd, HeadRows::Coarse);
    assert_eq!(error, EngineError::LmHead(HeadRowsError::Groups { rows: 300, cols: 64 }));
    let error = refused(&Model::golden("powerinfer").arranged(), HeadRows::Profiler);
    let (expected, found) = (Layout::Split, Layout::Grouped);
    assert_eq!(error, EngineError::LmHead(HeadRowsError::Arranged { expected, found }));
}
