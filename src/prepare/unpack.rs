//! Unpacking: the file that was packed.

use crate::dense::{Matrix, matrices, pieces};
use crate::ordered::break_off;
use crate::verify::{check_expert, check_tensor};
use crate::{Entry, Error, Metadata, Writer};
use std::ops::ControlFlow;
use std::path::Path;
use wick_core::{Config, ExpertKey, Part, Role, TensorName, Weights};
use wick_format::{Keys, Model, Overrides, Packed, Tensor};
use wick_kernels::Layout;

/// A packed model whose tensors are wanted as they were.
///
/// Tensors have the names, the order, the dimensions and the bytes of the file that was packed (the
/// experts' have three dimensions, and what came in parts is one file); the metadata are those of
/// the packed file without wick's.
pub struct Unpack<'a, 'm> {
    model: Model<'a, 'm>,
    packed: Packed<'a, 'm>,
    config: Config,
    weights: Weights<'m>,
    tensors: Vec<Source<'m>>,
}

/// What a tensor is made of.
enum Source<'m> {
    Dense { tensor: Tensor<'m>, index: usize, role: Option<Role> },
    Experts { name: &'m str, layer: usize, part: Part },
}

impl<'a, 'm> Unpack<'a, 'm> {
    /// A packed model to be unpacked.
    ///
    /// # Errors
    /// The model is not packed, or the file contradicts itself.
    pub fn new(model: Model<'a, 'm>) -> Result<Unpack<'a, 'm>, Error> {
        let refusal = |message: String| Error::Input { message };
        let packed = model.packed().ok_or_else(|| refusal("the file is not packed".into()))?;
        let config = model.config(Overrides::default())?;
        let weights = model.weights(&config)?;
        let mut tensors = Vec::new();
        for name in packed.tensors() {
            let name = str::from_utf8(name).unwrap_or_default();
            let found = model.tensors().enumerate().find(|(_, tensor)| tensor.name() == name);
            let known = TensorName::parse(name, config.layers);
            let role = known.map(|name| name.role);
            tensors.push(match (found, known.and_then(TensorName::experts)) {
                (Some((index, tensor)), None) => Source::Dense { tensor, index, role },
                (None, Some((layer, part))) => Source::Experts { name, layer, part },
                _ => {
                    let key = Keys::TENSORS;
                    return Err(refusal(format!("{key}: {name:?} is no tensor of the file")));
                }
            });
        }
        let dense = model.tensors().filter(|tensor| !packed.is_own(tensor)).count();
        let (found, expected) = (tensors.len(), dense + config.layers * Part::ALL.len());
        let mut names: Vec<&[u8]> = packed.tensors().collect();
        names.sort_unstable();
        names.dedup();
        if found != expected || names.len() != expected {
            let key = Keys::TENSORS;
            return Err(refusal(format!("{key}: {expected} names expected, {found} found")));
        }
        Ok(Unpack { model, packed, config, weights, tensors })
    }

    /// Bytes of tensors that are read.
    pub fn bytes(&self) -> u64 {
        self.entries().iter().map(|entry| entry.bytes).sum()
    }

    /// Writes the unpacked file to `path` and returns its size. `done` is told which bytes of the
    /// packed one are not needed any more, and may break off.
    ///
    /// # Errors
    /// The packed file is damaged, the other cannot be written, or was broken off; nothing is left
    /// behind then.
    pub fn write(
        &self,
        path: &Path,
        mut done: impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<u64, Error> {
        let mut writer = Writer::begin(path, &self.metadata(), &self.entries())?;
        for source in &self.tensors {
            match *source {
                Source::Dense { tensor, index, role } => {
                    check_tensor(&self.packed, &tensor, index).map_err(damaged)?;
                    self.write_dense(&tensor, role, &mut writer, &mut done)?
                }
                Source::Experts { layer, part, .. } => {
                    self.write_experts(layer, part, &mut writer, &mut done)?
                }
            }
        }
        let bytes = writer.bytes();
        writer.finish()?;
        Ok(bytes)
    }

    fn write_dense(
        &self,
        tensor: &Tensor<'m>,
        role: Option<Role>,
        writer: &mut Writer,
        done: &mut impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let layout = Layout::from_name(self.packed.layout_name(tensor.name()));
        let layout = layout.unwrap_or(Layout::Rows);
        let bytes = tensor.bytes().unwrap_or_default();
        let (format, dims) = (tensor.format(), tensor.dims());
        let all = matrices(role, format, dims.as_slice(), bytes.len(), &self.config);
        for Matrix { cols, bytes: matrix } in all {
            for piece in pieces(format, layout, cols, matrix) {
                let piece = &bytes[piece];
                write_restored(layout, cols, piece, writer)?;
                break_off(done(piece))?;
            }
        }
        Ok(())
    }

    fn write_experts(
        &self,
        layer: usize,
        part: Part,
        writer: &mut Writer,
        done: &mut impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let place = self.packed.layer(&self.config, layer)?;
        let matrices = self.weights.layers[layer].experts(part);
        for expert in 0..matrices.count() {
            let key = ExpertKey { layer, expert };
            let matrix = matrices.expert(expert);
            let expected = self.packed.checksum(key, part).unwrap_or_default();
            check_expert(expected, &place, key, part).map_err(damaged)?;
            write_restored(matrix.layout(), matrix.cols(), matrix.bytes(), writer)?;
            break_off(done(matrix.bytes()))?;
        }
        Ok(())
    }

    fn entries(&self) -> Vec<Entry> {
        let entry = |source: &Source<'m>| match *source {
            Source::Dense { tensor, .. } => Entry {
                name: tensor.name().into(),
                dims: tensor.dims().as_slice().into(),
                number: tensor.number(),
                bytes: tensor.bytes().map_or(0, |bytes| bytes.len() as u64),
            },
            Source::Experts { name, layer, part } => {
                let matrices = self.weights.layers[layer].experts(part);
                let dims = vec![matrices.cols(), matrices.rows(), matrices.count()];
                let (number, bytes) = (matrices.format().ggml(), matrices.size() as u64);
                Entry { name: name.into(), dims, number, bytes }
            }
        };
        self.tensors.iter().map(entry).collect()
    }

    fn metadata(&self) -> Metadata {
        let keys = self.model.metadata();
        let alignment = keys.get(Keys::ALIGNMENT).and_then(|entry| entry.u32().ok());
        let mut metadata = Metadata::default();
        for entry in keys.entries().filter(|entry| !entry.key.starts_with(Keys::PREFIX)) {
            match (entry.key, alignment) {
                ("general.alignment", Some(alignment)) => _ = metadata.align(alignment),
                ("general.alignment", None) => (),
                (key, _) => _ = metadata.value(key, entry.value),
            }
        }
        metadata
    }
}

/// Writes a matrix, or a piece of one, as GGUF stores it.
fn write_restored(
    layout: Layout,
    cols: usize,
    bytes: &[u8],
    writer: &mut Writer,
) -> Result<(), Error> {
    if layout == Layout::Rows {
        return writer.write(bytes);
    }
    let mut rows = vec![0; bytes.len()];
    layout.restore(cols, bytes, &mut rows);
    writer.write(&rows)
}

fn damaged(damage: impl std::fmt::Display) -> Error {
    Error::Input { message: damage.to_string() }
}
