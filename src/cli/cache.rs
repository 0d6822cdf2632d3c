//! What a service keeps of prompts besides its memory.

use crate::exit::{Exit, Failure, OrExit};
use crate::memory::Size;
use anyhow::Context;
use clap::Args;
use std::fs;
use std::path::PathBuf;
use wick_core::KvFormat;
use wick_linux::host::Model;
use wick_serve::saved::{Folder, SavedPrefixes};

/// Where `--help` lists what is kept of prompts.
const PROMPTS: &str = "Prompts that come again";

/// What a service keeps of prompts besides its memory.
#[derive(Args)]
pub(crate) struct CacheArguments {
    /// Folder in which the KV cache of prompts is kept: after a restart, and when others took their place in memory, they
    /// are read instead of computed
    #[arg(long, value_name = "FOLDER", help_heading = PROMPTS)]
    cache_dir: Option<PathBuf>,
    /// Most bytes of it; what was not used for longest goes
    #[arg(long, value_name = "SIZE", default_value = "1G", help_heading = PROMPTS)]
    cache_size: Size,
    /// Most bytes that are written to it in a day, since flash wears
    #[arg(long, value_name = "SIZE", default_value = "2G", help_heading = PROMPTS)]
    cache_writes: Size,
    /// File with prompts that are read at the start, for all keys: a request a line, {"messages": […]} with "tools" if
    /// there are any, or {"prompt": "…"}
    #[arg(long, value_name = "FILE", help_heading = PROMPTS)]
    warm: Option<PathBuf>,
}

impl CacheArguments {
    /// What is kept for a model whose keys and values are of this format. A folder that cannot be used is done without.
    pub(crate) fn open(&self, model: &Model<'_>, kv: KvFormat) -> Option<SavedPrefixes> {
        let path = self.cache_dir.as_ref()?;
        match Folder::open(path, self.cache_size.0 as u64, self.cache_writes.0 as u64) {
            Ok(folder) => Some(SavedPrefixes::new(folder, &model.fingerprint(kv))),
            Err(error) => {
                log::warn!("{error}; no prompts are kept");
                None
            }
        }
    }

    /// The text of the file of prompts, if there is one.
    pub(crate) fn read_warm(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.warm else { return Ok(None) };
        fs::read_to_string(path).with_context(|| self.warm_name()).or_exit(Exit::Usage).map(Some)
    }

    /// Its name.
    pub(crate) fn warm_name(&self) -> String {
        self.warm.as_ref().map_or_else(String::new, |path| path.display().to_string())
    }
}
