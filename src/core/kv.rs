//! The KV cache: keys and values of past positions, as f16 or Q8_0.
//!
//! Layers that see everything keep the whole context. Windowed layers keep a ring, as long as the
//! window and one batch together, because a batch writes its positions before it attends.

mod tiles;

pub use tiles::{KV_TILE, TileBytes, TileError};

use crate::arena::{Arena, ArenaError};
use crate::config::{Config, MAX_LAYERS};
use crate::options::{KV_BLOCK, KvFormat, Options};
use bytemuck::{cast_slice, cast_slice_mut};
use core::fmt;
use core::ops::Range;
use wick_kernels::{
    KEY_TILE, KvCells, KvView, Narrow, Q8Cells, Q8CellsMut, store_key_q8_0, store_value_q8_0,
};

/// Where a layer's keys and values lie in the memory of a sequence.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Offset of the first key, in bytes.
    start: usize,
    /// Positions kept; a multiple of [`KEY_TILE`].
    rows: usize,
    /// Positions seen by a query, or `usize::MAX`.
    window: usize,
}

/// Where everything lies in the memory of one sequence.
#[derive(Clone, Debug)]
pub(crate) struct KvLayout {
    format: KvFormat,
    places: heapless::Vec<Place, MAX_LAYERS>,
    kv_heads: usize,
    head: usize,
    context: usize,
    /// Bytes of one sequence.
    pub(crate) bytes: usize,
}

impl KvLayout {
    pub(crate) fn new(config: &Config, options: &Options) -> KvLayout {
        let mut start = 0;
        let places = (0..config.layers).map(|layer| {
            let window = config.layer_window(layer).unwrap_or(usize::MAX);
            let rows = options.context.min(window.saturating_add(options.batch));
            let place = Place { start, rows: rows.next_multiple_of(KEY_TILE), window };
            start += 2 * place.rows * config.kv_heads * options.kv.bytes(config.head);
            place
        });
        let places = places.collect();
        let (kv_heads, head, context) = (config.kv_heads, config.head, options.context);
        KvLayout { format: options.kv, places, kv_heads, head, context, bytes: start }
    }

    /// The keys and the values of a layer in the memory of all sequences.
    fn halves(&self, sequence: usize, layer: usize) -> [Range<usize>; 2] {
        let start = sequence * self.bytes + self.places[layer].start;
        let half = self.places[layer].rows * self.kv_heads * self.format.bytes(self.head);
        [start..start + half, start + half..start + 2 * half]
    }
}

impl KvLayout {
    /// Bytes of the pages that the first `positions` of a sequence touch, at most.
    fn touched(&self, positions: usize, page: usize) -> usize {
        let pages = |part: Range<usize>| match part.len() {
            0 => 0,
            // It may begin and end anywhere in a page.
            len => len.next_multiple_of(page) + page,
        };
        let layers = 0..self.places.len();
        let halves = layers.map(|layer| {
            2 * self.cells(layer, self.used(layer, positions)).map(pages).sum::<usize>()
        });
        halves.sum::<usize>().min(self.bytes)
    }

    /// The rows of a layer in which the first `positions` of a sequence stand.
    fn used(&self, layer: usize, positions: usize) -> Range<usize> {
        0..positions.next_multiple_of(KEY_TILE).min(self.places[layer].rows)
    }

    /// The bytes of some rows among the keys or the values of a layer: those of each head, and of its scales. `wanted` begins
    /// and ends with a tile.
    fn cells(&self, layer: usize, wanted: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let rows = self.places[layer].rows;
        let all = self.kv_heads * rows;
        // Where the cells begin, and bytes of each.
        let parts = match self.format {
            KvFormat::F16 => [(0, 2 * self.head), (0, 0)],
            KvFormat::Q8_0 => [(0, self.head), (all * self.head, 2 * self.head / KV_BLOCK)],
        };
        let heads = 0..self.kv_heads;
        parts.into_iter().flat_map(move |(start, cell)| {
            heads.clone().map(move |head| {
                let first = start + head * rows * cell;
                first + wanted.start * cell..first + wanted.end * cell
            })
        })
    }
}

/// How far a sequence has come.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Progress {
    /// Positions that are there.
    len: usize,
    /// Most positions that were there since the sequence was last empty: rings have forgotten
    /// everything that lies their length before this.
    most: usize,
    /// The first position that windowed layers hold, if they were given no earlier ones; or 0.
    windows_from: usize,
    /// Most positions that were there since its memory was last given back.
    touched: usize,
}

impl Place {
    fn is_windowed(&self) -> bool {
        self.window != usize::MAX
    }

    /// Positions of a sequence, from the first on, that the layer does not hold any more.
    fn forgotten(&self, progress: Progress) -> usize {
        let given = if self.is_windowed() { progress.windows_from } else { 0 };
        progress.most.saturating_sub(self.rows).max(given)
    }
}

/// Keys and values of several sequences.
#[derive(Debug)]
pub(crate) struct KvCache<'m> {
    layout: KvLayout,
    progress: &'m mut [Progress],
    data: &'m mut [u8],
}

impl<'m> KvCache<'m> {
    pub(crate) fn new(
        layout: KvLayout,
        sequences: usize,
        arena: &mut Arena<'m>,
    ) -> Result<KvCache<'m>, ArenaError> {
        let progress = arena.take("sequences", sequences)?;
        progress.fill(Progress::default());
        let data = arena.take("KV cache", sequences * layout.bytes)?;
        Ok(KvCache { layout, progress, data })
    }

    /// Number of sequences.
    pub(crate) fn sequences(&self) -> usize {
        self.progress.len()
    }

    /// Positions that a sequence can hold.
    pub(crate) fn context(&self) -> usize {
        self.layout.context
    }

    /// Positions that a sequence holds.
    pub(crate) fn len(&self, sequence: usize) -> usize {
        self.progress[sequence].len
    }

    /// The largest magnitude of a key or value that can be stored.
    pub(crate) fn limit(&self) -> f32 {
        match self.layout.format {
            // The largest single that is rounded to a finite half.
            KvFormat::F16 => 65_519.996,
            // A scale is a half, and the largest quant 127.
            KvFormat::Q8_0 => 127.0 * 65_504.0,
        }
    }

    /// Appends a position to a sequence; its keys and values are stored layer by layer later.
    pub(crate) fn push(&mut self, sequence: usize) -> usize {
        let p = &mut self.progress[sequence];
        p.len += 1;
        p.most = p.most.max(p.len);
        p.touched = p.touched.max(p.len);
        p.len - 1
    }

    /// Says that a sequence will hold so many positions, before it does.
    pub(crate) fn expect(&mut self, sequence: usize, positions: usize) {
        let touched = &mut self.progress[sequence].touched;
        *touched = positions.max(*touched);
    }

    /// Says that a sequence will hold what another one does, before it does.
    pub(crate) fn expect_copy(&mut self, from: usize, to: usize) {
        self.expect(to, self.progress[from].most);
    }

    /// Bytes of all sequences, and at most so many of them in pages that were touched or soon will be.
    pub(crate) fn touched(&self, page: usize) -> (usize, usize) {
        let each = self.progress.iter().map(|p| self.layout.touched(p.touched, page));
        (self.data.len(), each.sum())
    }

    /// The memory of a sequence that holds nothing, to be given back if it was touched.
    pub(crate) fn vacate(&mut self, sequence: usize) -> Option<&mut [u8]> {
        let progress = &mut self.progress[sequence];
        let was_touched = progress.len == 0 && core::mem::take(&mut progress.touched) > 0;
        was_touched.then(|| &mut self.data[sequence * self.layout.bytes..][..self.layout.bytes])
    }

    /// Takes the last [`KvCache::push`] to a sequence back.
    pub(crate) fn pop(&mut self, sequence: usize) {
        self.progress[sequence].len -= 1;
    }

    /// Forgets the positions from `len` on.
    pub(crate) fn truncate(&mut self, sequence: usize, len: usize) -> Result<(), TruncateError> {
        self.check_beginning(sequence, len)?;
        let p = &mut self.progress[sequence];
        *p = if len == 0 {
            Progress { touched: p.touched, ..Progress::default() }
        } else {
            Progress { len, ..*p }
        };
        Ok(())
    }

    /// Has a sequence hold the first `len` positions of another one in place of what it held.
    pub(crate) fn copy(&mut self, from: usize, to: usize, len: usize) -> Result<(), TruncateError> {
        self.check_beginning(from, len)?;
        let kept = if len == 0 { Progress::default() } else { self.progress[from] };
        for layer in 0..self.layout.places.len() {
            let [from, to] = [from, to].map(|sequence| self.layout.halves(sequence, layer));
            for (from, to) in from.into_iter().zip(to) {
                // Pages that no position has touched stay untouched.
                for part in self.layout.cells(layer, self.layout.used(layer, kept.most)) {
                    let source = from.start + part.start..from.start + part.end;
                    self.data.copy_within(source, to.start + part.start);
                }
            }
        }
        let touched = self.progress[to].touched;
        self.progress[to] = Progress { len, touched, ..kept };
        Ok(())
    }

    /// Whether a sequence still holds all that the position behind its first `len` would see.
    fn check_beginning(&self, sequence: usize, len: usize) -> Result<(), TruncateError> {
        let p = self.progress[sequence];
        if len > p.len {
            return Err(TruncateError::Beyond { asked: len, held: p.len });
        }
        // The next query stands at `len` and sees `window` positions back, itself included.
        for place in &self.layout.places {
            let forgotten = place.forgotten(p);
            if len > 0 && (len + 1).saturating_sub(place.window) < forgotten {
                let least = forgotten.saturating_add(place.window) - 1;
                return Err(TruncateError::Forgotten { asked: len, least });
            }
        }
        Ok(())
    }

    /// Stores the keys and values (`kv_heads · head` each) of a position in a layer.
    pub(crate) fn store(
        &mut self,
        sequence: usize,
        layer: usize,
        position: usize,
        keys: &[f32],
        values: &[f32],
        narrow: Narrow,
    ) {
        let KvLayout { format, head, kv_heads, .. } = self.layout;
        let rows = self.layout.places[layer].rows;
        let halves = self.layout.halves(sequence, layer);
        let q8_0 = [store_key_q8_0, store_value_q8_0];
        for ((source, half), store_q8_0) in [keys, values].into_iter().zip(halves).zip(q8_0) {
            let half = &mut self.data[half];
            for (h, source) in source.chunks_exact(head).enumerate() {
                let row = h * rows + position % rows;
                match format {
                    KvFormat::F16 => {
                        narrow(source, &mut cast_slice_mut(half)[row * head..][..head]);
                    }
                    KvFormat::Q8_0 => {
                        let (quants, scales) = half.split_at_mut(kv_heads * rows * head);
                        let (quants, scales) = (cast_slice_mut(quants), cast_slice_mut(scales));
                        store_q8_0(Q8CellsMut { quants, scales }, row, source);
                    }
                }
            }
        }
    }

    /// What a query at `position` attends to in one KV head of a layer.
    pub(crate) fn view(
        &self,
        sequence: usize,
        layer: usize,
        kv_head: usize,
        position: usize,
    ) -> KvView<'_> {
        let KvLayout { format, head, .. } = self.layout;
        let place = self.layout.places[layer];
        let [keys, values] = self.layout.halves(sequence, layer).map(|half| &self.data[half]);
        let cells = match format {
            KvFormat::F16 => {
                let one = place.rows * head;
                let of_head = |half| &cast_slice(half)[kv_head * one..][..one];
                KvCells::F16 { keys: of_head(keys), values: of_head(values) }
            }
            KvFormat::Q8_0 => KvCells::Q8_0 {
                keys: self.q8_0(keys, place.rows, kv_head),
                values: self.q8_0(values, place.rows, kv_head),
            },
        };
        let from = (position + 1).saturating_sub(place.window);
        KvView { cells, head, from, to: position + 1 }
    }

    /// The cells of a KV head among the keys or values of a layer: first the quants of all heads, then
    /// their scales.
    fn q8_0<'a>(&self, half: &'a [u8], rows: usize, kv_head: usize) -> Q8Cells<'a> {
        let one = rows * self.layout.head;
        let (quants, scales) = half.split_at(self.layout.kv_heads * one);
        Q8Cells {
            quants: &cast_slice(quants)[kv_head * one..][..one],
            scales: &cast_slice(scales)[kv_head * one / KV_BLOCK..][..one / KV_BLOCK],
        }
    }
}

/// A sequence cannot be cut to the length that was asked for; it is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TruncateError {
    /// It is shorter than that.
    Beyond {
        /// Length asked for.
        asked: usize,
        /// Positions that the sequence holds.
        held: usize,
    },
    /// The windowed layers no longer hold what the next position would see.
    Forgotten {
        /// Length asked for.
        asked: usize,
        /// Least length that is still possible, besides 0.
        least: usize,
    },
}

impl fmt::Display for TruncateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TruncateError::Beyond { asked, held } => {
                write!(f, "truncate to {asked} positions: the sequence holds {held}")
            }
            TruncateError::Forgotten { asked, least } => write!(
                f,
                "truncate to {asked} positions: the window's ring goes back to {least}; \
                 truncate to 0 and start again"
            ),
        }
    }
}

impl core::error::Error for TruncateError {}
