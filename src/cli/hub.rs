//! Models that are named by where they are on Hugging Face: `hf:REPO[:FILE]`.

use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::report::note;
use std::borrow::Cow;
use std::path::Path;
use wick_fetch::{Fetched, Kind, Limits, Settings, Size, Source, Watch};

/// What such a name begins with.
const PREFIX: &str = "hf:";

/// What is named, if it is not a file of this machine.
pub(crate) fn named(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(PREFIX)
}

/// The name of the model, if it is not a file of this machine.
pub(crate) fn name(path: &Path) -> Option<String> {
    let source: Source = named(path)?.parse().ok()?;
    let stem = |file: &String| Some(Path::new(file).file_stem()?.to_string_lossy().into_owned());
    source
        .file
        .as_ref()
        .and_then(stem)
        .or_else(|| Some(source.repository.rsplit('/').next()?.into()))
}

/// The file of this machine: the path itself, or what the hub's cache has under the name, or will have.
pub(crate) fn located(path: &Path) -> Result<Cow<'_, Path>, Failure> {
    let Some(text) = named(path) else { return Ok(path.into()) };
    let source: Source = text.parse()?;
    let settings = Settings::from_environment(None, Limits::default())?;
    let found = match wick_fetch::cached(&source, &settings) {
        Some(found) => found,
        None => wick_fetch::fetch(&source, &settings, None, &mut Watching::default())?,
    };
    let Fetched { kind, mut paths, folder, .. } = found;
    match kind {
        Kind::Gguf if !paths.is_empty() => Ok(paths.swap_remove(0).into()),
        Kind::Gguf | Kind::Other => {
            Err(Failure::new(Exit::Usage, format_args!("{source}: a GGUF file expected")))
        }
        Kind::Safetensors => {
            let message = format_args!(
                "{source}: safetensors, which are converted first: wick convert {} -o OUT.gguf",
                folder.display()
            );
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

/// A bar for each file.
#[derive(Default)]
pub(crate) struct Watching(Option<Progress>);

impl Watch for Watching {
    fn begin(&mut self, what: &str, name: &str, bytes: u64) {
        self.0 = None;
        match what {
            "fetching" => note(&format!("{what} {name} ({})", Size(bytes))),
            _ => log::info!("{what} {name}"),
        }
        self.0 = Some(Progress::bytes(what, bytes));
    }

    fn progress(&mut self, done: u64) {
        self.0.iter_mut().for_each(|progress| progress.set(done));
    }
}
