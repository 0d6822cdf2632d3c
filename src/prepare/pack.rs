//! Packing: a model's file with its weights arranged for the kernels.
//!
//! `src/format/README.md` draws a packed file.

use crate::low_bit::round_to_low_bits;
use crate::ordered::in_order;
use crate::{Entry, Error, Metadata, Writer};
use std::ops::ControlFlow;
use std::path::Path;
use wick_core::{
    Config, ExpertKey, HeadRows, Layer, Parallel, Part, Role, Serial, TensorName, Weights,
    expert_layout, once_layout,
};
use wick_format::{EXTENT_ALIGNMENT, I8, Keys, Model, Overrides, PACK_VERSION, Tensor};
use wick_kernels::{Format, Layout, low_bit_bytes};

/// Bytes of a dense tensor that are arranged at a time, about.
const PIECE: usize = 1 << 20;

/// A model to be packed.
pub struct Pack<'a, 'm> {
    model: Model<'a, 'm>,
    config: Config,
    weights: Weights<'m>,
    dense: Vec<Dense<'m>>,
    /// Layers whose experts get low-bit copies.
    low_bit: Vec<usize>,
    parallel: &'a dyn Parallel,
}

/// A tensor that every token may need.
struct Dense<'m> {
    tensor: Tensor<'m>,
    layout: Layout,
    /// Its matrices, by their columns and bytes.
    matrices: Vec<(usize, &'m [u8])>,
}

/// Checksums, in the order of the file.
#[derive(Clone)]
struct Checksums {
    tensors: Vec<u32>,
    experts: Vec<u32>,
    low_bit: Vec<u32>,
}

impl<'a, 'm> Pack<'a, 'm> {
    /// A model to be packed for `head_rows`.
    ///
    /// # Errors
    /// The model is packed already, has not what these rows need, or is none that wick runs.
    pub fn new(model: Model<'a, 'm>, head_rows: HeadRows) -> Result<Pack<'a, 'm>, Error> {
        let refusal = |message: String| Error::Input { message };
        if model.packed().is_some() {
            return Err(refusal("the file is packed already".into()));
        }
        let config = model.config(Overrides::default())?;
        let weights = model.weights(&config)?;
        head_rows.check(&weights).map_err(|e| refusal(e.to_string()))?;
        let name = |tensor: &Tensor<'m>| TensorName::parse(tensor.name(), config.layers);
        let experts = |tensor: &Tensor<'m>| name(tensor).and_then(TensorName::experts);
        let tensors = model.tensors().filter(|tensor| experts(tensor).is_none());
        let dense = tensors.map(|tensor| Dense::new(tensor, &config, &weights, head_rows));
        let dense = dense.collect::<Result<Vec<Dense<'m>>, Error>>()?;
        let pack = Pack { model, config, weights, dense, low_bit: Vec::new(), parallel: &Serial };
        pack.check_entries()?;
        Ok(pack)
    }

    /// The same, with low-bit copies of the experts of every layer whose experts are all Q4_0.
    ///
    /// # Errors
    /// There is no such layer.
    pub fn with_low_bit(mut self) -> Result<Pack<'a, 'm>, Error> {
        let is_q4_0 = |layer: &Layer<'m>| {
            Part::ALL.into_iter().all(|part| layer.experts(part).format() == Format::Q4_0)
        };
        let layers = self.weights.layers.iter().enumerate();
        let layers: Vec<usize> = layers.filter(|(_, l)| is_q4_0(l)).map(|(i, _)| i).collect();
        if layers.is_empty() {
            let message = "low-bit copies: a layer expected whose experts are all Q4_0, none found";
            return Err(Error::Input { message: message.into() });
        }
        self.low_bit = layers;
        self.check_entries()?;
        Ok(self)
    }

    /// The same, arranged by these threads. The file has the same bytes for any number of them.
    pub fn with_threads(self, parallel: &'a dyn Parallel) -> Pack<'a, 'm> {
        Pack { parallel, ..self }
    }

    fn check_entries(&self) -> Result<(), Error> {
        let entries = self.dense.len() + self.config.layers + self.low_bit.len();
        if entries > wick_format::MAX_TENSORS {
            let most = wick_format::MAX_TENSORS;
            let message = format!("at most {most} tensors expected, {entries} found");
            return Err(Error::Input { message });
        }
        Ok(())
    }

    /// Bytes of tensors that are read; experts twice if there are to be low-bit copies of them.
    pub fn bytes(&self) -> u64 {
        let all: usize = self.model.tensors().filter_map(|t| t.bytes()).map(<[u8]>::len).sum();
        let layers = self.low_bit.iter().map(|&layer| &self.weights.layers[layer]);
        let again: usize = layers.flat_map(|l| Part::ALL.map(|part| l.experts(part).size())).sum();
        (all + again) as u64
    }

    /// Number of tensors that every token may need.
    pub fn dense_tensors(&self) -> usize {
        self.dense.len()
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Writes the packed file to `path` and returns its size. `done` is told which bytes of the
    /// input are not needed any more, and may break off.
    ///
    /// # Errors
    /// The file cannot be written, or was broken off; nothing is left behind then.
    pub fn write(
        &self,
        path: &Path,
        mut done: impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<u64, Error> {
        let Config { layers, experts, .. } = self.config;
        let mut sums = Checksums {
            tensors: vec![0; self.dense.len() + layers + self.low_bit.len()],
            experts: vec![0; layers * experts * Part::ALL.len()],
            low_bit: vec![0; layers * experts * Part::ALL.len()],
        };
        let mut writer = Writer::begin_rewritable(path, &self.metadata(&sums), &self.entries())?;
        for (dense, sum) in self.dense.iter().zip(&mut sums.tensors) {
            *sum = dense.write(&mut writer, &mut done)?;
        }
        let all: Vec<usize> = (0..layers).collect();
        let arrange = |key, part, extent: &mut Vec<u8>| self.arrange(key, part, extent);
        self.write_extents(&all, arrange, &mut sums.experts, &mut writer, &mut done)?;
        let compress = |key, part, extent: &mut Vec<u8>| self.compress(key, part, extent);
        self.write_extents(&self.low_bit, compress, &mut sums.low_bit, &mut writer, &mut done)?;
        writer.rewrite(&self.metadata(&sums))?;
        let bytes = writer.bytes();
        writer.finish()?;
        Ok(bytes)
    }

    /// Writes an extent for each expert of `layers`: what `add` makes of its matrices. Their CRC-32,
    /// which it returns, go to `sums`.
    fn write_extents(
        &self,
        layers: &[usize],
        add: impl Fn(ExpertKey, Part, &mut Vec<u8>) -> u32 + Sync,
        sums: &mut [u32],
        writer: &mut Writer,
        done: &mut impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let experts = self.config.experts;
        let keys = |&layer: &usize| (0..experts).map(move |expert| ExpertKey { layer, expert });
        let keys: Vec<ExpertKey> = layers.iter().flat_map(keys).collect();
        // No more than one for each thread, so that memory stays small.
        for keys in keys.chunks(self.parallel.threads()) {
            let extents = in_order(self.parallel, keys.len(), |i| {
                let mut extent = Vec::new();
                let sums = Part::ALL.map(|part| add(keys[i], part, &mut extent));
                (extent, sums)
            });
            for (&key, (extent, found)) in keys.iter().zip(extents) {
                let first = (key.layer * experts + key.expert) * Part::ALL.len();
                sums[first..][..Part::ALL.len()].copy_from_slice(&found);
                writer.write(&extent)?;
                self.release(key, done)?;
            }
        }
        Ok(())
    }

    /// Tells that an expert is not needed any more.
    fn release(
        &self,
        key: ExpertKey,
        done: &mut impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let matrices = Part::ALL.map(|part| self.weights.layers[key.layer].experts(part));
        matrices.into_iter().try_for_each(|m| break_off(done(m.expert(key.expert).bytes())))
    }

    /// Adds the low-bit copy of a matrix of an expert and the zeros after it to an extent, and returns
    /// its CRC-32.
    fn compress(&self, key: ExpertKey, part: Part, extent: &mut Vec<u8>) -> u32 {
        let layer = &self.weights.layers[key.layer];
        let matrix = layer.experts(part).expert(key.expert);
        let mut rounded = matrix.bytes().to_vec();
        round_to_low_bits(&mut rounded);
        let (layout, mut arranged) = (expert_layout(layer, part), vec![0; rounded.len()]);
        layout.arrange(matrix.cols(), &rounded, &mut arranged);
        let (start, len) = (extent.len(), low_bit_bytes(rounded.len()));
        extent.resize(start + len.next_multiple_of(EXTENT_ALIGNMENT), 0);
        let target = &mut extent[start..][..len];
        layout.compress(matrix.cols(), &arranged, target);
        crc32fast::hash(target)
    }

    /// Adds a matrix of an expert and the zeros after it to an extent, and returns its CRC-32.
    fn arrange(&self, key: ExpertKey, part: Part, extent: &mut Vec<u8>) -> u32 {
        let layer = &self.weights.layers[key.layer];
        let matrix = layer.experts(part).expert(key.expert);
        let (start, len) = (extent.len(), matrix.bytes().len());
        extent.resize(start + len.next_multiple_of(EXTENT_ALIGNMENT), 0);
        let target = &mut extent[start..][..len];
        match expert_layout(layer, part) {
            Layout::Rows => target.copy_from_slice(matrix.bytes()),
            layout => layout.arrange(matrix.cols(), matrix.bytes(), target),
        }
        crc32fast::hash(target)
    }

    /// The tensor table.
    fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.dense.iter().map(Dense::entry).collect();
        for (number, layer) in self.weights.layers.iter().enumerate() {
            entries.push(self.extents(format!("blk.{number}.experts"), layer, |size| size));
        }
        for &number in &self.low_bit {
            let layer = &self.weights.layers[number];
            entries.push(self.extents(format!("blk.{number}.experts_tier2"), layer, low_bit_bytes));
        }
        entries
    }

    /// A tensor with something for each matrix of a layer's experts, of `size` for a matrix of so many
    /// bytes.
    fn extents(&self, name: String, layer: &Layer<'m>, size: impl Fn(usize) -> usize) -> Entry {
        let sizes = Part::ALL.map(|part| size(layer.experts(part).matrix_bytes()));
        let extent: usize = sizes.iter().map(|n| n.next_multiple_of(EXTENT_ALIGNMENT)).sum();
        let dims = vec![extent, self.config.experts];
        let bytes = extent as u64 * self.config.experts as u64;
        Entry { name, dims, number: I8, bytes }
    }

    fn metadata(&self, sums: &Checksums) -> Metadata {
        let keys = self.model.metadata();
        let mut metadata = Metadata::default();
        let mut alignment = None;
        for entry in keys.entries().filter(|entry| !entry.key.starts_with("split.")) {
            if entry.key == "general.alignment" {
                alignment = Some(keys.alignment() as u32);
                metadata.align(EXTENT_ALIGNMENT as u32);
            } else {
                metadata.value(entry.key, entry.value);
            }
        }
        if alignment.is_none() {
            metadata.align(EXTENT_ALIGNMENT as u32);
        }
        metadata.u32(Keys::VERSION, PACK_VERSION);
        if let Some(alignment) = alignment {
            metadata.u32(Keys::ALIGNMENT, alignment);
        }
        self.add_arrangement(&mut metadata);
        metadata.u32s(Keys::CHECKSUMS, &sums.tensors);
        metadata.u32s(Keys::EXPERT_CHECKSUMS, &sums.experts);
        if !self.low_bit.is_empty() {
            metadata.u32s(Keys::LOW_BIT_CHECKSUMS, &sums.low_bit);
        }
        metadata.seal(&self.entries());
        metadata
    }

    /// What stands where, and how.
    fn add_arrangement(&self, metadata: &mut Metadata) {
        let layers = &self.weights.layers;
        let each = || layers.iter().flat_map(|layer| Part::ALL.map(|part| (layer, part)));
        let formats: Vec<u32> = each().map(|(l, part)| l.experts(part).format().ggml()).collect();
        let arranged: Vec<&str> = each().map(|(l, part)| expert_layout(l, part).name()).collect();
        let by_neuron: Vec<bool> = layers.iter().map(Layer::is_by_neuron).collect();
        let names: Vec<&str> = self.model.tensors().map(|tensor| tensor.name()).collect();
        let mut layouts: Vec<&str> = self.dense.iter().map(|dense| dense.layout.name()).collect();
        layouts.resize(layouts.len() + layers.len(), Keys::EXPERTS);
        layouts.resize(layouts.len() + self.low_bit.len(), Keys::LOW_BIT);
        metadata.strings(Keys::TENSORS, &names);
        metadata.strings(Keys::LAYOUTS, &layouts);
        metadata.u32(Keys::WIDTH, self.config.expert_width as u32);
        metadata.u32s(Keys::EXPERT_FORMATS, &formats);
        metadata.strings(Keys::EXPERT_LAYOUTS, &arranged);
        metadata.bools(Keys::BY_NEURON, &by_neuron);
    }
}

impl<'m> Dense<'m> {
    fn new(
        tensor: Tensor<'m>,
        config: &Config,
        weights: &Weights<'m>,
        head_rows: HeadRows,
    ) -> Result<Dense<'m>, Error> {
        let Some(bytes) = tensor.bytes() else {
            let (name, number) = (tensor.name(), tensor.number());
            let message =
                format!("{name}: a type of known size expected, ggml type {number} found");
            return Err(Error::Input { message });
        };
        let name = TensorName::parse(tensor.name(), config.layers);
        let layout = name.map_or(Layout::Rows, |name| match name.layer {
            Some(_) => name.role.layout(),
            None => once_layout(name.role, head_rows, weights.is_tied()),
        });
        let matrices = matrices(&tensor, name.map(|name| name.role), bytes, weights);
        let fits = |format: Format| {
            let rows =
                |&(cols, bytes): &(usize, &[u8])| bytes.len() / format.row_bytes(cols).unwrap_or(1);
            matrices.iter().all(|matrix| layout.fits(format, rows(matrix), matrix.0))
        };
        let layout = if tensor.format().is_some_and(fits) { layout } else { Layout::Rows };
        Ok(Dense { tensor, layout, matrices })
    }

    fn entry(&self) -> Entry {
        let Dense { tensor, matrices, .. } = self;
        let bytes = matrices.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let (name, dims) = (tensor.name().into(), tensor.dims().as_slice().into());
        Entry { name, dims, number: tensor.number(), bytes }
    }

    /// Writes the arranged tensor and returns its CRC-32.
    fn write(
        &self,
        writer: &mut Writer,
        done: &mut impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<u32, Error> {
        let mut sum = crc32fast::Hasher::new();
        let mut arranged = Vec::new();
        for &(cols, bytes) in &self.matrices {
            for source in pieces(self.tensor.format(), self.layout, cols, bytes) {
                let target = match self.layout {
                    Layout::Rows => source,
                    layout => {
                        arranged.resize(source.len(), 0);
                        layout.arrange(cols, source, &mut arranged);
                        &arranged
                    }
                };
                sum.update(target);
                writer.write(target)?;
                break_off(done(source))?;
            }
        }
        Ok(sum.finalize())
    }
}

/// The matrices that a tensor with these bytes consists of, by their columns and bytes.
pub(crate) fn matrices<'m>(
    tensor: &Tensor<'m>,
    role: Option<Role>,
    bytes: &'m [u8],
    weights: &Weights<'m>,
) -> Vec<(usize, &'m [u8])> {
    match &weights.profiler {
        Some(profiler) if role == Some(Role::Profiler) => {
            [profiler.fc1, profiler.fc2].map(|matrix| (matrix.cols(), matrix.bytes())).into()
        }
        _ => vec![(tensor.dims().as_slice()[0], bytes)],
    }
}

/// A matrix in pieces that are arranged by themselves.
pub(crate) fn pieces(
    format: Option<Format>,
    layout: Layout,
    cols: usize,
    bytes: &[u8],
) -> impl Iterator<Item = &[u8]> {
    let row = format.and_then(|format| format.row_bytes(cols)).unwrap_or(1);
    let unit = row * layout.unit_rows(bytes.len() / row);
    bytes.chunks((PIECE / unit).max(1) * unit)
}

pub(crate) fn break_off(flow: ControlFlow<()>) -> Result<(), Error> {
    if flow.is_break() { Err(Error::Interrupted) } else { Ok(()) }
}
