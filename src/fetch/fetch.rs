//! The whole of it: what is asked for is found in the cache or fetched into it, or into a folder.

use crate::Error;
use crate::cache::Cache;
use crate::choice::{Choice, choose};
use crate::digest::Digest;
use crate::download::Download;
use crate::error::at;
use crate::hub::{Entry, Hub};
use crate::partial::Partial;
use crate::place::{Place, replace};
use crate::settings::Settings;
use crate::source::Source;
use std::fs;
use std::path::{Path, PathBuf};

/// What a fetched model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A GGUF file, or all parts of one.
    Gguf,
    /// Safetensors, to be converted.
    Safetensors,
    /// One file of another kind.
    Other,
}

/// What is there now.
#[derive(Debug)]
pub struct Fetched {
    /// What it is.
    pub kind: Kind,
    /// All files, the first part of a model first.
    pub paths: Vec<PathBuf>,
    /// The folder that they are in.
    pub folder: PathBuf,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that were not there before.
    pub fetched: u64,
}

/// Who sees how far it is.
pub trait Watch {
    /// A file of `bytes` bytes is begun: what is done with it, and its name.
    fn begin(&mut self, what: &str, name: &str, bytes: u64);
    /// So many bytes of it are done.
    fn progress(&mut self, done: u64);
}

/// What the cache has of `source`, without asking anybody.
pub fn cached(source: &Source, settings: &Settings) -> Option<Fetched> {
    let cache = Cache::new(settings.cache.as_deref()?, source);
    let commit = cache.commit(&source.revision)?;
    let found = cache.files(&commit);
    let files: Vec<(&str, u64)> = found.iter().map(|(path, size)| (&**path, *size)).collect();
    let (kind, names) = taken_apart(choose(source, &files).ok()?);
    if kind == Kind::Safetensors && source.file.is_none() {
        // Whether that is all of it, the hub alone knows.
        return None;
    }
    let is_chosen = |path: &str| names.iter().any(|name| name == path);
    let bytes = files.iter().filter(|(path, _)| is_chosen(path)).map(|(_, size)| size).sum();
    let paths = names.iter().map(|name| cache.path(&commit, name)).collect();
    Some(Fetched { kind, paths, folder: cache.snapshot(&commit), bytes, fetched: 0 })
}

/// Fetches what `source` names into the folder `to`, or into the cache. What is there already is checked, and not fetched
/// again.
///
/// # Errors
/// It cannot be had; what was fetched of it stays and is gone on with, unless it was wrong.
pub fn fetch(
    source: &Source,
    settings: &Settings,
    to: Option<&Path>,
    watch: &mut dyn Watch,
) -> Result<Fetched, Error> {
    if settings.is_offline {
        let why = "HF_HUB_OFFLINE forbids to ask the hub";
        return cached(source, settings).filter(|_| to.is_none()).ok_or_else(|| {
            Error::usage(format_args!("{source}: {why}, and the cache has no such file"))
        });
    }
    let hub = Hub::new(settings);
    let commit = match hub.commit(source) {
        Err(error) if error.is_network() && to.is_none() => {
            let found = cached(source, settings).ok_or(error)?;
            log::warn!("the hub cannot be reached; what the cache has is used");
            return Ok(found);
        }
        commit => commit?,
    };
    let listed = hub.files(source, &commit)?;
    let files: Vec<(&str, u64)> = listed.iter().map(|entry| (&*entry.path, entry.size)).collect();
    let (kind, names) = taken_apart(choose(source, &files)?);
    let cache = settings.cache.as_deref().map(|root| Cache::new(root, source));
    let folder = match (to, &cache) {
        (Some(to), _) => to.to_owned(),
        (None, Some(cache)) => cache.snapshot(&commit),
        (None, None) => {
            return Err(Error::usage(
                "no cache, since there is no HOME: name a folder with --to, or HF_HOME",
            ));
        }
    };
    let mut one =
        One { hub: &hub, source, settings, commit: &commit, to, cache: cache.as_ref(), watch };
    let mut done = Fetched { kind, paths: Vec::new(), folder, bytes: 0, fetched: 0 };
    for name in &names {
        let Some(entry) = listed.iter().find(|entry| entry.path == *name) else { continue };
        let (path, fetched) = one.fetch(entry)?;
        done.paths.push(path);
        done.bytes += entry.size;
        done.fetched += if fetched { entry.size } else { 0 };
    }
    if let (None, Some(cache)) = (to, &cache) {
        cache.note(&source.revision, &commit)?;
    }
    Ok(done)
}

fn taken_apart(choice: Choice) -> (Kind, Vec<String>) {
    match choice {
        Choice::Gguf(names) => (Kind::Gguf, names),
        Choice::Safetensors(names) => (Kind::Safetensors, names),
        Choice::Other(name) => (Kind::Other, vec![name]),
    }
}

/// What it takes to fetch one file.
struct One<'o> {
    hub: &'o Hub<'o>,
    source: &'o Source,
    settings: &'o Settings,
    commit: &'o str,
    to: Option<&'o Path>,
    cache: Option<&'o Cache>,
    watch: &'o mut dyn Watch,
}

impl One<'_> {
    /// The path of the file, and whether it was fetched.
    fn fetch(&mut self, entry: &Entry) -> Result<(PathBuf, bool), Error> {
        let blob = self.cache.map(|cache| cache.blob(&entry.digest));
        match (self.to, self.cache, blob) {
            (None, Some(cache), Some(blob)) => {
                let fetched = !self.is_there(&blob.target, entry)?;
                if fetched {
                    self.download(&blob, entry)?;
                }
                Ok((cache.link(self.commit, &entry.path, &entry.digest)?, fetched))
            }
            (to, _, blob) => {
                let place = Place::new(to.unwrap_or(Path::new(".")).join(&entry.path), true);
                if self.is_there(&place.target, entry)? {
                    return Ok((place.target, false));
                }
                if let Some(blob) = blob
                    && self.is_there(&blob.target, entry)?
                {
                    place.make()?;
                    copy(&blob.target, &place.target)?;
                    return Ok((place.target, false));
                }
                self.download(&place, entry)?;
                Ok((place.target, true))
            }
        }
    }

    /// Whether this file is the one that the hub lists.
    fn is_there(&mut self, path: &Path, entry: &Entry) -> Result<bool, Error> {
        match fs::metadata(path) {
            Ok(found) if found.is_file() && found.len() == entry.size => {}
            Ok(found) if found.is_dir() => {
                let message = format_args!("{}: a folder has the name of the file", path.display());
                return Err(Error::usage(message));
            }
            _ => return Ok(false),
        }
        let Entry { path: name, size, digest } = entry;
        self.watch.begin("checking", name, *size);
        let is_it = digest.is_of(path, *size, |done| self.watch.progress(done));
        let is_it = is_it.map_err(at(path, "the file cannot be read"))?;
        if !is_it {
            log::warn!("{}: other bytes than {digest} has; it is fetched again", path.display());
        }
        Ok(is_it)
    }

    fn download(&mut self, place: &Place, entry: &Entry) -> Result<(), Error> {
        let Entry { path, size, digest } = entry;
        let Some((partial, done)) = Partial::open(place, *size, digest)? else { return Ok(()) };
        let One { hub, source, commit, .. } = *self;
        let download = Download { hub, source, commit, entry, limits: self.settings.limits };
        self.watch.begin("fetching", path, *size);
        let hasher = download.run(&partial, done, |done| self.watch.progress(done))?;
        finish(partial, place, digest.check(hasher), digest)
    }
}

/// Gives the file its name if it is what it is to be.
fn finish(
    partial: Partial,
    place: &Place,
    checked: Result<(), String>,
    digest: &Digest,
) -> Result<(), Error> {
    match checked {
        Ok(()) => partial.finish(),
        Err(reason) => {
            log::debug!("{digest}: {reason}");
            partial.discard();
            let reason = format!("{reason}; what was fetched is removed, try again");
            Err(Error::Damaged { path: place.target.clone(), reason })
        }
    }
}

/// The same bytes in another place: by another name, or as a copy on another disk.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let from = from.canonicalize().map_err(at(from, "the file cannot be read"))?;
    let put = |new: &Path| fs::hard_link(&from, new).or_else(|_| fs::copy(&from, new).map(drop));
    replace(to, put).map_err(at(to, "the file cannot be written"))
}
