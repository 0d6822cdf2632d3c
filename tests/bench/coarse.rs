//! How often `--output coarse` finds the largest logits, and how many rows it multiplies for them.
//!
//!     cargo bench -p wick-bench --bench coarse -- MODEL.gguf [POSITIONS]
//!
//! Reads random tokens in pieces of 256. The logits of each batch are computed twice, all rows and then
//! those that can be among the largest, and compared: the largest must be the same rows with the same
//! bits.

use std::process::ExitCode;
use wick_core::{Engine, HeadRows, KvFormat, Options};
use wick_linux::{Cpus, Pool, kernels};
use wick_tests::{Model, ids, step_for};

/// Tokens that are read together, and in one piece.
const BATCH: usize = 32;
const PIECE: usize = 256;
/// How many logits are to be right.
const TOPS: [usize; 3] = [1, 20, 64];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let model = arguments.next();
    let positions = arguments.next().map_or(Ok(10_000), |number| number.parse::<usize>());
    let (Some(model), Ok(positions)) = (model, positions) else {
        eprintln!("MODEL.gguf [POSITIONS] expected");
        return ExitCode::from(2);
    };
    match std::fs::read(&model) {
        Ok(bytes) => measure(bytes.leak(), positions),
        Err(error) => {
            eprintln!("{model}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure(bytes: &'static [u8], positions: usize) {
    let model = Model::read(&[bytes]).arranged_for(HeadRows::Coarse).with(kernels());
    let vocab = model.config.vocab;
    let cpus = Cpus::detect();
    let pool: &'static Pool = Box::leak(Box::new(Pool::new(cpus.numbers.len(), &cpus)));
    pool.pin_caller();
    let options = Options {
        context: PIECE,
        sequences: 1,
        batch: BATCH,
        logits: BATCH,
        head_rows: HeadRows::Coarse,
        kv: KvFormat::F16,
    };
    let mut engine = model.engine(options, pool);
    let (mut wrong, mut rows, mut read) = ([0; 3], [0; 3], 0);
    for piece in ids(positions, vocab).chunks(PIECE) {
        engine.truncate(0, 0).expect("everything can be forgotten");
        for (i, batch) in piece.chunks(BATCH).enumerate() {
            let exact = logits(&mut engine, i * BATCH, batch, 0);
            for (top, (wrong, rows)) in TOPS.into_iter().zip(wrong.iter_mut().zip(&mut rows)) {
                let coarse = logits(&mut engine, i * BATCH, batch, top);
                *rows += engine.lm_head_rows();
                let pairs = exact.chunks(vocab).zip(coarse.chunks(vocab));
                *wrong += pairs.filter(|(a, b)| largest(a, top) != largest(b, top)).count();
            }
            read += batch.len();
        }
    }
    for (top, (wrong, rows)) in TOPS.into_iter().zip(wrong.into_iter().zip(rows)) {
        let share = 100.0 * rows as f64 / (read * vocab) as f64;
        println!(
            "{top:>2} largest: wrong at {wrong} of {read} positions, {share:.2} % of the rows"
        );
    }
}

/// The logits of a batch that stands at `position`, of which the `top` largest must be right.
fn logits(engine: &mut Engine<'_>, position: usize, batch: &[u32], top: usize) -> Vec<f32> {
    engine.truncate(0, position).expect("a whole piece is held");
    step_for(engine, 0, batch, HeadRows::Coarse.logits(top));
    (0..batch.len())
        .flat_map(|i| engine.logits(i).expect("each token wants logits"))
        .copied()
        .collect()
}

/// The rows and bits of the `n` largest, in their order; equal ones go by row.
fn largest(logits: &[f32], n: usize) -> Vec<(u32, usize)> {
    let mut rows: Vec<usize> = (0..logits.len()).collect();
    let order = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    rows.select_nth_unstable_by(n - 1, order);
    rows.truncate(n);
    rows.sort_by(order);
    rows.into_iter().map(|row| (logits[row].to_bits(), row)).collect()
}
