//! Which files of a folder have a checkpoint's weights.

use super::json::parse;
use super::texts::{INDEX, read};
use crate::Error;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where there is this file, the index is of other ones, as in transformers.
const SINGLE: &str = "model.safetensors";
const EXTENSION: &str = "safetensors";
/// How files are called that have the model's weights rather than something else's.
const STEM: &str = "model";

/// In which file each tensor is.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The safetensors files of a checkpoint in `folder`: those that its index names, or all there are (of those called
/// `model…`, if there are such).
///
/// # Errors
/// There are none, one that the index names is missing, or the index cannot be read.
pub fn shards(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let refuse = |message: String| Error::Input { message };
    let single = folder.join(SINGLE);
    if let Some(text) = read(&folder.join(INDEX))? {
        if !single.exists() {
            return of_index(folder, &text).map_err(refuse);
        }
        log::warn!("{}: read in place of what {INDEX} names", single.display());
        return Ok(vec![single]);
    }
    let entries = fs::read_dir(folder);
    let entries = entries.map_err(|e| refuse(format!("{}: {e}", folder.display())))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let has_pickles =
        paths.iter().any(|path| path.extension().is_some_and(|e| e == "bin" || e == "pt"));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    paths.sort();
    let is_model = |path: &PathBuf| {
        path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with(STEM))
    };
    if paths.iter().any(is_model) {
        paths.retain(is_model);
    }
    if paths.is_empty() {
        let but =
            if has_pickles { ", only pickled ones: save the model as safetensors" } else { "" };
        return Err(refuse(format!("{}: no safetensors files found{but}", folder.display())));
    }
    Ok(paths)
}

fn of_index(folder: &Path, text: &str) -> Result<Vec<PathBuf>, String> {
    let index: Index = parse(&folder.join(INDEX).display().to_string(), text)?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    let path = |name: &String| {
        // What it names lies beside it.
        if name.contains('/') || name.contains('\0') || matches!(name.as_str(), "" | "." | "..") {
            return Err(format!(
                "{INDEX}: the name of a file in the same folder expected, {name:?} found"
            ));
        }
        let path = folder.join(name);
        match path.exists() {
            true => Ok(path),
            false => Err(format!("{}: no such file, though {INDEX} names it", path.display())),
        }
    };
    if names.is_empty() {
        return Err(format!("{INDEX}: weight_map: names of files expected, none found"));
    }
    names.into_iter().map(path).collect()
}
