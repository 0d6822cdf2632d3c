//! Which experts were used most, so that they are in memory again before anybody asks.

use super::folder::Folder;
use super::name::Name;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use wick_core::{Engine, ExpertKey, MAX_EXPERTS, MAX_LAYERS};
use wick_session::Scheduler;

/// How often what is used is written down while the service goes on.
const PERIOD: Duration = Duration::from_secs(600);
/// Bytes of an expert: its layer and its number, the lowest byte first.
const BYTES: usize = 4;
/// Bytes of all experts that a model can have.
const MOST: usize = BYTES * MAX_LAYERS * MAX_EXPERTS;

/// The experts that a service used most before it was started, and those that it uses.
#[derive(Debug)]
pub(super) struct ExpertHistory {
    name: Name,
    /// Those that are to be read, the most used first, and how many there were.
    left: VecDeque<ExpertKey>,
    all: usize,
    /// When it was written down last, or began, and how many experts had been wanted by then.
    saved: Instant,
    wanted: u64,
}

impl ExpertHistory {
    /// What a folder has of a model.
    pub(super) fn open(folder: &mut Folder, model: &Name) -> ExpertHistory {
        let (name, mut bytes) = (model.with("experts"), Vec::new());
        if folder.kept(&name).is_some() {
            match folder.read(&name, MOST, &mut bytes) {
                Ok(()) => folder.touch(&name),
                Err(error) => {
                    log::warn!("{error}; no experts are read ahead");
                    folder.remove(&name);
                    bytes.clear();
                }
            }
        }
        let key = |bytes: &[u8]| ExpertKey {
            layer: usize::from(u16::from_le_bytes([bytes[0], bytes[1]])),
            expert: usize::from(u16::from_le_bytes([bytes[2], bytes[3]])),
        };
        let left: VecDeque<ExpertKey> = bytes.chunks_exact(BYTES).map(key).collect();
        ExpertHistory { name, all: left.len(), left, saved: Instant::now(), wanted: 0 }
    }

    /// Begins to read one; whether there may be more.
    pub(super) fn preload(&mut self, scheduler: &mut Scheduler<'_>) -> bool {
        let Some(key) = self.left.pop_front() else { return false };
        let config = scheduler.engine().config();
        let is_known = key.layer < config.layers && key.expert < config.experts;
        // As if it had been used at the beginning, or up to a half-life before.
        let worth = self.left.len() as f64 / self.all as f64 - 1.0;
        if is_known && scheduler.preload(key, worth) {
            return true;
        }
        self.left.clear();
        false
    }

    /// Writes down what an engine uses, if it has used anything since and that is long ago, or this is the `end`; how many
    /// bytes that are.
    pub(super) fn save(&mut self, folder: &mut Folder, engine: &Engine<'_>, end: bool) -> u64 {
        let wanted = engine.expert_figures().map_or(0, |figures| figures.wanted);
        if wanted == self.wanted || !end && self.saved.elapsed() < PERIOD {
            return 0;
        }
        (self.saved, self.wanted) = (Instant::now(), wanted);
        let config = engine.config();
        let keys = (0..config.layers)
            .flat_map(|layer| (0..config.experts).map(move |expert| ExpertKey { layer, expert }));
        let mut used: Vec<(f64, ExpertKey)> =
            keys.filter_map(|key| Some((engine.expert_worth(key)?, key))).collect();
        used.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let number = |number: usize| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
        let both = |(_, key): &(f64, ExpertKey)| [number(key.layer), number(key.expert)].concat();
        let bytes: Vec<u8> = used.iter().flat_map(both).collect();
        match folder.write(&self.name, &bytes) {
            Ok(true) => bytes.len() as u64,
            Ok(false) => 0,
            Err(error) => {
                log::warn!("{error}; which experts are used is not written down");
                0
            }
        }
    }
}
