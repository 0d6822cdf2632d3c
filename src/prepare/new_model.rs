//! A model's file to be written, whatever its weights are made of.

use crate::new_tensor::NewTensor;
use crate::{Entry, Error, Metadata, Writer};
use std::ops::ControlFlow;
use std::path::Path;
use wick_core::{Config, Parallel};
use wick_kernels::Format;

/// A model's file to be written: its metadata, and its tensors with what they are made of.
#[derive(Debug)]
pub struct NewModel<'m> {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<NewTensor<'m>>,
    pub(crate) shape: Stored,
}

/// The shape of a model, and how a file stores it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) config: Config,
    /// Whether the embedding is the LM head, too.
    pub(crate) is_tied: bool,
    /// Of each layer, whether downs have a row for each neuron.
    pub(crate) by_neuron: Vec<bool>,
}

impl<'m> NewModel<'m> {
    /// Bytes of weights that are read.
    pub fn source_bytes(&self) -> u64 {
        self.tensors.iter().map(NewTensor::source_bytes).sum()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.entry().bytes).sum()
    }

    /// Number of weights.
    pub fn weights(&self) -> u64 {
        let dims = self.tensors.iter().map(|tensor| &tensor.entry().dims);
        dims.map(|dims| dims.iter().product::<usize>() as u64).sum()
    }

    /// Number of tensors.
    pub fn tensors(&self) -> usize {
        self.tensors.len()
    }

    /// A format in blocks whose weights are rounded to blocks again, if there is one: they lose twice.
    pub fn rounded_twice(&self) -> Option<Format> {
        self.tensors.iter().find_map(NewTensor::rounded_twice)
    }

    /// Writes the file to `path` and returns its size: several threads round a few rows at a time, so memory
    /// stays small. `done` is told which bytes of the input are not needed any more, and may break off.
    ///
    /// # Errors
    /// A weight is not finite or too large for its format; the file cannot be written, or was broken off.
    /// Nothing is left behind then.
    pub fn write(
        &self,
        path: &Path,
        parallel: &dyn Parallel,
        mut done: impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<u64, Error> {
        let entries: Vec<Entry> = self.tensors.iter().map(|t| t.entry().clone()).collect();
        let mut writer = Writer::begin(path, &self.metadata, &entries)?;
        for tensor in &self.tensors {
            tensor.write(&mut writer, parallel, &mut done)?;
        }
        let bytes = writer.bytes();
        writer.finish()?;
        Ok(bytes)
    }
}
