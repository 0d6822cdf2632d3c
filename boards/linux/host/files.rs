//! The bytes of a model.

use crate::ModelFile;
use crate::host::error::HostError;
use crate::identity::check_all;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use wick_core::StoreError;
use wick_format::{Gguf, SplitName};

/// The bytes of a model: one file, the parts of a split one, or a file that is built into the program.
#[derive(Debug)]
pub struct Files {
    name: String,
    parts: Vec<ModelFile>,
    /// The file, if there are no parts.
    built_in: &'static [u8],
}

impl Files {
    /// Maps the file at `path`, and its other parts if the name says that it is one of several.
    ///
    /// # Errors
    /// A file cannot be mapped.
    pub fn open(path: &Path) -> Result<Files, HostError> {
        let paths = part_paths(path);
        Files::open_all(&paths[0].display().to_string(), &paths)
    }

    /// Maps the files at `paths`, which messages call `name`.
    ///
    /// # Errors
    /// A file cannot be mapped.
    pub fn open_all(name: &str, paths: &[PathBuf]) -> Result<Files, HostError> {
        let parts =
            paths.iter().map(|path| ModelFile::open(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Files { name: name.into(), parts, built_in: &[] })
    }

    /// A file that is in memory as long as the program is, such as one that `include_bytes` has put into
    /// it. Its experts stand in memory whatever the budget.
    pub fn built_in(name: &str, bytes: &'static [u8]) -> Files {
        Files { name: name.into(), parts: Vec::new(), built_in: bytes }
    }

    /// What messages call the model: the path of its first file, or the name of a built-in one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The mapped files; none if the model is built in.
    pub fn parts(&self) -> &[ModelFile] {
        &self.parts
    }

    /// Parses every part.
    ///
    /// # Errors
    /// A file is damaged, or is no GGUF file.
    pub fn parse(&self) -> Result<Vec<Gguf<'_>>, HostError> {
        if self.parts.is_empty() {
            return Ok(vec![Gguf::parse(self.built_in).map_err(|error| self.blame(error))?]);
        }
        self.parts.iter().map(parse_part).collect()
    }

    /// Gives all pages back to the system; they are read again when they are touched again.
    pub fn release(&self) {
        // Whole files, since more pages are mapped than were asked for.
        self.parts.iter().for_each(|part| part.release(part));
    }

    /// Checks that all parts are still what was mapped, and that all that was read of them could be.
    ///
    /// # Errors
    /// One has changed since, or cannot be read any more.
    pub fn check(&self) -> Result<(), HostError> {
        let unchanged = self.parts.iter().map(ModelFile::is_unchanged);
        check_all(unchanged).map_err(|error| self.unread(error))
    }

    /// Whether other files lie where these lay, so that opening them again may help where they cannot be read any more.
    pub fn are_replaced(&self) -> bool {
        self.parts.iter().any(ModelFile::is_replaced)
    }

    /// An error in the model, with the name of its file.
    pub fn blame(&self, error: impl Display) -> HostError {
        blame(&self.name, error)
    }

    /// The failure to read an expert, with the name of its file.
    pub fn unread(&self, error: StoreError) -> HostError {
        let part = self.parts.get(error.file).map(|part| part.path().display().to_string());
        HostError::Unread { file: part.unwrap_or_else(|| self.name.clone()), error }
    }
}

fn parse_part(part: &ModelFile) -> Result<Gguf<'_>, HostError> {
    Gguf::parse(part).map_err(|error| blame(part.path().display(), error))
}

fn blame(file: impl Display, error: impl Display) -> HostError {
    HostError::Model { file: file.to_string(), reason: error.to_string() }
}

/// The paths of all parts of a split model, or just the path.
fn part_paths(path: &Path) -> Vec<PathBuf> {
    match path.to_str().and_then(SplitName::parse) {
        Some(name) => (1..=name.count).map(|n| name.sibling(n).to_string().into()).collect(),
        None => vec![path.to_owned()],
    }
}
