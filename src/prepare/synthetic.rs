//! Models of random weights whose activations have the statistics that were asked for.
//!
//! The first 32 hidden dimensions hold the same constant for every token: the embedding puts it
//! there and no layer writes to them, so weights along them work as biases. Gates get one that puts
//! the wanted share of their neurons at zero, and each router row one that has its expert chosen as
//! often as wanted. Attention, ups and output do not see these dimensions, so nothing else is the
//! same for every token. All other weights are independent and normal, their deviations such that
//! what a layer adds to the residual stream has a known size.

use crate::gguf::{Tensor, Writer};
use crate::metadata::Metadata;
use crate::normal;
use crate::ordered::write_in_order;
use crate::quantize::quantize;
use crate::random::Random;
use crate::routing;
use crate::vocabulary::{LEAST_ENTRIES, Vocabulary};
use crate::{Error, Shape, Statistics, model_keys};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use wick_core::{Config, Parallel, Role, TensorName};
use wick_kernels::Format;

/// Dimensions that hold the constant: a block of every format in blocks of 32.
const CONSTANT_DIMS: usize = 32;
/// What they hold; the other dimensions of an embedding have deviation 1.
const CONSTANT: f64 = 4.0;
/// Mean square that the experts of a layer add to a dimension of the residual stream.
const EXPERTS_POWER: f64 = 0.1;
/// Mean square that attention adds where it attends to one position.
const ATTENTION_POWER: f64 = 0.05;
/// What part of that is left where it attends to some tens or hundreds of positions.
const ATTENDED: f64 = 0.2;
/// Deviation of queries and keys, whose product makes attention prefer some positions.
const SHARPNESS: f64 = 1.4;
/// Deviation of router logits between tokens.
const ROUTER_DEVIATION: f64 = 1.5;
/// Deviation of the weights of norms, whose mean is 1.
const NORM_DEVIATION: f64 = 0.2;
/// Deviation of the output's logits.
const LOGIT_DEVIATION: f64 = 2.0;
/// Weights that a thread draws before they are written.
const CHUNK: usize = 1 << 19;

/// A model of random weights, to be written.
#[derive(Clone, Debug)]
pub struct Synthetic {
    config: Config,
    statistics: Statistics,
    seed: u64,
    parts: Vec<(TensorName, Tensor)>,
    file_type: Format,
}

/// How the weights of a tensor are drawn.
struct Law {
    mean: f64,
    deviation: f64,
    /// Whether each weight gets a random sign.
    signs: bool,
    first: First,
    /// Of each `.1` rows so many are zero, so that nothing is written to the constant dimensions.
    silent: (usize, usize),
}

/// What the first [`CONSTANT_DIMS`] weights of a row are.
enum First {
    Random,
    All(f64),
    EachRow(Vec<f64>),
}

impl Synthetic {
    /// A model of `shape`, with all matrices but the router in `format`, and with an LM head
    /// in `output` where it is not tied.
    ///
    /// # Errors
    /// The shape cannot be computed, its vocabulary is too small for a tokenizer, or rows are no
    /// whole blocks.
    ///
    /// # Panics
    /// If a format is none of [`crate::QUANTIZABLE`], or the statistics are of another shape.
    pub fn new(
        shape: &Shape,
        statistics: Statistics,
        format: Format,
        output: Format,
        seed: u64,
    ) -> Result<Synthetic, Error> {
        let config = shape.config;
        config.validate()?;
        if config.hidden < 2 * CONSTANT_DIMS || !config.hidden.is_multiple_of(CONSTANT_DIMS) {
            return Err(Error::Hidden { found: config.hidden });
        }
        if config.vocab < LEAST_ENTRIES {
            return Err(Error::Vocabulary { found: config.vocab });
        }
        let writable = |format| crate::QUANTIZABLE.contains(&format);
        assert!(writable(format) && writable(output), "formats that can be written");
        let layers = (statistics.sparsity.len(), statistics.frequency.len());
        assert_eq!(layers, (config.layers, config.layers), "statistics of each layer");
        let output = (!shape.tied).then_some(output);
        let parts = parts(&config, format, output);
        parts.iter().try_for_each(|(_, tensor)| tensor.bytes().map(drop))?;
        Ok(Synthetic { config, statistics, seed, parts, file_type: format })
    }

    /// The statistics that the model is made for.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().filter_map(|(_, tensor)| tensor.bytes().ok()).sum()
    }

    /// The root mean square of the residual stream that is expected to enter a layer, or, of the
    /// number of layers, to leave the last one.
    pub fn residual(&self, layer: usize) -> f64 {
        self.rms(self.deviation(layer))
    }

    /// Writes the model to `path`: weights are drawn and quantized by several threads, a few
    /// megabytes at a time, and are the same bits for any number of them. `progress` is told how
    /// many bytes were added, and may break off.
    ///
    /// # Errors
    /// The file cannot be written, or was broken off; nothing is left behind then.
    pub fn write(
        &self,
        path: &Path,
        parallel: &dyn Parallel,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let tensors: Vec<Tensor> = self.parts.iter().map(|(_, tensor)| tensor.clone()).collect();
        let mut writer = Writer::create(path, &self.metadata(), &tensors)?;
        for (number, (name, tensor)) in self.parts.iter().enumerate() {
            let law = self.law(*name);
            let step = (CHUNK / tensor.cols()).max(1);
            let starts = (0..tensor.rows()).step_by(step);
            let chunks: Vec<Range<usize>> =
                starts.map(|start| start..(start + step).min(tensor.rows())).collect();
            let draw =
                |rows: &Range<usize>| Ok((self.rows(number, tensor, &law, rows.clone()), ()));
            write_in_order(&chunks, parallel, &mut writer, draw, |_, bytes, ()| {
                progress(bytes.len() as u64)
            })?;
        }
        writer.finish()
    }

    /// Rows of a tensor, the `number`-th of the file, in its format.
    fn rows(&self, number: usize, tensor: &Tensor, law: &Law, rows: Range<usize>) -> Vec<u8> {
        let size = tensor.format.row_bytes(tensor.cols()).expect("checked when it was planned");
        let mut bytes = Vec::with_capacity(size * rows.len());
        let mut values = vec![0.0; tensor.cols()];
        for row in rows {
            // The vocabulary has the numbers of no tensor.
            let mut random = Random::new(&[self.seed, number as u64 + 1, row as u64]);
            law.draw(row, &mut random, &mut values);
            let known = quantize(tensor.format, &values, &mut bytes);
            debug_assert!(known, "checked when it was planned");
        }
        bytes
    }

    fn metadata(&self) -> Metadata {
        let mut metadata = model_keys::describe("synthetic", self.file_type, &self.config);
        Vocabulary::new(self.config.vocab, self.seed).describe(&mut metadata);
        metadata
    }

    /// Hidden dimensions that differ from token to token.
    fn varying(&self) -> f64 {
        (self.config.hidden - CONSTANT_DIMS) as f64
    }

    /// The deviation of a varying dimension of the residual stream that enters a layer.
    fn deviation(&self, layer: usize) -> f64 {
        (1.0 + layer as f64 * (EXPERTS_POWER + ATTENTION_POWER * ATTENDED)).sqrt()
    }

    /// The same between a layer's attention and its experts.
    fn attended_deviation(&self, layer: usize) -> f64 {
        (self.deviation(layer).powi(2) + ATTENTION_POWER * ATTENDED).sqrt()
    }

    /// The root mean square of a residual stream whose varying dimensions have this deviation.
    fn rms(&self, deviation: f64) -> f64 {
        let sum =
            self.varying() * deviation * deviation + CONSTANT_DIMS as f64 * CONSTANT * CONSTANT;
        (sum / self.config.hidden as f64).sqrt()
    }

    /// The deviation of a product of normed residual streams of this deviation and rows whose
    /// weights have deviation 1/√hidden, but for the constant dimensions.
    fn product(&self, deviation: f64) -> f64 {
        let norm = (1.0 + NORM_DEVIATION * NORM_DEVIATION).sqrt();
        let share = self.varying() / self.config.hidden as f64;
        share.sqrt() * norm * deviation / self.rms(deviation)
    }

    fn law(&self, name: TensorName) -> Law {
        let c = &self.config;
        let (hidden, layer) = (c.hidden as f64, name.layer.unwrap_or(0));
        let unit = 1.0 / hidden.sqrt();
        let stream = self.deviation(layer);
        let weights = |deviation| Law { deviation, ..Law::NORMAL };
        let to_hidden = |deviation| Law { silent: (CONSTANT_DIMS, c.hidden), ..weights(deviation) };
        let norm =
            |constant| Law { mean: 1.0, first: First::All(constant), ..weights(NORM_DEVIATION) };
        match name.role {
            Role::Embedding => Law { first: First::All(CONSTANT), ..weights(1.0) },
            // Signs keep a tied model from always preferring the token it has just read.
            Role::OutputNorm => {
                let scale = LOGIT_DEVIATION * unit;
                let law = norm(0.0);
                Law { mean: scale, deviation: scale * law.deviation, signs: true, ..law }
            }
            Role::LmHead => weights(1.0),
            Role::AttnNorm => norm(0.0),
            Role::FfnNorm => norm(1.0),
            Role::Query | Role::Key => weights(SHARPNESS * unit / self.product(stream)),
            Role::Value => weights(unit / self.product(stream)),
            Role::AttnOutput => to_hidden((ATTENTION_POWER / c.query_width() as f64).sqrt()),
            Role::Router => {
                let frequency = &self.statistics.frequency[layer];
                let along = ROUTER_DEVIATION / (CONSTANT_DIMS as f64 * CONSTANT);
                let biases = routing::biases(frequency, c.active);
                let first = First::EachRow(biases.iter().map(|bias| bias * along).collect());
                let deviation = ROUTER_DEVIATION / (self.varying().sqrt() * stream);
                Law { first, ..weights(deviation) }
            }
            Role::Gate => {
                let stream = self.attended_deviation(layer);
                let shift = normal::quantile(self.statistics.sparsity[layer]);
                // Mean and deviation of a product are divided by the same rms.
                let pull = CONSTANT_DIMS as f64 * CONSTANT / self.rms(stream);
                let first = First::All(-shift * self.product(stream) / pull);
                Law { first, ..weights(unit) }
            }
            Role::Up => Law { first: First::All(0.0), ..weights(unit) },
            Role::Down => {
                let product = self.product(self.attended_deviation(layer));
                let shift = normal::quantile(self.statistics.sparsity[layer]);
                // Mean square of a neuron; the weights of the active experts are about equal.
                let neuron = normal::relu_square(shift) * product.powi(4);
                let neurons = c.expert_width as f64 / c.active as f64;
                to_hidden((EXPERTS_POWER / (neurons * neuron)).sqrt())
            }
            Role::Profiler => unreachable!("models are written without a predictor"),
        }
    }
}

impl Law {
    const NORMAL: Law =
        Law { mean: 0.0, deviation: 1.0, signs: false, first: First::Random, silent: (0, 1) };

    fn draw(&self, row: usize, random: &mut Random, out: &mut [f32]) {
        if row % self.silent.1 < self.silent.0 {
            return out.fill(0.0);
        }
        let (mean, deviation) = (self.mean as f32, self.deviation as f32);
        for weight in &mut *out {
            *weight = mean + deviation * random.normal();
        }
        if self.signs {
            out.iter_mut().for_each(|weight| {
                *weight *= if random.bits() & 1 == 0 { 1.0 } else { -1.0 };
            });
        }
        let first = match &self.first {
            First::Random => return,
            First::All(value) => *value,
            First::EachRow(values) => values[row],
        };
        out[..CONSTANT_DIMS].fill(first as f32);
    }
}

/// The tensors of a model, in the order of the file; with an LM head of its own only in `output`.
fn parts(config: &Config, format: Format, output: Option<Format>) -> Vec<(TensorName, Tensor)> {
    let format = |role: Role| match role {
        Role::LmHead => output,
        Role::Profiler => None,
        _ if role.is_plain() => Some(Format::F32),
        _ => Some(format),
    };
    let tensor = |name: TensorName| Some((name, Tensor::of(name, format(name.role)?, config)));
    TensorName::all(config.layers).filter_map(tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, thread};
    use wick_core::Serial;
    use wick_format::{Gguf, Model, Overrides};
    use wick_kernels::scalar;

    fn model(shape: &Shape, format: Format, seed: u64) -> Synthetic {
        let statistics = Statistics::report(&shape.config);
        Synthetic::new(shape, statistics, format, Format::Q6_K, seed).unwrap()
    }

    /// So many threads.
    struct Threads(usize);

    impl Parallel for Threads {
        fn threads(&self) -> usize {
            self.0
        }

        fn run(&self, work: &(dyn Fn() + Sync)) {
            thread::scope(|scope| (0..self.0).for_each(|_| drop(scope.spawn(work))));
        }
    }

    /// The bytes of the file, written with so many threads.
    fn bytes(model: &Synthetic, threads: usize) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        model.write(&path, &Threads(threads), |_| ControlFlow::Continue(())).unwrap();
        fs::read(path).unwrap()
    }

    fn row(gguf: &Gguf<'_>, name: &str, index: usize) -> Vec<f32> {
        let tensor = gguf.tensor(name).unwrap();
        let (format, cols) = (tensor.format().unwrap(), tensor.dims().as_slice()[0]);
        let size = format.row_bytes(cols).unwrap();
        let mut out = vec![f32::NAN; cols];
        scalar::dequantize(format, &tensor.bytes().unwrap()[index * size..][..size], &mut out);
        out
    }

    #[test]
    fn files_are_models_of_their_shape() {
        for format in crate::QUANTIZABLE {
            // Rows are whole blocks of 256 too.
            for text in [
                "tiny,width=256,heads=8",
                "tiny,layers=1,width=256,heads=4,head=64,window=100,vocab=259",
            ] {
                for tied in [false, true] {
                    let shape = Shape { tied, ..text.parse().unwrap() };
                    let bytes = bytes(&model(&shape, format, 1), 2);
                    let files = [Gguf::parse(&bytes).unwrap()];
                    let file = Model::new(&files).unwrap();
                    let config = file.config(Overrides::default()).unwrap();
                    assert_eq!(config, shape.config);
                    let weights = file.weights(&config).unwrap();
                    weights.validate(&config).unwrap();
                    assert_eq!(file.unused(config.layers).count(), 0);
                    assert_eq!(weights.embedding.format(), format);
                    assert_eq!(
                        weights.lm_head().format(),
                        if tied { format } else { Format::Q6_K }
                    );
                    assert_eq!(weights.layers[0].router.format(), Format::F32);
                }
            }
        }
    }

    #[test]
    fn the_seed_alone_decides_the_bits() {
        // Rows of several chunks in one tensor.
        let shape: Shape = "tiny,vocab=5000".parse().unwrap();
        let first = bytes(&model(&shape, Format::Q4_0, 1), 1);
        for threads in [2, 3] {
            assert!(first == bytes(&model(&shape, Format::Q4_0, 1), threads), "{threads} threads");
        }
        assert!(first != bytes(&model(&shape, Format::Q4_0, 2), 1));
    }

    #[test]
    fn only_the_embedding_writes_to_the_constant_dimensions() {
        let bytes = bytes(&model(&Shape::TINY, Format::Q4_0, 1), 1);
        let gguf = Gguf::parse(&bytes).unwrap();
        let first = |name, index| row(&gguf, name, index)[..CONSTANT_DIMS].to_vec();
        assert_eq!(first("token_embd.weight", 77), [CONSTANT as f32; CONSTANT_DIMS]);
        assert_eq!(first("output_norm.weight", 0), [0.0; CONSTANT_DIMS]);
        for name in ["blk.3.attn_output.weight", "blk.3.ffn_down_exps.weight"] {
            let silent = |index| row(&gguf, name, index).iter().all(|weight| *weight == 0.0);
            assert!(silent(0) && silent(31) && !silent(32) && !silent(255), "{name}");
        }
        // The second expert's rows follow the 256 of the first.
        assert!(row(&gguf, "blk.3.ffn_down_exps.weight", 256 + 31).iter().all(|w| *w == 0.0));
        assert_eq!(first("blk.3.ffn_up_exps.weight", 5), [0.0; CONSTANT_DIMS]);
        assert!(first("blk.0.ffn_gate_exps.weight", 5).iter().all(|weight| *weight < 0.0));
    }

    #[test]
    fn a_file_that_is_broken_off_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        let synthetic = model(&Shape::TINY, Format::Q4_0, 1);
        let result = synthetic.write(&path, &Serial, |_| ControlFlow::Break(()));
        assert!(matches!(result, Err(Error::Interrupted)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Memory is that of a few pieces, however large the tensors are.
    #[test]
    fn pieces_are_small() {
        let folder = tempfile::tempdir().unwrap();
        let shape: Shape = "tiny,layers=1,vocab=20000".parse().unwrap();
        let (mut largest, mut sum) = (0, 0);
        let synthetic = model(&shape, Format::F32, 1);
        let written = synthetic.write(&folder.path().join("a"), &Serial, |bytes| {
            (largest, sum) = (bytes.max(largest), sum + bytes);
            ControlFlow::Continue(())
        });
        written.unwrap();
        assert_eq!((largest, sum), (4 * CHUNK as u64, synthetic.bytes()));
    }

    #[test]
    fn shapes_that_make_no_file_are_refused() {
        for (text, message) in [
            ("tiny,hidden=100", "hidden size: a multiple of 32, 64 or more, expected, 100 found"),
            ("tiny,hidden=32", "hidden size: a multiple of 32"),
            ("tiny,vocab=258", "vocabulary: 259 entries or more expected, 258 found"),
            ("tiny,width=100", "blk.0.ffn_down_exps.weight: rows of a multiple of 32 weights"),
            ("tiny,heads=3", "query heads: a multiple of the 2 KV heads expected, 3 found"),
        ] {
            let shape: Shape = text.parse().unwrap();
            let statistics = Statistics::even(&shape.config);
            let result = Synthetic::new(&shape, statistics, Format::Q4_0, Format::Q4_0, 1);
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
