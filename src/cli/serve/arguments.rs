//! What a service lets its user choose.

use crate::answering::{AnsweringArguments, name};
use crate::cache::CacheArguments;
use crate::exit::{Exit, Failure};
use crate::listen::ListenArguments;
use crate::model::GatingArguments;
use crate::number;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Answer requests over HTTP: OpenAI's API, and Ollama's
///
/// The same request and seed give the same text, whoever else is served. Every option can stand in a file for
/// --config (key = value, in TOML) and in a variable (WICK_PORT for --port); the command line goes before the
/// variable, and that before the file. SIGTERM ends the service once all is answered that was asked, SIGHUP has it
/// read its keys again, and how tokens are drawn where a request does not say.
///
///   wick serve
///   wick serve model.gguf --memory 1G --parallel 2
///   curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "hi"}]}'
#[derive(Args)]
#[command(verbatim_doc_comment, args_override_self = true)]
pub(crate) struct Arguments {
    /// GGUF file of the model, the first one if it is split [default: nano, built in]
    pub(super) file: Option<PathBuf>,
    /// The same as FILE, which goes before it
    #[arg(short, long, value_name = "FILE")]
    pub(super) model: Option<PathBuf>,
    #[command(flatten)]
    pub(super) gating: GatingArguments,
    /// Another model, and the name that requests ask for it with: it takes the place of the one that is loaded, once that
    /// has answered all; a table `models` in the file with options
    #[arg(long, value_name = "NAME=FILE", value_parser = also)]
    pub(super) also: Vec<Named>,
    /// File with options
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Show how models would be served, and what speaks against it, and end
    #[arg(long)]
    pub(super) check: bool,
    #[command(flatten)]
    pub(super) listen: ListenArguments,
    /// Requests that are answered side by side, each with a KV cache of its own [default: up to 4, as memory allows]
    #[arg(long, value_name = "N", value_parser = number::up_to(64))]
    pub(super) parallel: Option<usize>,
    #[command(flatten)]
    pub(super) cache: CacheArguments,
    /// Requests that may wait; more are refused
    #[arg(long, value_name = "N", default_value = "32", value_parser = number::up_to(10_000))]
    pub(super) max_queue: usize,
    /// How long requests wait for the model to be loaded
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = number::up_to(86_400))]
    pub(super) timeout: usize,
    /// How long requests may go on after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = number::up_to(86_400))]
    pub(super) grace: usize,
    /// End when nobody has asked for anything for so long; a socket of systemd's starts the service again [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = number::up_to(1 << 30))]
    pub(super) idle_exit: Option<usize>,
    /// Where experts are read as they are wanted: how long an answer may wait for a part of another's prompt
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = number::up_to(86_400))]
    pub(super) max_stall: usize,
    /// How long a plain answer may take before white space goes ahead of it, so that clients and proxies wait; 0 for none
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = number::none_to(86_400))]
    pub(super) padding: usize,
    /// Look for heat at another machine, whose /sys was copied to this folder
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub(super) machine: Option<PathBuf>,
    #[command(flatten)]
    pub(super) answering: AnsweringArguments,
}

/// What reads the arguments again.
pub(crate) type Again = fn() -> Result<Box<Arguments>, Failure>;

pub(super) fn seconds(number: usize) -> Duration {
    Duration::from_secs(number as u64)
}

/// A model of a service.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    /// Its file; `None` for nano.
    pub(super) path: Option<PathBuf>,
}

/// A model, as `--also` names it.
fn also(text: &str) -> Result<Named, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok(Named { name: name.into(), path: Some(path.into()) })
        }
        _ => Err("a name and a file expected, NAME=FILE".into()),
    }
}

impl Arguments {
    /// The models, that which is loaded first before the others.
    pub(super) fn models(&self) -> Result<Vec<Named>, Failure> {
        let path = self.file.as_deref().or(self.model.as_deref());
        let is_given = path.is_some() || self.also.is_empty();
        let name = self.answering.alias.clone().unwrap_or_else(|| name(path));
        let first = is_given.then(|| Named { name, path: path.map(PathBuf::from) });
        let all: Vec<Named> = first.into_iter().chain(self.also.iter().cloned()).collect();
        for (i, named) in all.iter().enumerate() {
            if all[..i].iter().any(|other| other.name == named.name) {
                let message = format_args!("two models are called {:?}", named.name);
                return Err(Failure::new(Exit::Usage, message));
            }
        }
        Ok(all)
    }
}
