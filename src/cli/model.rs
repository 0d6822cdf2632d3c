//! Which model, and its tokenizer.

use crate::exit::Failure;
use crate::hub::located;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use wick_core::Gating;
use wick_format::{Gguf, Overrides};
use wick_linux::host::Files;
use wick_text::Tokenizer;

/// nano, the model that is built in.
pub(crate) static NANO: &[u8] = include_bytes!("../../tests/models/nano/nano.gguf");

/// Which file, of a verb that takes it with or without `--model`.
#[derive(Args, Clone)]
pub(crate) struct FileArguments {
    /// GGUF file of the model, the first one if it is split, or hf:REPO:FILE [default: nano, built in]
    file: Option<PathBuf>,
    /// The same as FILE
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    model: Option<PathBuf>,
}

/// Which file, of a verb whose words are a prompt.
#[derive(Args, Clone)]
pub(crate) struct FlagArguments {
    /// GGUF file of the model, the first one if it is split, or hf:REPO:FILE [default: nano, built in]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// Which model, and what its file may leave open.
#[derive(Args, Clone)]
pub(crate) struct ModelArguments {
    #[command(flatten)]
    file: FileArguments,
    #[command(flatten)]
    gating: GatingArguments,
}

/// What a model's file may leave open.
#[derive(Args, Clone, Copy)]
pub(crate) struct GatingArguments {
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
    /// Maps the file that was asked for.
    pub(crate) fn open(&self) -> Result<Files, Failure> {
        self.file.open()
    }

    /// What is said in place of the file.
    pub(crate) fn overrides(&self) -> Overrides {
        self.gating.overrides()
    }
}

impl GatingArguments {
    /// What is said in place of the file.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides { gating: self.gating.map(Gating::from) }
    }
}

impl FileArguments {
    /// Maps the file that was asked for.
    pub(crate) fn open(&self) -> Result<Files, Failure> {
        open(self.path())
    }

    /// The file that was asked for; `None` for nano.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_deref().or(self.model.as_deref())
    }
}

impl FlagArguments {
    /// The file that was asked for; `None` for nano.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.model.as_deref()
    }

    /// Whether no file is named.
    pub(crate) fn is_built_in(&self) -> bool {
        self.model.is_none()
    }

    /// Maps the file that was asked for.
    pub(crate) fn open(&self) -> Result<Files, Failure> {
        open(self.model.as_deref())
    }
}

/// Maps the file at `path` and its other parts, or takes nano. A file of the hub is fetched first, unless its cache has it.
pub(crate) fn open(path: Option<&Path>) -> Result<Files, Failure> {
    match path {
        Some(path) => Ok(Files::open(&located(path)?)?),
        None => Ok(Files::built_in("nano, built in", NANO)),
    }
}

/// The tokenizer of a model, from the metadata of its first file.
pub(crate) fn tokenizer(files: &Files, gguf: &Gguf<'_>) -> Result<Tokenizer, Failure> {
    let tokenizer = wick_session::tokenizer(gguf).map_err(|e| files.blame(e))?;
    for (name, id) in tokenizer.absent() {
        log::warn!(
            "{}: tokenizer.ggml.{name}_token_id is {id}, but there are {} tokens; it is taken for missing",
            files.name(),
            tokenizer.len()
        );
    }
    log::info!("tokenizer: {} entries, {} bytes", tokenizer.len(), tokenizer.heap_bytes());
    Ok(tokenizer)
}
