//! Multiplying some rows of the output matrix only.

use half::f16;
use std::sync::LazyLock;
use wick_core::{
    Config, EngineError, KvFormat, Matrix, Options, Output, OutputError, Parallel, Plan, Serial,
    Weights,
};
use wick_kernels::{Encodings, Format, Kernels, Layout, RowLayout};
use wick_linux::{Cpus, Pool, all_kernels};
use wick_tests::tiny::Tiny;
use wick_tests::{Model, bits, ids, step};

static TWO: LazyLock<Pool> = LazyLock::new(|| Pool::new(2, &Cpus::detect()));
static FOUR: LazyLock<Pool> = LazyLock::new(|| Pool::new(4, &Cpus::detect()));

/// The model with another output matrix.
fn with_output(model: &Model, output: Matrix<'static>) -> Model {
    let weights = Weights { output, ..model.weights.clone() };
    Model { weights: Box::leak(Box::new(weights)), ..*model }
}

/// The rows that the output matrix multiplies, read through one that gives them back.
fn hidden(model: &Model, ids: &[u32]) -> Vec<f32> {
    let (vocab, hidden) = (model.config.vocab, model.config.hidden);
    let one = |i: usize| f32::from(u8::from(i.is_multiple_of(hidden + 1) && i < hidden * hidden));
    let bytes: Vec<u8> = (0..vocab * hidden).flat_map(|i| one(i).to_le_bytes()).collect();
    let identity = Matrix::new(Format::F32, vocab, hidden, bytes.leak()).unwrap();
    let logits = with_output(model, identity).logits(ids, 8, &Serial);
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
    output: Output,
    top: usize,
    ids: &[u32],
    batch: usize,
    parallel: &'static dyn Parallel,
) -> (Vec<f32>, usize) {
    let options = Options {
        context: ids.len(),
        sequences: 1,
        batch,
        outputs: batch,
        output,
        kv: KvFormat::F16,
    };
    let mut engine = model.engine(options, parallel);
    engine.want_top(top);
    let (mut all, mut rows) = (Vec::new(), 0);
    for chunk in ids.chunks(batch) {
        step(&mut engine, 0, chunk);
        rows += engine.output_rows();
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
        for model in [model, model.arranged_for(Output::Profiler)] {
            let pools: [&'static dyn Parallel; 3] = [&Serial, &*TWO, &*FOUR];
            for (pool, batch) in pools.into_iter().zip([7, 1, 40]) {
                let (found, rows) =
                    logits(&model.with(kernels), Output::Profiler, 0, &ids, batch, pool);
                assert!(bits(&found) == bits(&expected), "{}, batch {batch}", kernels.name());
                assert_eq!(rows, counted);
            }
        }
    }
}

/// A row of weights as Q4_0.
fn quantize(weights: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in weights.as_chunks::<32>().0 {
        let largest = block.iter().fold(0f32, |m, w| if w.abs() > m.abs() { *w } else { m });
        let scale = largest / -8.0;
        let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
        let quant = |w: f32| ((w * inverse + 8.5) as u8).min(15);
        bytes.extend(f16::from_f32(scale).to_le_bytes());
        bytes.extend((0..16).map(|i| quant(block[i]) | quant(block[i + 16]) << 4));
    }
    bytes
}

/// nano, whose output matrix and embedding are Q8_0, with both as Q4_0.
fn nano() -> Model {
    let model = Model::golden("../models/nano/nano");
    let (vocab, hidden) = (model.config.vocab, model.config.hidden);
    let mut row = vec![0.0; hidden];
    let bytes: Vec<u8> = (0..vocab)
        .flat_map(|i| {
            model.weights.output.dequantize_row(i, &mut row);
            quantize(&row)
        })
        .collect();
    let output = Matrix::new(Format::Q4_0, vocab, hidden, bytes.leak()).unwrap();
    let weights = Weights { output, embedding: output, ..model.weights.clone() };
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
    let tiny = Model::read(&[Tiny { config, ..Tiny::default() }.to_bytes().leak()]);
    for (name, model) in [("nano", nano()), ("random", tiny)] {
        let vocab = model.config.vocab;
        let ids = ids(200, vocab);
        let dense = model.logits(&ids, 16, &Serial);
        let coarse = model.arranged_for(Output::Coarse);
        for top in [1, 20, 64] {
            let (found, rows) = logits(&coarse, Output::Coarse, top, &ids, 16, &Serial);
            assert!(rows < ids.len() * vocab, "{name}: {rows} rows for {top}");
            for (found, dense) in found.chunks(vocab).zip(dense.chunks(vocab)) {
                assert_eq!(largest(found, top), largest(dense, top), "{name}, {top}");
                let same =
                    |(f, d): (&f32, &f32)| *f == f32::NEG_INFINITY || f.to_bits() == d.to_bits();
                assert!(found.iter().zip(dense).all(same), "{name}, {top}");
            }
            for (kernels, pool) in all_kernels().into_iter().flat_map(|k| [(k, &*TWO), (k, &*FOUR)])
            {
                let again = logits(&coarse.with(kernels), Output::Coarse, top, &ids[..40], 7, pool);
                assert!(bits(&again.0) == bits(&found[..40 * vocab]), "{name}, {}", kernels.name());
            }
        }
        for top in [0, 65] {
            let (found, rows) = logits(&coarse, Output::Coarse, top, &ids, 16, &*TWO);
            assert!(bits(&found) == bits(&dense) && rows == ids.len() * vocab, "{name}, {top}");
        }
        let (found, _) = logits(&model, Output::Coarse, 20, &ids, 16, &Serial);
        assert!(bits(&found) == bits(&dense), "{name}: not arranged");
    }
}

#[test]
fn what_the_model_has_not_is_refused() {
    let refused = |model: &Model, output| {
        let options =
            Options { context: 8, sequences: 1, batch: 1, outputs: 1, output, kv: KvFormat::F16 };
        let plan = Plan::new(&model.config, model.weights, &options).unwrap();
        let mut arena = wick_core::Arena::new(vec![0; plan.arena()].leak());
        let (weights, kernels) = (model.weights, model.kernels);
        wick_core::Engine::new(model.config, weights, options, &mut arena, kernels, &Serial)
            .unwrap_err()
    };
    let without = Model::golden("q4_0-tied");
    let error = refused(&without, Output::Profiler);
    assert_eq!(error, EngineError::Output(OutputError::NoProfiler));
    assert!(error.to_string().contains("lm_head_profiler.weight"), "{error}");
    let error = refused(&Model::golden("q8_0"), Output::Coarse);
    assert!(error.to_string().contains("Q4_0 and a multiple of 32 rows expected, Q8_0"), "{error}");
    let error = refused(&Model::golden("powerinfer").arranged(), Output::Profiler);
    let (expected, found) = (Layout::Split, Layout::Grouped);
    assert_eq!(error, EngineError::Output(OutputError::Arranged { expected, found }));
}
