//! A model's file or files, and what is read from them.

use crate::exit::{Exit, Failure, OrExit};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use wick_core::{Config, Gating, Location, Weights};
use wick_format::{Gguf, Overrides, Packed, SplitName};
use wick_linux::{LowBit, ModelFile};
use wick_text::Tokenizer;

/// nano, the model that is built in.
pub(crate) static NANO: &[u8] = include_bytes!("../../tests/models/nano/nano.gguf");

/// Which file.
#[derive(Args, Clone)]
pub(crate) struct FileArguments {
    /// GGUF file of the model, the first one if it is split [default: nano, built in]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// Which model, and what its file may leave open.
#[derive(Args, Clone)]
pub(crate) struct ModelArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// How router logits become weights, whatever the file says [default: as the file says, sigmoid
    /// if it is silent]
    #[arg(long, value_name = "KIND")]
    gating: Option<GatingArgument>,
}

#[derive(Clone, Copy, ValueEnum)]
enum GatingArgument {
    Softmax,
    Sigmoid,
}

impl From<GatingArgument> for Gating {
    fn from(argument: GatingArgument) -> Gating {
        match argument {
            GatingArgument::Softmax => Gating::Softmax,
            GatingArgument::Sigmoid => Gating::Sigmoid,
        }
    }
}

impl ModelArguments {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides { gating: self.gating.map(Gating::from) }
    }
}

/// The bytes of a model: one file, the parts of a split one, or the model that is built in.
pub(crate) struct Files {
    parts: Vec<ModelFile>,
}

impl FileArguments {
    /// Maps the file that was asked for.
    pub(crate) fn open(&self) -> Result<Files, Failure> {
        Files::open(self.model.as_deref())
    }
}

impl Files {
    /// Maps the file at `path`, and its other parts if the name says that it is one of several.
    pub(crate) fn open(path: Option<&Path>) -> Result<Files, Failure> {
        let mut parts = Vec::new();
        for path in path.map(part_paths).unwrap_or_default() {
            parts.push(ModelFile::open(&path).or_exit(Exit::Model)?);
        }
        Ok(Files { parts })
    }

    /// The mapped files; none if the model is the built-in one.
    pub(crate) fn parts(&self) -> &[ModelFile] {
        &self.parts
    }

    /// What the model is called: its first file, or nano.
    pub(crate) fn name(&self) -> String {
        self.parts.first().map_or("nano, built in".into(), |part| part.path().display().to_string())
    }

    /// Parses every part.
    pub(crate) fn parse(&self) -> Result<Vec<Gguf<'_>>, Failure> {
        if self.parts.is_empty() {
            return Ok(vec![Gguf::parse(NANO).map_err(|e| self.blame(e))?]);
        }
        self.parts.iter().map(parse_part).collect()
    }

    /// The failure to read an expert, with the name of its file; another failure as it is.
    pub(crate) fn blame_unread(&self, failure: Failure) -> Failure {
        let Some(error) = failure.unread() else { return failure };
        let path = self.parts.get(error.file).map(|part| part.path().display().to_string());
        let path = path.unwrap_or_else(|| self.name());
        Failure::new(Exit::Model, format_args!("{path}: {error}"))
    }

    /// An error in the model, with the name of its file.
    pub(crate) fn blame(&self, error: impl std::fmt::Display) -> Failure {
        Failure::new(Exit::Model, format_args!("{}: {error}", self.name()))
    }
}

fn parse_part(part: &ModelFile) -> Result<Gguf<'_>, Failure> {
    let blame = |e| Failure::new(Exit::Model, format_args!("{}: {e}", part.path().display()));
    Gguf::parse(part).map_err(blame)
}

/// The paths of all parts of a split model, or just the path.
fn part_paths(path: &Path) -> Vec<PathBuf> {
    match path.to_str().and_then(SplitName::parse) {
        Some(name) => (1..=name.count).map(|n| name.sibling(n).to_string().into()).collect(),
        None => vec![path.to_owned()],
    }
}

/// A model ready to be computed with, and its chat template.
pub(crate) struct Model<'m> {
    pub(crate) files: &'m Files,
    pub(crate) config: Config,
    pub(crate) weights: Weights<'m>,
    /// Where gate, up and down of each layer lie in the files.
    pub(crate) experts: Vec<[Location; 3]>,
    /// CRC-32 of the gate, up and down of every expert, layer by layer; none if the file has none.
    pub(crate) checksums: Vec<u32>,
    /// Low-bit copies of experts; `None` if the file has none.
    pub(crate) low_bit: Option<LowBit>,
    pub(crate) chat_template: Option<&'m str>,
}

impl<'m> Model<'m> {
    /// Reads shape and tensors. `files` are named where they are wrong.
    pub(crate) fn read(
        files: &'m Files,
        parts: &[Gguf<'m>],
        overrides: Overrides,
    ) -> Result<Model<'m>, Failure> {
        let model = wick_format::Model::new(parts).map_err(|e| files.blame(e))?;
        let config = model.config(overrides).map_err(|e| files.blame(e))?;
        let weights = model.weights(&config).map_err(|e| files.blame(e))?;
        let experts = (0..config.layers).map(|layer| model.expert_locations(&config, layer));
        let experts = experts.collect::<Result<_, _>>().map_err(|e| files.blame(e))?;
        for tensor in model.unused(config.layers) {
            log::info!("{}: not used", tensor.name());
        }
        let template = parts[0].get("tokenizer.chat_template").map(|entry| entry.str());
        let chat_template = template.transpose().map_err(|e| files.blame(e))?;
        let packed = model.packed();
        let checksums = packed.map(|packed| packed.expert_checksums().collect::<Vec<_>>());
        let checksums = checksums.unwrap_or_default();
        let low_bit = packed.map(|packed| low_bit(&packed, &config).map_err(|e| files.blame(e)));
        let low_bit = low_bit.transpose()?.flatten();
        Ok(Model { files, config, weights, experts, checksums, low_bit, chat_template })
    }
}

/// The low-bit copies of experts that a packed file has.
fn low_bit<'m>(
    packed: &Packed<'_, 'm>,
    config: &Config,
) -> Result<Option<LowBit>, wick_format::Error<'m>> {
    let mut layers = Vec::new();
    for layer in 0..config.layers {
        layers.push(packed.low_bit(config, layer)?.map(|layer| layer.locations()));
    }
    let checksums = packed.low_bit_checksums().collect();
    Ok(layers.iter().any(Option::is_some).then_some(LowBit { layers, checksums }))
}

/// The tokenizer of a model, from the metadata of its first file.
pub(crate) fn tokenizer(files: &Files, parts: &[Gguf<'_>]) -> Result<Tokenizer, Failure> {
    let tokenizer = wick_session::tokenizer(&parts[0]).map_err(|e| files.blame(e))?;
    log::info!("tokenizer: {} entries, {} bytes", tokenizer.len(), tokenizer.heap_bytes());
    Ok(tokenizer)
}
