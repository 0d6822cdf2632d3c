//! How fast each kernel is, in every variant that this machine can run.

use criterion::{BenchmarkId, Criterion, Throughput};
use half::f16;
use std::hint::black_box;
use wick_kernels::{Encodings, Format, Kernels, KvView, RowLayout};
use wick_tests::random::Random;

/// Columns of the 4B's matrices.
const COLS: usize = 1536;
/// Rows of a tile, which stays in the first-level cache: the kernel is measured, not memory.
const ROWS: usize = 32;
/// Size of a head, and query heads that share a KV head, in the 4B.
const HEAD: usize = 128;
const GROUP: usize = 6;
/// Both 8-bit forms of an activation row.
const BOTH: Encodings = Encodings { q8_0: true, q8_k: true };

/// Every variant that this machine can run.
fn variants() -> Vec<&'static Kernels> {
    vec![Kernels::scalar()]
}

/// A row of activations with both forms.
fn row(layout: &RowLayout, random: &mut Random) -> Vec<f32> {
    let mut slab = vec![0.0; layout.stride()];
    slab[..layout.cols()].fill_with(|| random.float());
    layout.encode(&mut slab);
    slab
}

/// Products of a tile of weights with a row, in bytes of weights per second.
fn matvec(criterion: &mut Criterion) {
    let mut random = Random(1);
    let layout = RowLayout::new(COLS, BOTH);
    let slab = row(&layout, &mut random);
    let mut out = [0.0; ROWS];
    for format in Format::ALL {
        let weights = random.weights(format, ROWS, COLS, 0.1);
        let mut group = criterion.benchmark_group(format!("matvec/{format}"));
        group.throughput(Throughput::Bytes(weights.len() as u64));
        for kernels in variants() {
            let product = kernels.matvec(format);
            group.bench_function(kernels.name(), |bencher| {
                bencher.iter(|| product(black_box(&weights), &layout.view(&slab), &mut out));
            });
        }
    }
}

/// Attention of one token's heads that share a KV head, in positions per second.
fn attention(criterion: &mut Criterion) {
    let mut random = Random(2);
    let mut group = criterion.benchmark_group("attention");
    for positions in [64, 512, 4096] {
        let mut halves =
            || Vec::from_iter((0..positions * HEAD).map(|_| f16::from_f32(random.float())));
        let (keys, values) = (halves(), halves());
        let view = KvView { keys: &keys, values: &values, head: HEAD, from: 0, to: positions };
        let queries = Vec::from_iter((0..GROUP * HEAD).map(|_| random.float()));
        let mut out = [0.0; GROUP * HEAD];
        group.throughput(Throughput::Elements(positions as u64));
        for kernels in variants() {
            let attention = kernels.attention();
            let id = BenchmarkId::new(kernels.name(), positions);
            group.bench_function(id, |bencher| {
                bencher.iter(|| attention(black_box(&queries), &view, &mut out));
            });
        }
    }
}

/// The 8-bit forms of an activation row, in values per second.
fn encode(criterion: &mut Criterion) {
    let mut random = Random(3);
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(COLS as u64));
    let q8_0 = Encodings { q8_k: false, ..BOTH };
    let q8_k = Encodings { q8_0: false, ..BOTH };
    for (name, encodings) in [("Q8_0", q8_0), ("Q8_K", q8_k)] {
        let layout = RowLayout::new(COLS, encodings);
        let mut slab = row(&layout, &mut random);
        group.bench_function(name, |bencher| bencher.iter(|| layout.encode(black_box(&mut slab))));
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    matvec(&mut criterion);
    attention(&mut criterion);
    encode(&mut criterion);
    criterion.final_summary();
}
