//! Weights in safetensors files, of which there may be several.

use crate::Error;
use crate::new_tensor::Source;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use wick_kernels::Format;

/// The tensors of all shards, by name.
#[derive(Debug)]
pub struct Checkpoint<'m> {
    tensors: HashMap<String, Stored<'m>>,
}

/// A tensor of a shard.
#[derive(Debug)]
struct Stored<'m> {
    shard: &'m str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'m [u8],
}

impl<'m> Checkpoint<'m> {
    /// Reads the tables of shards, each by its name and bytes.
    ///
    /// # Errors
    /// A shard is no safetensors file, is cut off, or has a tensor that another one has, too.
    pub fn parse(
        shards: impl IntoIterator<Item = (&'m str, &'m [u8])>,
    ) -> Result<Checkpoint<'m>, Error> {
        let mut tensors = HashMap::new();
        for (shard, file) in shards {
            let refuse = |message: String| Error::Input { message: format!("{shard}: {message}") };
            let parsed =
                SafeTensors::deserialize(file).map_err(|error| refuse(reason(&error, file)))?;
            for (name, view) in parsed.iter() {
                let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data());
                let stored = Stored { shard, dtype, shape, bytes };
                if let Some(other) = tensors.insert(name.to_owned(), stored) {
                    return Err(refuse(format!("{name}: is in {}, too", other.shard)));
                }
            }
        }
        Ok(Checkpoint { tensors })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The names of all tensors, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names.into_iter()
    }

    pub(crate) fn format_of(&self, name: &str) -> Result<Format, String> {
        self.find(name)?.format(name)
    }

    pub(crate) fn shape_of(&self, name: &str) -> Result<&[usize], String> {
        Ok(&self.find(name)?.shape)
    }

    /// A tensor of these sizes, rows first.
    pub(crate) fn take(&self, name: &str, expected: &[usize]) -> Result<Source<'m>, String> {
        let stored = self.find(name)?;
        if stored.shape != expected {
            let (expected, found) = (sizes(expected), sizes(&stored.shape));
            return Err(format!(
                "{name}: {expected} weights expected by config.json, {found} found"
            ));
        }
        Ok(Source { format: stored.format(name)?, bytes: stored.bytes })
    }

    fn find(&self, name: &str) -> Result<&Stored<'m>, String> {
        let missing =
            || format!("{name}: in none of the safetensors files; is one of them missing?");
        self.tensors.get(name).ok_or_else(missing)
    }
}

impl Stored<'_> {
    fn format(&self, name: &str) -> Result<Format, String> {
        match self.dtype {
            Dtype::F32 => Ok(Format::F32),
            Dtype::F16 => Ok(Format::F16),
            Dtype::BF16 => Ok(Format::BF16),
            other => Err(format!(
                "{name}: BF16, F16 or F32 expected, {other:?} found (in {})",
                self.shard
            )),
        }
    }
}

/// What is wrong with a file.
fn reason(error: &safetensors::SafeTensorError, file: &[u8]) -> String {
    let size = file.len();
    format!("a safetensors file expected: {error} ({size} bytes found; download it again)")
}

/// Sizes as they are written: `320 x 32`.
fn sizes(sizes: &[usize]) -> String {
    let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
    sizes.join(" x ")
}
