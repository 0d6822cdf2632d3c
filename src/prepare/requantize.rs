//! The same model in other formats.

use crate::importance::Importances;
use crate::new_model::Stored;
use crate::new_tensor::{NewTensor, Source};
use crate::{Error, Metadata, NewModel, Tensor, file_type};
use wick_core::{Layer, Role, TensorName};
use wick_format::{Model, Overrides};
use wick_kernels::Format;

/// Which format each matrix is to have. Norms, the router and PowerInfer's predictor stay as they are.
#[derive(Clone, Copy, Debug)]
pub struct FormatRule {
    /// Of matrices, one of [`QUANTIZABLE`](crate::QUANTIZABLE).
    pub format: Format,
    /// Of the LM head, or of the embedding that does its work; as llama.cpp has it if that is not said: Q6_K where
    /// matrices are Q4_0, else the format of all.
    pub lm_head: Option<Format>,
    /// Whether the LM head has the format of all matrices unless it is said.
    pub is_pure: bool,
}

impl FormatRule {
    /// The format of a tensor with rows of `cols` weights, in a model whose embedding is its LM head or not; `None` for
    /// those whose weights are stored one by one, and the predictor.
    ///
    /// Where rows are no whole number of blocks, Q8_0 stands in place of Q6_K, and F16 in place of the others, as in
    /// llama.cpp.
    pub(crate) fn of(&self, role: Role, cols: usize, is_tied: bool) -> Option<Format> {
        if role.is_plain() || role == Role::Profiler {
            return None;
        }
        let is_lm_head = role == Role::LmHead || role == Role::Embedding && is_tied;
        let wanted = match (is_lm_head, self.lm_head) {
            (true, Some(format)) => format,
            (true, None) if self.format == Format::Q4_0 && !self.is_pure => Format::Q6_K,
            _ => self.format,
        };
        let fits = |format: &Format| format.row_bytes(cols).is_some();
        let instead = if wanted == Format::Q6_K { Format::Q8_0 } else { Format::F16 };
        [wanted, instead, Format::F16].into_iter().find(fits)
    }
}

/// A model with its matrices in the formats of a rule, whose rounding may go by an importance of weights. Blocks are
/// bit-equal to llama.cpp's.
///
/// # Errors
/// The model is packed, or none that wick runs; the importance is of another one.
pub fn requantize<'m>(
    model: Model<'_, 'm>,
    rule: FormatRule,
    importances: Option<&Importances>,
) -> Result<NewModel<'m>, Error> {
    if model.packed().is_some() {
        let message = "the file is packed; unpack it first (wick unpack)";
        return Err(Error::Input { message: message.into() });
    }
    let shape = Stored::of(model)?;
    if let Some(importances) = importances {
        importances.check_any(model.tensors().map(|tensor| tensor.name()))?;
    }
    let Stored { config, is_tied, .. } = shape;
    let tensors = model.tensors().map(|tensor| {
        let name = TensorName::parse(tensor.name(), config.layers);
        let cols = tensor.dims().as_slice()[0];
        let to = name.and_then(|name| rule.of(name.role, cols, is_tied));
        let is_of_experts = name.is_some_and(|name| name.experts().is_some());
        let count = if is_of_experts { config.experts } else { 1 };
        new_tensor(&tensor, to, count, importances)
    });
    let tensors = tensors.collect::<Result<Vec<NewTensor<'m>>, Error>>()?;
    let mut metadata =
        copied(&model, |key| !file_type::KEYS.contains(&key) && !key.starts_with("quantize."));
    file_type::describe(rule.format, &mut metadata);
    if let Some(importances) = importances {
        importances.describe(&mut metadata);
    }
    Ok(NewModel { metadata, tensors, shape })
}

/// A tensor of so many matrices, in a format or as it is.
fn new_tensor<'m>(
    tensor: &wick_format::Tensor<'m>,
    to: Option<Format>,
    count: usize,
    importances: Option<&Importances>,
) -> Result<NewTensor<'m>, Error> {
    let to = to.filter(|to| tensor.format() != Some(*to));
    let (Some(to), Some(from), Some(bytes)) = (to, tensor.format(), tensor.bytes()) else {
        return kept(tensor);
    };
    let dims = tensor.dims().as_slice().to_vec();
    let importance = importances.map(|all| all.of(tensor.name(), dims[0], count)).transpose()?;
    let matrices = bytes.chunks_exact(bytes.len() / count);
    let matrices = matrices.map(|bytes| Source { format: from, bytes }).collect();
    let tensor = Tensor { name: tensor.name().into(), format: to, dims };
    NewTensor::rounded(&tensor, matrices, importance.flatten())
}

/// A tensor as it is.
fn kept<'m>(tensor: &wick_format::Tensor<'m>) -> Result<NewTensor<'m>, Error> {
    let (name, number) = (tensor.name(), tensor.number());
    let message = || format!("{name}: a type of known size expected, ggml type {number} found");
    NewTensor::kept(tensor).ok_or_else(|| Error::Input { message: message() })
}

/// Metadata of a model that becomes one file, in their order, but for keys that are not kept.
fn copied(model: &Model<'_, '_>, is_kept: impl Fn(&str) -> bool) -> Metadata {
    let keys = model.metadata();
    let mut metadata = Metadata::default();
    let is_kept = |key: &str| !key.starts_with("split.") && is_kept(key);
    for entry in keys.entries().filter(|entry| is_kept(entry.key)) {
        match entry.key {
            "general.alignment" => _ = metadata.align(keys.alignment() as u32),
            key => _ = metadata.value(key, entry.value),
        }
    }
    metadata
}

impl<'m> NewModel<'m> {
    /// A model as it is, in one file.
    ///
    /// # Errors
    /// It is none that wick runs.
    pub(crate) fn of(model: Model<'_, 'm>) -> Result<NewModel<'m>, Error> {
        let shape = Stored::of(model)?;
        let tensors = model.tensors().map(|tensor| kept(&tensor)).collect::<Result<_, Error>>()?;
        Ok(NewModel { metadata: copied(&model, |_| true), tensors, shape })
    }
}

impl Stored {
    /// That of a model in a file.
    ///
    /// # Errors
    /// It is none that wick runs.
    fn of(model: Model<'_, '_>) -> Result<Stored, Error> {
        let config = model.config(Overrides::default())?;
        let weights = model.weights(&config)?;
        let by_neuron = weights.layers.iter().map(Layer::is_by_neuron).collect();
        Ok(Stored { config, is_tied: weights.is_tied(), by_neuron })
    }
}
