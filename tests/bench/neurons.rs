//! What it costs where in an expert active neurons lie, at the 4B's shape in memory larger than caches.
//!
//!     cargo bench -p wick-bench --bench neurons -- UP.txt[:DOWN.txt] ...
//!
//! A file has a line for each use of an expert, with `1` or `0` for each neuron, as `neurons.py` writes
//! it: which rows of `up`, and which columns of `down`, are read. The cases take turns token by token,
//! each with experts that have left the caches; of `gate`, no neuron is active. Tokens are computed as
//! in the forward pass.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;
use wick_core::{Bands, Grid, Part};
use wick_kernels::{Encodings, Format, GROUP, Layout, RowLayout};
use wick_linux::{Cpus, Memory, Pool, kernels};
use wick_tests::random::Random;

/// The 4B's widths, and the experts of a token in a layer.
const HIDDEN: usize = 1536;
const WIDTH: usize = 768;
const ACTIVE: usize = 4;
/// Bytes of a matrix, and of an expert.
const MATRIX: usize = WIDTH * HIDDEN / 32 * 18;
const EXPERT: usize = 3 * MATRIX;
/// Experts: 1 GiB of them.
const EXPERTS: usize = (1 << 30) / EXPERT;
/// Tokens that each case computes.
const TOKENS: usize = 3000;
/// Neurons of a tile.
const TILE: usize = 128;
/// What activations are multiplied as.
const Q8_0: Encodings = Encodings { q8_0: true, q8_k: false };

/// Where active neurons lie, use by use.
struct Case {
    name: String,
    /// Rows of `up` that are read.
    up: Vec<[bool; WIDTH]>,
    /// What `down` is multiplied with, encoded.
    down: Vec<Vec<f32>>,
    /// Nanoseconds of gate and up, and of down, of each token.
    times: [Vec<u128>; 2],
}

impl Case {
    fn new(name: &str) -> Result<Case, String> {
        let (up, down) = name.split_once(':').unwrap_or((name, name));
        let layout = RowLayout::new(WIDTH, Q8_0);
        let mut random = Random(5);
        let mut encode = |mask: [bool; WIDTH]| {
            let mut slab = vec![0.0; layout.stride()];
            for (value, _) in slab.iter_mut().zip(mask).filter(|(_, active)| *active) {
                *value = 1.5 + random.float();
            }
            kernels().encode()(&layout, &mut slab);
            slab
        };
        let (up, down) = (read(up)?, Vec::from_iter(read(down)?.into_iter().map(&mut encode)));
        if up.is_empty() || up.len() != down.len() {
            return Err(format!("{name}: {} uses of up, {} of down", up.len(), down.len()));
        }
        Ok(Case { name: name.to_owned(), up, down, times: [vec![], vec![]] })
    }
}

/// The uses of a file; of `gate`, one without active neurons.
fn read(path: &str) -> Result<Vec<[bool; WIDTH]>, String> {
    if path == "gate" {
        return Ok(vec![[false; WIDTH]]);
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let line = |line: &str| {
        let mask: Vec<bool> = line.bytes().map(|b| b == b'1').collect();
        let len = mask.len();
        mask.try_into().map_err(|_| format!("{path}: lines of {WIDTH} expected, {len} found"))
    };
    text.lines().map(line).collect()
}

/// Experts that are all alike, and room for what is computed.
struct Bench {
    pool: Pool,
    memory: Memory,
    /// The order in which experts are used.
    order: Vec<usize>,
    hidden: (RowLayout, Vec<f32>),
    neurons: Vec<f32>,
    outputs: Vec<f32>,
}

impl Bench {
    fn new() -> std::io::Result<Bench> {
        let mut random = Random(1);
        let cpus = Cpus::detect();
        let pool = Pool::new(cpus.threads(), &cpus);
        pool.pin_caller();
        let mut memory = Memory::new(EXPERTS * EXPERT)?;
        let mut expert = vec![0; EXPERT];
        let shapes = [
            (Layout::Grouped, WIDTH, HIDDEN),
            (Layout::Split, WIDTH, HIDDEN),
            (Layout::Columns, HIDDEN, WIDTH),
        ];
        for ((layout, rows, cols), target) in shapes.into_iter().zip(expert.chunks_mut(MATRIX)) {
            let source = random.weights(Format::Q4_0, rows, cols, 0.1);
            layout.arrange(cols, &source, target);
        }
        memory.as_mut_slice().chunks_mut(EXPERT).for_each(|e| e.copy_from_slice(&expert));
        let mut order: Vec<usize> = (0..EXPERTS).collect();
        (1..EXPERTS).for_each(|i| order.swap(i, random.below(i + 1)));
        let layout = RowLayout::new(HIDDEN, Q8_0);
        let mut hidden = vec![0.0; layout.stride()];
        hidden[..HIDDEN].fill_with(|| random.float());
        kernels().encode()(&layout, &mut hidden);
        Ok(Bench {
            pool,
            memory,
            order,
            hidden: (layout, hidden),
            neurons: vec![0.0; ACTIVE * WIDTH],
            outputs: vec![0.0; ACTIVE * HIDDEN],
        })
    }

    /// Computes a token of a case with the experts that follow those of `step` tokens.
    fn token(&mut self, case: &mut Case, token: usize, step: usize) {
        let experts = std::array::from_fn(|i| self.order[(step * ACTIVE + i) % EXPERTS]);
        let uses = std::array::from_fn(|i| (token * ACTIVE + i) % case.up.len());
        let start = Instant::now();
        self.gate_and_up(&experts, &uses, case);
        let between = Instant::now();
        self.down(&experts, &uses, case);
        case.times[0].push((between - start).as_nanos());
        case.times[1].push(between.elapsed().as_nanos());
    }

    fn gate_and_up(&mut self, experts: &[usize; ACTIVE], uses: &[usize; ACTIVE], case: &Case) {
        let kernels = kernels();
        let product = kernels.matmul(Format::Q4_0, Layout::Grouped).expect("Q4_0 can be grouped");
        let (prefetch, pick) = (kernels.prefetch(), kernels.pick_rows());
        let (memory, row) = (&*self.memory.as_mut_slice(), MATRIX / WIDTH);
        let x = self.hidden.0.view(&self.hidden.1);
        let neurons = Grid::new(&mut self.neurons, WIDTH, WIDTH);
        neurons.for_each_tile(&self.pool, Bands::Each, TILE, |tile| {
            let (i, cols) = (tile.band(), tile.cols());
            let [gate, up] = [Part::Gate, Part::Up].map(|part| matrix(memory, experts[i], part));
            let mut active = Vec::with_capacity(TILE);
            for first in cols.step_by(GROUP) {
                let mut gates = [0.0; GROUP];
                product(&gate[first * row..][..GROUP * row], &[x], &mut gates);
                black_box(gates);
                for neuron in (first..first + GROUP).filter(|n| case.up[uses[i]][*n]) {
                    prefetch(&up[neuron * row..][..row]);
                    active.push(neuron as u32);
                }
            }
            let values = &mut tile.row(i)[..active.len()];
            pick(up, &active, &x, values);
        });
    }

    fn down(&mut self, experts: &[usize; ACTIVE], uses: &[usize; ACTIVE], case: &Case) {
        let (layout, sum_columns) = (RowLayout::new(WIDTH, Q8_0), kernels().sum_columns());
        let memory = &*self.memory.as_mut_slice();
        let outputs = Grid::new(&mut self.outputs, HIDDEN, HIDDEN);
        outputs.for_each_tile(&self.pool, Bands::Each, HIDDEN, |tile| {
            let (i, cols) = (tile.band(), tile.cols());
            let neurons = layout.view(&case.down[uses[i]]);
            sum_columns(matrix(memory, experts[i], Part::Down), &neurons, cols, tile.row(i));
        });
    }
}

/// A matrix of an expert.
fn matrix(memory: &[u8], expert: usize, part: Part) -> &[u8] {
    let place = match part {
        Part::Gate => 0,
        Part::Up => 1,
        Part::Down => 2,
    };
    &memory[expert * EXPERT + place * MATRIX..][..MATRIX]
}

fn median(times: &mut [u128]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2] as f64 / 1e3
}

fn measure(names: &[String]) -> Result<(), String> {
    let mut cases = Vec::new();
    for name in std::iter::once("gate").chain(names.iter().map(String::as_str)) {
        cases.push(Case::new(name)?);
    }
    let mut bench = Bench::new().map_err(|e| e.to_string())?;
    let count = cases.len();
    for token in 0..TOKENS {
        for i in 0..count {
            // Forward and backward, so that no case always follows the same other one.
            let turn = if token % 2 == 0 { i } else { count - 1 - i };
            bench.token(&mut cases[(turn + token) % count], token, token * count + i);
        }
    }
    println!("medians over {TOKENS} tokens of a layer, {}, µs", kernels().name());
    println!("{:>9} {:>9} {:>9}  case", "gate, up", "down", "all");
    for case in &mut cases {
        let [up, down] = &mut case.times;
        let mut all: Vec<u128> = up.iter().zip(&*down).map(|(a, b)| a + b).collect();
        println!("{:9.1} {:9.1} {:9.1}  {}", median(up), median(down), median(&mut all), case.name);
    }
    Ok(())
}

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match measure(&names) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
