//! A model: one file, or the parts of a split one.

use core::fmt::Write;

use heapless::String;

use crate::error::Error;
use crate::gguf::Gguf;
use crate::name::TensorName;
use crate::packed::{self, Packed};
use crate::split;
use crate::tensor::{MAX_NAME, Tensor};

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
            let experts = packed && packed::is_extents(tensor);
            !experts && TensorName::parse(tensor.name(), layers).is_none()
        })
    }

    pub(crate) fn find(&self, name: TensorName) -> Option<Tensor<'m>> {
        let mut written = String::<MAX_NAME>::new();
        write!(written, "{name}").ok()?;
        self.tensor(&written)
    }

    pub(crate) fn need(&self, tensor: TensorName) -> Result<Tensor<'m>, Error<'m>> {
        self.find(tensor).ok_or(Error::MissingTensor { tensor })
    }
}
