//! Published weights (Hugging Face's safetensors, with their configuration and tokenizer) as a GGUF file.

mod checkpoint;
mod config;
mod json;
mod names;
mod predictor;
mod shards;
mod template;
mod texts;
mod tokens;

pub use checkpoint::Checkpoint;
pub use predictor::Predictor;
pub use shards::shards;
pub use texts::Texts;

use crate::new_model::Stored;
use crate::new_tensor::NewTensor;
use crate::{Error, FormatRule, Metadata, NewModel, Tensor, model_keys};
use config::Description;
use std::collections::HashSet;
use wick_core::{Role, TensorName};
use wick_kernels::Format;

/// Which format each matrix is to have: one that is said, or that of the embedding in the checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct ConvertRule {
    /// Of matrices, one of [`QUANTIZABLE`](crate::QUANTIZABLE).
    pub format: Option<Format>,
    /// As [`FormatRule::lm_head`].
    pub lm_head: Option<Format>,
    /// As [`FormatRule::is_pure`].
    pub is_pure: bool,
}

/// A model with the weights of a checkpoint, called `name`.
///
/// Norms and the router are F32. Experts are stacked, one after the other; the vocabulary is padded to the
/// embedding's rows. Everything that the file cannot say, such as another layout of windows, is an error.
///
/// # Errors
/// A text says what no SmallThinker model has, or contradicts another one or the weights; a tensor is missing, too many,
/// or of another type or shape.
pub fn convert<'m>(
    name: &str,
    texts: &Texts,
    checkpoint: &Checkpoint<'m>,
    predictor: Option<&Predictor<'m>>,
    rule: ConvertRule,
) -> Result<NewModel<'m>, Error> {
    let refuse = |message: String| Error::Input { message };
    let description = texts.describe().map_err(refuse)?;
    let mut conversion = Conversion { description, checkpoint, used: HashSet::new() };
    let own_lm_head = conversion.has_own_lm_head().map_err(refuse)?;
    let stored = checkpoint.format_of(names::EMBEDDING).map_err(refuse)?;
    let format = rule.format.unwrap_or(stored);
    let rule = FormatRule { format, lm_head: rule.lm_head, is_pure: rule.is_pure };
    let mut tensors = Vec::new();
    for name in TensorName::all(conversion.description.config.layers) {
        match (name.role, predictor) {
            (Role::LmHead, _) if !own_lm_head => (),
            (Role::Profiler, None) => (),
            (Role::Profiler, Some(given)) => {
                tensors.push(given.tensor(&conversion.description.config, format)?)
            }
            _ => tensors.push(conversion.tensor(name, &rule, !own_lm_head)?),
        }
    }
    conversion.check_all_used(own_lm_head).map_err(refuse)?;
    let metadata = conversion.metadata(name, texts, format).map_err(refuse)?;
    let config = conversion.description.config;
    let shape = Stored { config, is_tied: !own_lm_head, by_neuron: vec![false; config.layers] };
    Ok(NewModel { metadata, tensors, shape })
}

/// A checkpoint on its way.
struct Conversion<'c, 'm> {
    description: Description,
    checkpoint: &'c Checkpoint<'m>,
    /// Tensors of the checkpoint that have a place in the file.
    used: HashSet<String>,
}

impl<'m> Conversion<'_, 'm> {
    /// Whether the LM head is another matrix than the embedding.
    fn has_own_lm_head(&self) -> Result<bool, String> {
        let found = self.checkpoint.has(names::LM_HEAD);
        match self.description.is_tied {
            Some(false) if !found => Err(format!(
                "{}: missing, although config.json says that it is not tied",
                names::LM_HEAD
            )),
            Some(is_tied) => Ok(!is_tied),
            None => Ok(found),
        }
    }

    /// A tensor of the file.
    fn tensor(
        &mut self,
        name: TensorName,
        rule: &FormatRule,
        is_tied: bool,
    ) -> Result<NewTensor<'m>, Error> {
        let config = &self.description.config;
        let shape = name.role.shape(config);
        let format = rule.of(name.role, shape.cols(), is_tied).unwrap_or(Format::F32);
        let expected: &[usize] = match shape.dims().len() {
            1 => &[shape.cols()],
            _ => &[shape.rows(), shape.cols()],
        };
        let mut matrices = Vec::new();
        for source in names::sources(name, config) {
            let found = self.checkpoint.take(&source, expected);
            matrices.push(found.map_err(|message| Error::Input { message })?);
            self.used.insert(source);
        }
        NewTensor::rounded(&Tensor::of(name, format, config), matrices, None)
    }

    /// Refuses tensors that would have a part in what the model computes, if wick knew them.
    fn check_all_used(&self, own_lm_head: bool) -> Result<(), String> {
        let is_harmless = |name: &str| {
            name.ends_with("rotary_emb.inv_freq") || name == names::LM_HEAD && !own_lm_head
        };
        let mut unused = self.checkpoint.names().filter(|name| !self.used.contains(*name));
        match unused.find(|name| !is_harmless(name)) {
            Some(name) => Err(format!(
                "{name}: no SmallThinker model has this tensor, or not so many layers or experts as config.json says"
            )),
            None => Ok(()),
        }
    }

    fn metadata(&self, name: &str, texts: &Texts, format: Format) -> Result<Metadata, String> {
        let mut metadata = model_keys::describe(name, format, &self.description.config);
        tokens::describe(texts, &self.description, &mut metadata)?;
        template::describe(texts, &mut metadata)?;
        Ok(metadata)
    }
}
