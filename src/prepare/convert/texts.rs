//! The texts beside a checkpoint's weights.

use super::config::Description;
use crate::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// In which file each tensor is, if there are several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The folder of named templates.
const MORE: &str = "additional_chat_templates";

/// Bytes of the longest text that is read; tokenizers have up to 20 million.
const LONGEST: u64 = 256 << 20;

/// The texts beside a checkpoint's weights, as they are.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// `config.json`.
    pub config: String,
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<String>,
    /// `generation_config.json`.
    pub generation_config: Option<String>,
    /// `chat_template.jinja`.
    pub chat_template: Option<String>,
    /// `additional_chat_templates/NAME.jinja`, by name.
    pub more_templates: Vec<(String, String)>,
}

impl Texts {
    /// The files of a folder that are read, if they are there.
    ///
    /// # Errors
    /// The folder of named templates cannot be read.
    pub fn paths(folder: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut paths = templates_in(&folder.join(MORE))?;
        paths.extend(Texts::NAMES.map(|name| folder.join(name)));
        paths.push(folder.join(INDEX));
        Ok(paths)
    }

    /// The names of the files.
    const NAMES: [&str; 5] = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    ];

    /// Reads the texts in a folder.
    ///
    /// # Errors
    /// One of the first two is missing, or one cannot be read or is no UTF-8.
    pub fn read(folder: &Path) -> Result<Texts, Error> {
        let read = |name: &str| read(&folder.join(name));
        let need = |name: &str| {
            let missing = || format!("{}: no such file", folder.join(name).display());
            read(name)?.ok_or_else(missing).map_err(|message| Error::Input { message })
        };
        let [config, tokenizer, tokenizer_config, generation_config, chat_template] = Texts::NAMES;
        Ok(Texts {
            config: need(config)?,
            tokenizer: need(tokenizer)?,
            tokenizer_config: read(tokenizer_config)?,
            generation_config: read(generation_config)?,
            chat_template: read(chat_template)?,
            more_templates: more_templates(&folder.join(MORE))?,
        })
    }

    /// What they say of the model's shape.
    pub(crate) fn describe(&self) -> Result<Description, String> {
        Description::parse(&self.config)
    }
}

/// The text of a file, if it is there.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    let refuse =
        |message: String| Error::Input { message: format!("{}: {message}", path.display()) };
    // Before it is opened: a pipe would wait for its writer.
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if !found.is_file() => return Err(refuse("a regular file expected".into())),
        Err(error) => return Err(refuse(error.to_string())),
        Ok(_) => (),
    }
    let file = File::open(path).map_err(|e| refuse(e.to_string()))?;
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(|e| refuse(e.to_string()))?;
    if text.len() as u64 > LONGEST {
        return Err(refuse(format!("at most {LONGEST} bytes expected")));
    }
    Ok(Some(text))
}

/// Named templates, in the order of their names.
fn more_templates(folder: &Path) -> Result<Vec<(String, String)>, Error> {
    let paths = templates_in(folder)?;
    let named = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(read(&path)?.map(|text| (name, text)))
    };
    paths.into_iter().filter_map(|path| named(path).transpose()).collect()
}

fn templates_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let refuse = |e| Error::Input { message: format!("{}: {e}", folder.display()) };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(refuse)?,
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    paths.sort();
    Ok(paths)
}
