//! `wick fetch`: a model from Hugging Face.

use crate::exit::Failure;
use crate::hub::Watching;
use crate::number;
use crate::screen::line;
use clap::Args;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wick_fetch::{Fetched, Kind, Limits, Settings, Size, Source};

/// Fetch a model from Hugging Face, and go on where an earlier attempt ended
///
/// REPO alone is its GGUF file, that in Q4_0 if there are several, or its safetensors. Size and checksum are compared with
/// what the hub says. Without --to, files go into the cache that the hub's own tools have; what is there is not fetched again.
/// Everything that takes a model takes hf:REPO and hf:REPO:FILE, too. Needs curl.
///
/// HF_TOKEN, HF_TOKEN_PATH, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean to other tools.
///
///   wick fetch PowerInfer/SmallThinker-4BA0.6B-Instruct-GGUF
///   wick fetch USER/NAME:model.Q4_0.gguf --to models
///   wick run -m hf:USER/NAME:model.Q4_0.gguf "Why is the sky blue?"
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Repository, and file of it if not the usual one: USER/NAME, USER/NAME:FILE or USER/NAME@REVISION:FILE
    #[arg(value_name = "REPO[:FILE]")]
    source: String,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Folder to put the files into, in place of the cache
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Address of the hub or a mirror [default: HF_ENDPOINT, or huggingface.co]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Ranges of a file that are fetched at the same time
    #[arg(long, value_name = "N", default_value = "4", value_parser = number::up_to(16))]
    connections: usize,
    /// Seconds without a kilobyte each after which a transfer is begun again
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = number::up_to(3600))]
    stall: usize,
    /// Milliseconds before a second attempt
    #[arg(long, hide = true, default_value = "1000", value_parser = number::up_to(60_000))]
    pause: usize,
    /// Most bytes that are asked for at once
    #[arg(long, hide = true, default_value = "67108864", value_parser = number::count)]
    segment: NonZeroUsize,
}

impl Arguments {
    fn source(&self) -> Result<Source, Failure> {
        let text = self.source.strip_prefix("hf:").unwrap_or(&self.source);
        let source: Source = text.parse()?;
        Ok(match &self.revision {
            Some(revision) => source.at(revision)?,
            None => source,
        })
    }

    fn limits(&self) -> Limits {
        Limits {
            stall: Duration::from_secs(self.stall as u64),
            pause: Duration::from_millis(self.pause as u64),
            connections: self.connections,
            segment: self.segment.get() as u64,
            ..Limits::default()
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let source = arguments.source()?;
    let settings = Settings::from_environment(arguments.endpoint.as_deref(), arguments.limits())?;
    let start = Instant::now();
    let mut watching = Watching::default();
    let fetched = wick_fetch::fetch(&source, &settings, arguments.to.as_deref(), &mut watching)?;
    drop(watching);
    report(&fetched, start.elapsed())
}

/// Says what is there now, and what to do with it.
fn report(fetched: &Fetched, time: Duration) -> Result<(), Failure> {
    let Fetched { kind, paths, folder, bytes, fetched } = fetched;
    let mut out = io::stdout().lock();
    let place = match (&**paths, kind) {
        ([first, ..], Kind::Gguf | Kind::Other) => first,
        _ => folder,
    };
    let how = match fetched {
        0 => "was there already".into(),
        n => format!("{} fetched in {:.1} s", Size(*n), time.as_secs_f64()),
    };
    let parts = if paths.len() > 1 { format!(" in {} files", paths.len()) } else { String::new() };
    writeln!(out, "{}", line(&format!("{}: {}{parts}, {how}", place.display(), Size(*bytes))))?;
    let next = match kind {
        Kind::Gguf => format!("wick run -m {} \"Why is the sky blue?\"", quoted(place)),
        Kind::Safetensors => format!("wick convert {} -o OUT.gguf", quoted(place)),
        Kind::Other => return Ok(()),
    };
    writeln!(out, "{}", line(&next))?;
    Ok(())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    match text.starts_with('-') || !text.chars().all(is_plain) {
        true => format!("'{}'", text.replace('\'', r"'\''")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/a/b-1.gguf")), "/a/b-1.gguf");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
        assert_eq!(quoted(Path::new("$x")), "'$x'");
    }
}
