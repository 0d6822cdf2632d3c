//! Packing: a model's file with its weights arranged for the kernels.
//!
//! `src/format/README.md` draws a packed file.

use crate::dense::Dense;
use crate::gguf::seal;
use crate::low_bit::round_to_low_bits;
use crate::new_model::{NewModel, Stored};
use crate::new_tensor::NewTensor;
use crate::ordered::write_in_order;
use crate::sketch::Sketch;
use crate::{Entry, Error, Metadata, Writer};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use wick_core::{
    Config, ExpertKey, HeadRows, Parallel, Part, Role, Serial, TensorName, expert_layout_of,
};
use wick_format::{EXTENT_ALIGNMENT, I8, Keys, MAX_TENSORS, Model, PACK_VERSION};
use wick_kernels::{Format, Layout, low_bit_bytes};

/// A model to be packed.
pub struct Pack<'a, 'm> {
    new: NewModel<'m>,
    dense: Vec<Dense>,
    /// What is drawn of the LM head, where rows are chosen by that.
    sketch: Option<Sketch>,
    /// Of each layer, the number of the tensor that has each matrix of its experts.
    experts: Vec<[usize; Part::ALL.len()]>,
    /// Layers whose experts get low-bit copies.
    low_bit: Vec<usize>,
    parallel: &'a dyn Parallel,
}

/// Checksums, in the order of the file.
#[derive(Clone)]
struct Checksums {
    tensors: Vec<u32>,
    experts: Vec<u32>,
    low_bit: Vec<u32>,
}

/// The same matrix of all experts of a layer.
struct Matrices<'p, 'm> {
    tensor: &'p NewTensor<'m>,
    format: Format,
    layout: Layout,
    cols: usize,
    /// Bytes of one.
    size: usize,
}

impl Matrices<'_, '_> {
    /// Where an expert's stands in the tensor.
    fn range(&self, expert: usize) -> Range<usize> {
        expert * self.size..(expert + 1) * self.size
    }
}

impl<'a, 'm> Pack<'a, 'm> {
    /// A model to be packed for `head_rows`.
    ///
    /// # Errors
    /// The model is packed already, has not what these rows need, or is none that wick runs.
    pub fn new(model: Model<'_, 'm>, head_rows: HeadRows) -> Result<Pack<'a, 'm>, Error> {
        if model.packed().is_some() {
            return Err(Error::Input { message: "the file is packed already".into() });
        }
        Pack::of(NewModel::of(model)?, head_rows)
    }

    /// The same of a model that is still to be made.
    ///
    /// # Errors
    /// The model has not what these rows need, or wick does not run it.
    pub fn of(new: NewModel<'m>, head_rows: HeadRows) -> Result<Pack<'a, 'm>, Error> {
        let refusal = |message: String| Error::Input { message };
        let Stored { config, is_tied, .. } = &new.shape;
        let number = |name: TensorName| {
            let name = name.to_string();
            let found = new.tensors.iter().position(|tensor| tensor.entry().name == name);
            found.ok_or_else(|| refusal(format!("{name}: missing")))
        };
        let has_profiler = number(TensorName::once(Role::Profiler)).is_ok();
        let checked = head_rows.check_shape(has_profiler, config.vocab, config.hidden);
        checked.map_err(|e| refusal(e.to_string()))?;
        let experts = |layer| {
            let [gate, up, down] = Part::ALL.map(|p| number(TensorName::of_layer(layer, p.role())));
            Ok([gate?, up?, down?])
        };
        let experts = (0..config.layers).map(experts).collect::<Result<Vec<_>, Error>>()?;
        let is_dense = |number: &usize| !experts.iter().flatten().any(|other| other == number);
        let dense = (0..new.tensors.len()).filter(is_dense);
        let dense = dense.map(|i| Dense::new(i, &new.tensors[i], config, *is_tied, head_rows));
        let dense = dense.collect();
        let lm_head = if *is_tied { Role::Embedding } else { Role::LmHead };
        let lm_head = number(TensorName::once(lm_head))?;
        let format = new.tensors[lm_head].format().filter(|_| head_rows == HeadRows::Coarse);
        let sketch = format.map(|format| Sketch::new(lm_head, format, config.vocab, config.hidden));
        let pack = Pack { new, dense, sketch, experts, low_bit: Vec::new(), parallel: &Serial };
        pack.check_entries()?;
        Ok(pack)
    }

    /// The same, with low-bit copies of the experts of every layer whose experts are all Q4_0.
    ///
    /// # Errors
    /// There is no such layer.
    pub fn with_low_bit(mut self) -> Result<Pack<'a, 'm>, Error> {
        let is_q4_0 = |layer: &usize| {
            Part::ALL.into_iter().all(|part| self.matrices(*layer, part).format == Format::Q4_0)
        };
        let layers: Vec<usize> = (0..self.config().layers).filter(is_q4_0).collect();
        if layers.is_empty() {
            let message = "low-bit copies: a layer expected whose experts are all Q4_0, none found";
            return Err(Error::Input { message: message.into() });
        }
        self.low_bit = layers;
        self.check_entries()?;
        Ok(self)
    }

    /// The same, made by these threads. The file has the same bytes for any number of them.
    pub fn with_threads(self, parallel: &'a dyn Parallel) -> Pack<'a, 'm> {
        Pack { parallel, ..self }
    }

    fn check_entries(&self) -> Result<(), Error> {
        let entries = self.entry_count();
        if entries > MAX_TENSORS {
            let message = format!("at most {MAX_TENSORS} tensors expected, {entries} found");
            return Err(Error::Input { message });
        }
        Ok(())
    }

    /// Entries of the tensor table.
    fn entry_count(&self) -> usize {
        let sections = usize::from(self.sketch.is_some());
        self.dense.len() + self.config().layers + self.low_bit.len() + sections
    }

    /// Bytes of weights that are read; of experts twice if there are to be low-bit copies of them, as of an LM head
    /// that there is to be a sketch of.
    pub fn bytes(&self) -> u64 {
        let layers = self.low_bit.iter().flat_map(|&layer| self.experts[layer]);
        let again = layers.chain(self.sketch.as_ref().map(|sketch| sketch.number));
        let again: u64 = again.map(|number| self.new.tensors[number].source_bytes()).sum();
        self.new.source_bytes() + again
    }

    /// Number of tensors that every token may need.
    pub fn dense_tensors(&self) -> usize {
        self.dense.len()
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.new.shape.config
    }

    /// Writes the packed file to `path` and returns its size. `done` is told which bytes of the
    /// input are not needed any more, and may break off.
    ///
    /// # Errors
    /// A weight cannot be rounded; the file cannot be written, or was broken off; nothing is left behind then.
    pub fn write(
        &self,
        path: &Path,
        mut done: impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<u64, Error> {
        let &Config { layers, experts, .. } = self.config();
        let mut sums = Checksums {
            tensors: vec![0; self.entry_count()],
            experts: vec![0; layers * experts * Part::ALL.len()],
            low_bit: vec![0; layers * experts * Part::ALL.len()],
        };
        let mut writer = Writer::begin_rewritable(path, &self.metadata(&sums), &self.entries())?;
        for (dense, sum) in self.dense.iter().zip(&mut sums.tensors) {
            let tensor = &self.new.tensors[dense.number];
            *sum = dense.write(tensor, self.parallel, &mut writer, &mut done)?;
        }
        let all: Vec<usize> = (0..layers).collect();
        let arrange = |key, part, extent: &mut Vec<u8>| self.arrange(key, part, extent);
        self.write_extents(&all, arrange, &mut sums.experts, &mut writer, &mut done)?;
        let compress = |key, part, extent: &mut Vec<u8>| self.compress(key, part, extent);
        self.write_extents(&self.low_bit, compress, &mut sums.low_bit, &mut writer, &mut done)?;
        if let (Some(sketch), Some(sum)) = (&self.sketch, sums.tensors.last_mut()) {
            let matrix = &self.new.tensors[sketch.number];
            *sum = sketch.write(matrix, self.parallel, &mut writer, &mut done)?;
        }
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
        add: impl Fn(ExpertKey, Part, &mut Vec<u8>) -> Result<u32, Error> + Sync,
        sums: &mut [u32],
        writer: &mut Writer,
        done: &mut impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let experts = self.config().experts;
        let keys = |&layer: &usize| (0..experts).map(move |expert| ExpertKey { layer, expert });
        let keys: Vec<ExpertKey> = layers.iter().flat_map(keys).collect();
        let make = |&key: &ExpertKey| {
            let (mut extent, mut sums) = (Vec::new(), [0; Part::ALL.len()]);
            for (part, sum) in Part::ALL.into_iter().zip(&mut sums) {
                *sum = add(key, part, &mut extent)?;
            }
            Ok((extent, sums))
        };
        write_in_order(&keys, self.parallel, writer, make, |&key, _, found| {
            let first = (key.layer * experts + key.expert) * Part::ALL.len();
            sums[first..][..Part::ALL.len()].copy_from_slice(&found);
            let matrices = Part::ALL.map(|part| self.matrices(key.layer, part));
            let read = |m: &Matrices<'_, 'm>| m.tensor.sources(m.range(key.expert));
            matrices.iter().flat_map(read).try_for_each(&mut *done)
        })
    }

    /// A matrix of all experts of a layer.
    fn matrices(&self, layer: usize, part: Part) -> Matrices<'_, 'm> {
        let number = Part::ALL.iter().position(|other| *other == part).unwrap_or_default();
        let tensor = &self.new.tensors[self.experts[layer][number]];
        let Stored { config, by_neuron, .. } = &self.new.shape;
        let shape = part.role().shape_in(config, by_neuron[layer]);
        let format = tensor.format().unwrap_or(Format::F32);
        let (rows, cols) = (shape.rows(), shape.cols());
        let layout = expert_layout_of(part, by_neuron[layer], format, rows, cols);
        let size = tensor.entry().bytes as usize / config.experts;
        Matrices { tensor, format, layout, cols, size }
    }

    /// Adds the low-bit copy of a matrix of an expert and the zeros after it to an extent, and returns
    /// its CRC-32.
    fn compress(&self, key: ExpertKey, part: Part, extent: &mut Vec<u8>) -> Result<u32, Error> {
        let matrices = self.matrices(key.layer, part);
        let mut rounded = matrices.tensor.bytes(matrices.range(key.expert))?.into_owned();
        round_to_low_bits(&mut rounded);
        let (layout, mut arranged) = (matrices.layout, vec![0; rounded.len()]);
        layout.arrange(matrices.cols, &rounded, &mut arranged);
        let target = extend(extent, low_bit_bytes(rounded.len()));
        layout.compress(matrices.cols, &arranged, target);
        Ok(crc32fast::hash(target))
    }

    /// Adds a matrix of an expert and the zeros after it to an extent, and returns its CRC-32.
    fn arrange(&self, key: ExpertKey, part: Part, extent: &mut Vec<u8>) -> Result<u32, Error> {
        let matrices = self.matrices(key.layer, part);
        let bytes = matrices.tensor.bytes(matrices.range(key.expert))?;
        let target = extend(extent, bytes.len());
        match matrices.layout {
            Layout::Rows => target.copy_from_slice(&bytes),
            layout => layout.arrange(matrices.cols, &bytes, target),
        }
        Ok(crc32fast::hash(target))
    }

    /// The tensor table.
    fn entries(&self) -> Vec<Entry> {
        let dense = self.dense.iter().map(|dense| self.new.tensors[dense.number].entry().clone());
        let mut entries: Vec<Entry> = dense.collect();
        for layer in 0..self.config().layers {
            entries.push(self.extents(format!("blk.{layer}.experts"), layer, |size| size));
        }
        for &layer in &self.low_bit {
            let name = format!("blk.{layer}.experts_tier2");
            entries.push(self.extents(name, layer, low_bit_bytes));
        }
        entries.extend(self.sketch.as_ref().map(Sketch::entry));
        entries
    }

    /// A tensor with something for each matrix of a layer's experts, of `size` for a matrix of so many
    /// bytes.
    fn extents(&self, name: String, layer: usize, size: impl Fn(usize) -> usize) -> Entry {
        let sizes = Part::ALL.map(|part| size(self.matrices(layer, part).size));
        let extent: usize = sizes.iter().map(|n| n.next_multiple_of(EXTENT_ALIGNMENT)).sum();
        let experts = self.config().experts;
        let bytes = extent as u64 * experts as u64;
        Entry { name, dims: vec![extent, experts], number: I8, bytes }
    }

    fn metadata(&self, sums: &Checksums) -> Metadata {
        let mut metadata = self.new.metadata.clone();
        let alignment = metadata.realign(EXTENT_ALIGNMENT as u32);
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
        seal(&mut metadata, &self.entries());
        metadata
    }

    /// What stands where, and how.
    fn add_arrangement(&self, metadata: &mut Metadata) {
        let Stored { config, by_neuron, .. } = &self.new.shape;
        let of_layer = |layer| Part::ALL.map(|part| self.matrices(layer, part));
        let each = || (0..config.layers).flat_map(of_layer);
        let formats: Vec<u32> = each().map(|matrices| matrices.format.ggml()).collect();
        let arranged: Vec<&str> = each().map(|matrices| matrices.layout.name()).collect();
        let names: Vec<&str> = self.new.tensors.iter().map(|t| t.entry().name.as_str()).collect();
        let mut layouts: Vec<&str> = self.dense.iter().map(|dense| dense.layout.name()).collect();
        layouts.resize(layouts.len() + config.layers, Keys::EXPERTS);
        layouts.resize(layouts.len() + self.low_bit.len(), Keys::LOW_BIT);
        layouts.resize(self.entry_count(), Keys::SECTION);
        metadata.strings(Keys::TENSORS, &names);
        metadata.strings(Keys::LAYOUTS, &layouts);
        metadata.u32(Keys::WIDTH, config.expert_width as u32);
        metadata.u32s(Keys::EXPERT_FORMATS, &formats);
        metadata.strings(Keys::EXPERT_LAYOUTS, &arranged);
        metadata.bools(Keys::BY_NEURON, by_neuron);
    }
}

/// Makes an extent longer by so many bytes, which it returns, and by the zeros after them.
fn extend(extent: &mut Vec<u8>, len: usize) -> &mut [u8] {
    let start = extent.len();
    extent.resize(start + len.next_multiple_of(EXTENT_ALIGNMENT), 0);
    &mut extent[start..][..len]
}
