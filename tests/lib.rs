//! What the tests of several crates share: the committed tiny models and ways to run them.

pub mod counting;
pub mod gguf;
pub mod guarded;
pub mod machine;
pub mod random;
pub mod store;
pub mod tiny;

use std::fs;
use std::path::PathBuf;
use wick_core::{
    Arena, Arrangement, Config, Engine, HeadRows, KvFormat, Location, Logits, Options, Parallel,
    Plan, Section, Token, Weights,
};
use wick_format::{Gguf, Overrides};
use wick_kernels::Kernels;

/// A committed file under `tests/golden`.
pub fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// The bytes of a committed file under `tests/golden`, kept for the rest of the process.
///
/// # Panics
/// If there is no such file.
pub fn golden_bytes(name: &str) -> &'static [u8] {
    let path = golden_path(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).leak()
}

/// The 32-bit floats of a committed file under `tests/golden`.
///
/// # Panics
/// If there is no such file.
pub fn golden_floats(name: &str) -> Vec<f32> {
    let (floats, rest) = golden_bytes(name).as_chunks::<4>();
    assert!(rest.is_empty(), "{name}: a multiple of 4 bytes");
    floats.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// A model that lives for the rest of the process.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Its shape.
    pub config: Config,
    /// Its tensors.
    pub weights: &'static Weights<'static>,
    /// What it is computed with.
    pub kernels: &'static Kernels,
    /// How keys and values are kept.
    pub kv: KvFormat,
}

impl Model {
    /// Reads a model from its file's bytes, or from those of its parts.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read(parts: &[&'static [u8]]) -> Model {
        let parts: Vec<_> = parts.iter().map(|part| Gguf::parse(part).unwrap()).collect();
        let parts: &'static [Gguf<'static>] = parts.leak();
        let files = wick_format::Model::new(parts).unwrap();
        let config = files.config(Overrides::default()).unwrap();
        let weights = files.weights(&config).unwrap();
        Model {
            config,
            weights: Box::leak(Box::new(weights)),
            kernels: Kernels::scalar(),
            kv: KvFormat::F16,
        }
    }

    /// The committed model of this name.
    ///
    /// # Panics
    /// If there is no such model.
    pub fn golden(name: &str) -> Model {
        Model::read(&[golden_bytes(&format!("{name}.gguf"))])
    }

    /// The same model, arranged for the kernels.
    #[must_use]
    pub fn arranged(self) -> Model {
        self.arranged_for(HeadRows::Exact)
    }

    /// The same model, arranged for these rows of the LM head.
    #[must_use]
    pub fn arranged_for(self, head_rows: HeadRows) -> Model {
        self.arranged_as(Arrangement {
            head_rows,
            experts: true,
            moved: false,
            section: Section::Whole,
        })
    }

    /// The same model, with what is arranged so.
    #[must_use]
    pub fn arranged_as(self, what: Arrangement) -> Model {
        let memory = vec![0; wick_core::arranged_bytes(self.weights, what)].leak();
        wick_core::for_each_piece(self.weights, what, memory, |piece| _ = piece.arrange());
        let mut weights = Box::new(self.weights.clone());
        wick_core::take_arranged(&mut weights, what, memory);
        Model { weights: Box::leak(weights), ..self }
    }

    /// The same model, computed with other kernels.
    #[must_use]
    pub fn with(self, kernels: &'static Kernels) -> Model {
        Model { kernels, ..self }
    }

    /// The same model, with keys and values kept in another way.
    #[must_use]
    pub fn keeping(self, kv: KvFormat) -> Model {
        Model { kv, ..self }
    }

    /// An engine in memory of its own.
    ///
    /// # Panics
    /// If the options do not fit the model.
    pub fn engine(&self, options: Options, parallel: &'static dyn Parallel) -> Engine<'static> {
        let plan = Plan::new(&self.config, self.weights, &options).unwrap();
        let mut arena = Arena::new(vec![0xAA; plan.arena()].leak());
        Engine::new(self.config, self.weights, options, &mut arena, self.kernels, parallel).unwrap()
    }

    /// The logits after each of `ids`, `batch` tokens at a time.
    ///
    /// # Panics
    /// If a step is refused.
    pub fn logits(&self, ids: &[u32], batch: usize, parallel: &'static dyn Parallel) -> Vec<f32> {
        let options = Options {
            context: ids.len(),
            sequences: 1,
            batch,
            logits: batch,
            head_rows: HeadRows::Exact,
            kv: self.kv,
        };
        let mut engine = self.engine(options, parallel);
        let mut all = Vec::new();
        for chunk in ids.chunks(batch) {
            step(&mut engine, 0, chunk);
            (0..chunk.len()).for_each(|i| all.extend_from_slice(engine.logits(i).unwrap()));
        }
        all
    }
}

/// Where gate, up and down of each layer lie in the file of a model.
///
/// # Panics
/// If it cannot be read.
pub fn expert_locations(file: &[u8]) -> Vec<[Location; 3]> {
    let files = [Gguf::parse(file).unwrap()];
    let model = wick_format::Model::new(&files).unwrap();
    let config = model.config(Overrides::default()).unwrap();
    (0..config.layers).map(|layer| model.expert_locations(&config, layer).unwrap()).collect()
}

/// Appends `ids` to a sequence in one step, asking for the logits of each.
///
/// # Panics
/// If the step is refused.
pub fn step(engine: &mut Engine<'_>, sequence: usize, ids: &[u32]) {
    step_for(engine, sequence, ids, Logits::All);
}

/// The same, asking for some of them.
///
/// # Panics
/// If the step is refused.
pub fn step_for(engine: &mut Engine<'_>, sequence: usize, ids: &[u32], logits: Logits) {
    let token = |id: &u32| Token::new(*id, sequence, logits);
    engine.step(&ids.iter().map(token).collect::<Vec<_>>()).unwrap();
}

/// How far apart the smallest and the largest of `floats` are.
pub fn range(floats: &[f32]) -> f32 {
    let largest = floats.iter().copied().fold(f32::MIN, f32::max);
    largest - floats.iter().copied().fold(f32::MAX, f32::min)
}

/// The largest difference between two lists of the same length.
///
/// # Panics
/// If their lengths differ.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// `n` token ids below `vocab` that look random and are always the same.
pub fn ids(n: usize, vocab: usize) -> Vec<u32> {
    let next = |seed: &u32| Some(seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let seeds = std::iter::successors(Some(12_345u32), next);
    seeds.skip(1).take(n).map(|seed| (seed >> 8) % vocab as u32).collect()
}

/// `n` positions, or a quarter where `WICK_EMULATED` says that they take long: for tests whose every position
/// shows the same.
pub fn some(n: usize) -> usize {
    if is_emulated() { n.div_ceil(4) } else { n }
}

/// All cases, or every fourth where `WICK_EMULATED` says that each takes long.
pub fn sample<T>(cases: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    cases.into_iter().step_by(if is_emulated() { 4 } else { 1 })
}

fn is_emulated() -> bool {
    std::env::var_os("WICK_EMULATED").is_some()
}

/// The bits of floats, to be compared exactly.
pub fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|f| f.to_bits()).collect()
}
