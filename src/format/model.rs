//! A model: one file, or the parts of a split one.

use core::fmt::Write;

use heapless::String;
use wick_core::{Config, Location, Part, TensorName};

use crate::error::Error;
use crate::gguf::Gguf;
use crate::packed::{self, Packed};
use crate::split;
use crate::tensor::{MAX_NAME, Tensor};
use crate::types::GgmlType;

/// All files of a model. The first has the metadata; each tensor is in one of them.
#[derive(Clone, Copy)]
pub struct Model<'a, 'm> {
    files: &'a [Gguf<'m>],
    packed: Option<Packed<'a, 'm>>,
}

impl<'a, 'm> Model<'a, 'm> {
    /// The model in `files`: one whole file, or all parts of a split model in order.
    ///
    /// # Errors
    /// A part is missing, out of order or of another model, or the file is packed in a way that is
    /// not read.
    pub fn new(files: &'a [Gguf<'m>]) -> Result<Model<'a, 'm>, Error<'m>> {
        split::check(files)?;
        let packed = Packed::read(&files[0])?;
        if let Some(packed) = packed.filter(|_| files.len() > 1) {
            return Err(packed.refuse_parts());
        }
        Ok(Model { files, packed })
    }

    /// The file with the metadata.
    pub fn metadata(&self) -> &'a Gguf<'m> {
        &self.files[0]
    }

    /// The files, in order.
    pub fn files(&self) -> &'a [Gguf<'m>] {
        self.files
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.file_len() as usize).sum()
    }

    /// How the model is packed, if it is.
    pub fn packed(&self) -> Option<Packed<'a, 'm>> {
        self.packed
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'m>> {
        self.files.iter().find_map(|file| file.tensor(name))
    }

    /// All tensors, file by file in the order of the tables.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'m>> {
        self.files.iter().flat_map(Gguf::tensors)
    }

    /// Tensors that a model of `layers` layers does not use.
    pub fn unused(&self, layers: usize) -> impl Iterator<Item = Tensor<'m>> {
        let packed = self.packed.is_some();
        self.tensors().filter(move |tensor| {
            let is_own = packed && packed::is_own(tensor);
            !is_own && TensorName::parse(tensor.name(), layers).is_none()
        })
    }

    /// Refuses tensors that would have a part in what a model of `layers` layers computes, if wick knew
    /// them. Others are harmless: those of layers that the model has not, integers, factors of RoPE
    /// frequencies (which llama.cpp does not use for SmallThinker either).
    pub(crate) fn refuse_unknown(&self, layers: usize) -> Result<(), Error<'m>> {
        let takes_part = |tensor: &Tensor<'m>| {
            let is_weight = !GgmlType(tensor.number()).is_integer();
            is_weight && TensorName::is_within(tensor.name(), layers)
        };
        match self.unused(layers).find(takes_part) {
            Some(tensor) => Err(Error::UnknownTensor { name: tensor.name() }),
            None => Ok(()),
        }
    }

    /// Whether any layer has a tensor of experts.
    pub(crate) fn has_experts(&self, layers: usize) -> bool {
        let name = |tensor: Tensor<'_>| TensorName::parse(tensor.name(), layers);
        self.packed.is_some()
            || self.tensors().filter_map(name).any(|name| name.experts().is_some())
    }

    /// Where a tensor lies, whether its bytes are at hand or not; of a packed file also each of the
    /// experts' matrices.
    ///
    /// # Errors
    /// The tensor is missing or of an unknown size, or a packed file contradicts itself or the shape.
    pub fn location(&self, config: &Config, tensor: TensorName) -> Result<Location, Error<'m>> {
        if let (Some(packed), Some((layer, part))) = (self.packed, tensor.experts()) {
            return Ok(packed.layer(config, layer)?.location(part));
        }
        let mut found =
            (0..).zip(self.files).filter_map(|(i, file)| Some((i, find(file, tensor)?)));
        let (file, found) = found.next().ok_or(Error::MissingTensor { tensor })?;
        let number = found.number();
        let range = found.range().ok_or(Error::Format { tensor, number })?;
        let stride = (range.len() / tensor.role.shape(config).count().max(1)) as u64;
        Ok(Location { file, offset: range.start as u64, stride })
    }

    /// Where gate, up and down of a layer's experts lie.
    ///
    /// # Errors
    /// As [`Model::location`].
    pub fn expert_locations(
        &self,
        config: &Config,
        layer: usize,
    ) -> Result<[Location; 3], Error<'m>> {
        if let Some(packed) = self.packed {
            return Ok(packed.layer(config, layer)?.locations());
        }
        let [gate, up, down] =
            Part::ALL.map(|part| self.location(config, TensorName::of_layer(layer, part.role())));
        Ok([gate?, up?, down?])
    }

    pub(crate) fn find(&self, tensor: TensorName) -> Option<Tensor<'m>> {
        self.files.iter().find_map(|file| find(file, tensor))
    }

    pub(crate) fn need(&self, tensor: TensorName) -> Result<Tensor<'m>, Error<'m>> {
        self.find(tensor).ok_or(Error::MissingTensor { tensor })
    }
}

fn find<'m>(file: &Gguf<'m>, tensor: TensorName) -> Option<Tensor<'m>> {
    let mut name = String::<MAX_NAME>::new();
    write!(name, "{tensor}").ok()?;
    file.tensor(&name)
}
