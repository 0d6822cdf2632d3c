//! Beginnings of texts that are kept in a folder: a prompt that took minutes to compute costs a second to read, also after a
//! restart.
//!
//! ```text
//!   ids: 64 ─► 64 ─► 64 …          a tile of the KV cache for each, in a file of its own
//!         │     │     │
//!   model, owner ─► name ─► name   SHA-256 of the one before and the ids: who knows what a text begins with
//!                                  finds its tiles, and texts that begin alike share them
//! ```

mod experts;
mod folder;
mod name;

pub use folder::{Folder, FolderError};
pub use name::Name;

use experts::ExpertHistory;
use folder::Kept;
use name::names;
use std::time::{Duration, Instant};
use wick_core::{Engine, KV_TILE, TileBytes};
use wick_session::{Prefix, PrefixStore, Request, Scheduler};

/// How long a sequence that is wanted for another text may be held up to write down what it holds.
const EVICTION: Duration = Duration::from_secs(1);
/// How long nothing is written after that failed, or as much was written as may be.
const REST: Duration = Duration::from_secs(600);
/// Windows that are shorter have forgotten a prompt by the time that there is nothing else to do.
const SHORT_WINDOW: usize = 1024;
/// Weight of what was measured last in a mean that moves.
const LAST: f64 = 0.25;

/// Saved beginnings of texts that one model computed.
#[derive(Debug)]
pub struct SavedPrefixes {
    folder: Folder,
    /// What the names of tiles begin with.
    model: Name,
    experts: ExpertHistory,
    /// A tile on its way.
    buffer: Vec<u8>,
    /// Seconds that reading a byte takes, and computing a token; 0 until they are known.
    byte_seconds: f64,
    token_seconds: f64,
    /// Whether sequences may hold something that is not written down.
    is_behind: bool,
    /// Tiles of each sequence that were written down while a prompt was read.
    passed: Vec<usize>,
    /// When writing may be tried again.
    rests_until: Option<Instant>,
    /// What was done so far.
    pub figures: SavedFigures,
}

/// What was done with saved beginnings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedFigures {
    /// Tokens that were read back.
    pub tokens: u64,
    /// Bytes that were read for them.
    pub read: u64,
    /// Bytes that were written.
    pub written: u64,
}

/// Whether a tile is written down.
enum Saved {
    Before,
    Now,
    /// Nor will others be, for now.
    Never,
}

impl SavedPrefixes {
    /// What `folder` has of the model with this fingerprint: of its weights, its shape, and how keys and values are kept.
    pub fn new(mut folder: Folder, fingerprint: &[u8]) -> SavedPrefixes {
        let model = Name::of(&[env!("CARGO_PKG_VERSION").as_bytes(), fingerprint]);
        SavedPrefixes {
            experts: ExpertHistory::open(&mut folder, &model),
            folder,
            model,
            buffer: Vec::new(),
            byte_seconds: 0.0,
            token_seconds: 0.0,
            is_behind: true,
            passed: Vec::new(),
            rests_until: None,
            figures: SavedFigures::default(),
        }
    }

    /// What computing a token of a prompt takes, in seconds: beginnings are read only where that is faster.
    pub fn learn(&mut self, token_seconds: f64) {
        self.token_seconds = token_seconds;
    }

    /// Sequences hold something else than before.
    pub fn changed(&mut self) {
        self.is_behind = true;
    }

    /// Begins to read an expert that was used much before the start and is not in memory; whether there may be more.
    pub fn preload_one(&mut self, scheduler: &mut Scheduler<'_>) -> bool {
        self.experts.preload(scheduler)
    }

    /// Writes down which experts are used most, if they are read as they are wanted; now and then, or at the `end`.
    pub fn save_experts(&mut self, engine: &Engine<'_>, end: bool) {
        self.figures.written += self.experts.save(&mut self.folder, engine, end);
    }

    /// Writes one tile down that a sequence holds and the folder has not. Returns whether there may be
    /// more.
    pub fn save_one(&mut self, scheduler: &Scheduler<'_>) -> bool {
        if !self.is_behind || self.is_resting() {
            return false;
        }
        let engine = scheduler.engine();
        for sequence in 0..engine.options().sequences {
            let Some(held) = scheduler.held(sequence) else { continue };
            for (tile, name) in names(self.model, held.owner, held.ids).enumerate() {
                match self.save(engine, sequence, tile, &name) {
                    Saved::Before => {}
                    Saved::Now => return true,
                    Saved::Never => return false,
                }
            }
        }
        self.is_behind = false;
        false
    }

    /// Writes down what short windows are about to forget, while prompts are read and answers written.
    pub fn save_passing(&mut self, scheduler: &Scheduler<'_>) {
        let engine = scheduler.engine();
        if engine.config().window.is_none_or(|window| window.size >= SHORT_WINDOW) {
            return;
        }
        self.passed.resize(engine.options().sequences, 0);
        for sequence in 0..self.passed.len() {
            let Some(held) = scheduler.held(sequence) else { continue };
            let tiles = held.ids.len() / KV_TILE;
            let passed = std::mem::replace(&mut self.passed[sequence], tiles);
            if tiles == passed || self.is_resting() {
                continue;
            }
            let new = names(self.model, held.owner, held.ids).enumerate();
            for (tile, name) in new.skip(if tiles > passed { passed } else { 0 }) {
                if let Saved::Never = self.save(engine, sequence, tile, &name) {
                    break;
                }
            }
        }
    }

    /// Writes a tile down, unless the folder has as much of it.
    fn save(&mut self, engine: &Engine<'_>, sequence: usize, tile: usize, name: &Name) -> Saved {
        let whole = engine.tile_bytes().whole;
        let kept = self.folder.kept(name).map_or(0, |kept| kept.bytes);
        if kept >= whole as u64 {
            return Saved::Before;
        }
        self.buffer.resize(whole, 0);
        let Some(bytes) = engine.save_tile(sequence, tile, &mut self.buffer) else {
            return Saved::Never;
        };
        if kept >= bytes as u64 {
            return Saved::Before;
        }
        match self.folder.write(name, &self.buffer[..bytes]) {
            Ok(true) => {
                self.figures.written += bytes as u64;
                return Saved::Now;
            }
            Ok(false) => log::info!("as many beginnings of prompts were saved today as may be"),
            Err(error) => {
                log::warn!("{error}; beginnings of prompts are not saved for ten minutes");
            }
        }
        self.rests_until = Some(Instant::now() + REST);
        Saved::Never
    }

    fn is_resting(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// The names of the tiles, from the first on, that the folder has of a text; those that are anybody's, if they are more.
    fn find(&self, wanted: Prefix<'_>) -> Vec<(Name, Kept)> {
        let of = |owner| {
            let names = names(self.model, owner, wanted.ids);
            names.map_while(|name| Some((name, self.folder.kept(&name)?))).collect::<Vec<_>>()
        };
        let (own, anybodys) = (of(wanted.owner), of(Request::ANYBODY));
        if anybodys.len() > own.len() { anybodys } else { own }
    }

    /// Whether reading so many tiles is faster than computing them, as far as anybody knows.
    fn is_worth_it(&self, tiles: usize, bytes: u64) -> bool {
        let computing = (tiles * KV_TILE) as f64 * self.token_seconds;
        computing == 0.0 || bytes as f64 * self.byte_seconds < computing
    }

    /// Appends a tile to a sequence; whether that was possible.
    fn load(&mut self, engine: &mut Engine<'_>, sequence: usize, name: &Name) -> bool {
        let start = Instant::now();
        let most = engine.tile_bytes().whole;
        let read = self.folder.read(name, most, &mut self.buffer);
        let is_loaded = match read {
            Ok(()) => engine.load_tile(sequence, &self.buffer).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = is_loaded {
            log::warn!("{error}; that part of the prompt is computed");
            return false;
        }
        let bytes = self.buffer.len() as u64;
        self.figures.tokens += KV_TILE as u64;
        self.figures.read += bytes;
        let now = start.elapsed().as_secs_f64() / bytes.max(1) as f64;
        let weight = if self.byte_seconds == 0.0 { 1.0 } else { LAST };
        self.byte_seconds += (now - self.byte_seconds) * weight;
        true
    }
}

impl PrefixStore for SavedPrefixes {
    fn evict(&mut self, engine: &Engine<'_>, sequence: usize, held: Prefix<'_>) {
        let start = Instant::now();
        for (tile, name) in names(self.model, held.owner, held.ids).enumerate() {
            if self.is_resting() || start.elapsed() > EVICTION {
                return;
            }
            if let Saved::Never = self.save(engine, sequence, tile, &name) {
                return;
            }
        }
    }

    fn restore(&mut self, engine: &mut Engine<'_>, sequence: usize, wanted: Prefix<'_>) {
        let held = engine.len(sequence);
        let mut found = self.find(wanted);
        let first = held / KV_TILE;
        found.truncate(usable(engine, &found, first));
        let new = found.get(first..).unwrap_or_default();
        let bytes = new.iter().map(|(_, kept)| kept.bytes).sum();
        if found.len() * KV_TILE <= held || !self.is_worth_it(new.len(), bytes) {
            return;
        }
        if engine.truncate(sequence, first * KV_TILE).is_err() {
            return;
        }
        let loaded = new.iter().take_while(|(name, _)| self.load(engine, sequence, name)).count();
        // Where one is damaged, those behind it are no more to be trusted, and would be read in vain.
        new[loaded..].iter().for_each(|(name, _)| self.folder.remove(name));
        // Whoever needs a tile needs those before it too: these go last.
        found.iter().rev().for_each(|(name, _)| self.folder.touch(name));
    }
}

/// How many of the tiles make up a beginning behind which windowed layers have all that they see, if those before the `first`
/// are there.
fn usable(engine: &Engine<'_>, found: &[(Name, Kept)], first: usize) -> usize {
    let TileBytes { whole, .. } = engine.tile_bytes();
    let window = engine.config().window.map_or(0, |window| window.size);
    let is_usable = |tiles: &usize| {
        let seen = (tiles * KV_TILE + 1).saturating_sub(window) / KV_TILE;
        (seen.max(first)..*tiles).all(|tile| found[tile].1.bytes == whole as u64)
    };
    (0..=found.len()).rev().find(is_usable).unwrap_or(0)
}
