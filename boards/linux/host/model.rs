//! What a model's files say: its shape, its tensors, and what comes with them.

use crate::LowBit;
use crate::host::error::HostError;
use crate::host::files::Files;
use wick_core::{Config, Location, Weights};
use wick_format::{Error, Gguf, Overrides, Packed};

/// A model ready to be computed with, and its chat templates. Nothing is read but tables: tensors are
/// views into the files.
pub struct Model<'m> {
    /// Where it came from.
    pub files: &'m Files,
    parts: Vec<Gguf<'m>>,
    /// Its shape.
    pub config: Config,
    /// Its tensors.
    pub weights: Weights<'m>,
    /// The Jinja templates that its conversations are written with, by name; the usual one is `default`.
    pub chat_templates: Vec<(&'m str, &'m str)>,
    /// Where gate, up and down of each layer lie in the files.
    pub(super) experts: Vec<[Location; 3]>,
    /// CRC-32 of the gate, up and down of every expert, layer by layer; none if the file has none.
    pub(super) checksums: Vec<u32>,
    /// Low-bit copies of experts; `None` if the file has none.
    pub(super) low_bit: Option<LowBit>,
}

impl Files {
    /// The model in the files. `overrides` say what a file may leave open.
    ///
    /// # Errors
    /// A file is damaged, or is none that wick runs.
    pub fn model(&self, overrides: Overrides) -> Result<Model<'_>, HostError> {
        let model = Model::read(self, self.parse()?, overrides);
        // What has changed meanwhile may look as if it were damaged.
        self.check()?;
        model.map_err(|error| self.blame(error))
    }
}

impl<'m> Model<'m> {
    fn read(
        files: &'m Files,
        parts: Vec<Gguf<'m>>,
        overrides: Overrides,
    ) -> Result<Model<'m>, Error<'m>> {
        let model = wick_format::Model::new(&parts)?;
        let config = model.config(overrides)?;
        let weights = model.weights(&config)?;
        let experts = (0..config.layers).map(|layer| model.expert_locations(&config, layer));
        let experts = experts.collect::<Result<_, _>>()?;
        for tensor in model.unused(config.layers) {
            log::info!("{}: not used", tensor.name());
        }
        let chat_templates = chat_templates(&parts[0])?;
        let packed = model.packed();
        let checksums = packed.map(|packed| packed.expert_checksums().collect());
        let checksums = checksums.unwrap_or_default();
        let low_bit = packed.map(|packed| low_bit(&packed, &config)).transpose()?.flatten();
        Ok(Model { files, parts, config, weights, chat_templates, experts, checksums, low_bit })
    }

    /// The metadata, which stand in the first file.
    pub fn metadata(&self) -> &Gguf<'m> {
        &self.parts[0]
    }

    /// The files as their format has them.
    ///
    /// # Errors
    /// None in practice: the model was read through the same tables.
    pub fn format(&self) -> Result<wick_format::Model<'_, 'm>, HostError> {
        wick_format::Model::new(&self.parts).map_err(|error| self.files.blame(error))
    }
}

/// The chat templates of a file: one alone, which is called `default`, and others whose names stand in their keys.
///
/// # Errors
/// One of them is no text.
pub fn chat_templates<'m>(gguf: &Gguf<'m>) -> Result<Vec<(&'m str, &'m str)>, Error<'m>> {
    let mut templates = Vec::new();
    for entry in gguf.entries() {
        let Some(name) = entry.key.strip_prefix("tokenizer.chat_template") else { continue };
        if let Some(name) = if name.is_empty() { Some("default") } else { name.strip_prefix('.') } {
            templates.push((name, entry.str()?));
        }
    }
    Ok(templates)
}

/// The low-bit copies of experts that a packed file has.
fn low_bit<'m>(packed: &Packed<'_, 'm>, config: &Config) -> Result<Option<LowBit>, Error<'m>> {
    let mut layers = Vec::new();
    for layer in 0..config.layers {
        layers.push(packed.low_bit(config, layer)?.map(|layer| layer.locations()));
    }
    let checksums = packed.low_bit_checksums().collect();
    Ok(layers.iter().any(Option::is_some).then_some(LowBit { layers, checksums }))
}
