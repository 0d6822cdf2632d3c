//! Tiles of the KV cache, to be written down elsewhere and read back.
//!
//! A tile is [`KV_TILE`] positions that begin at a multiple of that. Its bytes are those of the layers that see
//! everything, then those of the windowed ones; each layer's are its keys and then its values. They do not depend on how
//! long context and rings are.

use super::{KvCache, KvLayout};
use core::fmt;
use core::ops::Range;
use wick_kernels::KEY_TILE;

/// Positions of a tile.
pub const KV_TILE: usize = KEY_TILE;

/// Bytes of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileBytes {
    /// Of all layers.
    pub whole: usize,
    /// Of the layers that see everything: what is left of a tile that windowed layers have forgotten.
    pub global: usize,
}

impl KvLayout {
    /// Shows where the bytes of a tile lie in the memory of all sequences, of the layers of one kind.
    fn each_part(
        &self,
        (sequence, tile): (usize, usize),
        is_windowed: bool,
        mut show: impl FnMut(Range<usize>),
    ) {
        for (layer, place) in self.places.iter().enumerate() {
            if place.is_windowed() != is_windowed {
                continue;
            }
            let first = tile * KV_TILE % place.rows;
            for half in self.halves(sequence, layer) {
                let cells = self.cells(layer, first..first + KV_TILE);
                cells.for_each(|part| show(half.start + part.start..half.start + part.end));
            }
        }
    }
}

impl KvCache<'_> {
    /// Bytes of a tile.
    pub(crate) fn tile_bytes(&self) -> TileBytes {
        let [mut global, mut windowed] = [0, 0];
        self.layout.each_part((0, 0), false, |part| global += part.len());
        self.layout.each_part((0, 0), true, |part| windowed += part.len());
        TileBytes { whole: global + windowed, global }
    }

    /// Copies a tile of a sequence to the beginning of `into`; returns how many bytes that are, of the whole tile
    /// or of the layers that see everything. `None` if the sequence does not hold all of its positions.
    pub(crate) fn save_tile(&self, sequence: usize, tile: usize, into: &mut [u8]) -> Option<usize> {
        let first = tile * KV_TILE;
        if self.len(sequence) < first + KV_TILE {
            return None;
        }
        let progress = self.progress[sequence];
        let is_whole = self.layout.places.iter().all(|place| place.forgotten(progress) <= first);
        let mut end = 0;
        for is_windowed in [false, true].into_iter().take(1 + usize::from(is_whole)) {
            self.layout.each_part((sequence, tile), is_windowed, |part| {
                into[end..end + part.len()].copy_from_slice(&self.data[part.clone()]);
                end += part.len();
            });
        }
        Some(end)
    }

    /// Appends a tile to a sequence.
    pub(crate) fn load_tile(&mut self, sequence: usize, bytes: &[u8]) -> Result<(), TileError> {
        let (held, expected, found) = (self.len(sequence), self.tile_bytes(), bytes.len());
        if !held.is_multiple_of(KV_TILE) || held + KV_TILE > self.context() {
            return Err(TileError::Place { held, context: self.context() });
        }
        let is_whole = found == expected.whole;
        if !is_whole && found != expected.global {
            return Err(TileError::Bytes { expected, found });
        }
        let KvCache { layout, progress, data } = self;
        let mut start = 0;
        for is_windowed in [false, true].into_iter().take(1 + usize::from(is_whole)) {
            layout.each_part((sequence, held / KV_TILE), is_windowed, |part| {
                let end = start + part.len();
                data[part].copy_from_slice(&bytes[start..end]);
                start = end;
            });
        }
        let p = &mut progress[sequence];
        p.len = held + KV_TILE;
        p.most = p.most.max(p.len);
        if !is_whole {
            p.windows_from = p.len;
        }
        Ok(())
    }
}

/// A tile cannot be appended; the sequence is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileError {
    /// The sequence holds no whole number of tiles, or has no room for one more.
    Place {
        /// Positions that it holds.
        held: usize,
        /// Positions that it can hold.
        context: usize,
    },
    /// So many bytes are no tile of this model.
    Bytes {
        /// What a tile has.
        expected: TileBytes,
        /// What there is.
        found: usize,
    },
}

impl fmt::Display for TileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TileError::Place { held, context } => write!(
                f,
                "a tile of {KV_TILE} positions does not go behind {held} in a context of {context}"
            ),
            TileError::Bytes { expected: TileBytes { whole, global }, found } => {
                write!(f, "a tile: {whole} or {global} bytes expected, {found} found")
            }
        }
    }
}

impl core::error::Error for TileError {}
