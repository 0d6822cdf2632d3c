//! How fast each kernel is, in every variant that this machine can run.

use criterion::{BenchmarkId, Criterion, Throughput};
use half::f16;
use std::hint::black_box;
use wick_kernels::{Encodings, Format, Kernels, KvCells, KvView, Layout, Q8Cells, RowLayout};
use wick_linux::all_kernels;
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

/// A row of activations with both forms.
fn row(layout: &RowLayout, random: &mut Random) -> Vec<f32> {
    let mut slab = vec![0.0; layout.stride()];
    slab[..layout.cols()].fill_with(|| random.float());
    Kernels::scalar().encode()(layout, &mut slab);
    slab
}

/// Products of a tile of weights with rows of one and of four tokens, in bytes of weights per second.
fn matmul(criterion: &mut Criterion) {
    let mut random = Random(1);
    let layout = RowLayout::new(COLS, BOTH);
    let slab = row(&layout, &mut random);
    let xs = [layout.view(&slab); 4];
    let mut out = [0.0; 4 * ROWS];
    let rows = Format::ALL.map(|format| (format, Layout::Rows));
    for (format, arrangement) in rows.into_iter().chain([(Format::Q4_0, Layout::Grouped)]) {
        let weights = random.weights(format, ROWS, COLS, 0.1);
        for tokens in [1, 4] {
            let name = format!("matmul/{format}-{arrangement}/{tokens}");
            let mut group = criterion.benchmark_group(name);
            group.throughput(Throughput::Bytes(weights.len() as u64));
            for kernels in all_kernels() {
                let Some(product) = kernels.matmul(format, arrangement) else { continue };
                let out = &mut out[..tokens * ROWS];
                group.bench_function(kernels.name(), |bencher| {
                    bencher.iter(|| product(black_box(&weights), &xs[..tokens], out));
                });
            }
        }
    }
}

/// Products that skip what is silent, with 8 of 32 rows or columns, in bytes of weights per second.
fn sparse(criterion: &mut Criterion) {
    let mut random = Random(4);
    let layout = RowLayout::new(COLS, BOTH);
    let dense = row(&layout, &mut random);
    let mut silent = vec![0.0; layout.stride()];
    for (i, v) in silent[..COLS].iter_mut().enumerate().filter(|(i, _)| i % 4 == 0) {
        *v = dense[i];
    }
    Kernels::scalar().encode()(&layout, &mut silent);
    let weights = random.weights(Format::Q4_0, ROWS, COLS, 0.1);
    let picked = Vec::from_iter((0..ROWS as u32).step_by(4));
    let mut group = criterion.benchmark_group("pick rows");
    group.throughput(Throughput::Bytes(weights.len() as u64 / 4));
    for kernels in all_kernels() {
        let mut out = [0.0; ROWS / 4];
        let x = layout.view(&dense);
        group.bench_function(kernels.name(), |bencher| {
            bencher.iter(|| kernels.pick_rows()(black_box(&weights), &picked, &x, &mut out));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("sum columns");
    group.throughput(Throughput::Bytes((weights.len() / 9 * (1 + 8 / 4)) as u64));
    for kernels in all_kernels() {
        let mut out = [0.0; ROWS];
        let x = layout.view(&silent);
        group.bench_function(kernels.name(), |bencher| {
            bencher.iter(|| kernels.sum_columns()(black_box(&weights), &x, 0..ROWS, &mut out));
        });
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
        let cells = KvCells::F16 { keys: &keys, values: &values };
        let (quants, scales) = (vec![77; positions * HEAD], vec![f16::ONE; positions * HEAD / 32]);
        let q8_0 = Q8Cells { quants: &quants, scales: &scales };
        let q8_0 = KvCells::Q8_0 { keys: q8_0, values: q8_0 };
        let queries = Vec::from_iter((0..GROUP * HEAD).map(|_| random.float()));
        let mut out = [0.0; GROUP * HEAD];
        group.throughput(Throughput::Elements(positions as u64));
        for kernels in all_kernels() {
            let attention = kernels.attention();
            for (name, cells) in [("F16", cells), ("Q8_0", q8_0)] {
                let view = KvView { cells, head: HEAD, from: 0, to: positions };
                let id = BenchmarkId::new(format!("{name}/{}", kernels.name()), positions);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| attention(black_box(&queries), &view, &mut out));
                });
            }
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
        for kernels in all_kernels() {
            let id = BenchmarkId::new(kernels.name(), name);
            group.bench_function(id, |bencher| {
                bencher.iter(|| kernels.encode()(&layout, black_box(&mut slab)));
            });
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    matmul(&mut criterion);
    sparse(&mut criterion);
    attention(&mut criterion);
    encode(&mut criterion);
    criterion.final_summary();
}
