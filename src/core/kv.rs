//! The KV cache: keys and values of past positions, as f16.
//!
//! Layers that see everything keep the whole context. Windowed layers keep a ring, as long as the
//! window and one batch together, because a batch writes its positions before it attends.

use crate::arena::{Arena, ArenaError};
use crate::config::{Config, MAX_LAYERS};
use crate::plan::Options;
use core::fmt;
use half::f16;
use wick_kernels::{KEY_TILE, KvView};

/// Where a layer's keys and values lie in the memory of a sequence.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Offset of the first key, in elements.
    start: usize,
    /// Positions kept; a multiple of [`KEY_TILE`].
    rows: usize,
    /// Positions seen by a query, or `usize::MAX`.
    window: usize,
}

/// Where everything lies in the memory of one sequence.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    places: heapless::Vec<Place, MAX_LAYERS>,
    kv_heads: usize,
    head: usize,
    context: usize,
    /// Elements of one sequence.
    pub(crate) elements: usize,
}

impl Layout {
    pub(crate) fn new(config: &Config, options: &Options) -> Layout {
        let mut start = 0;
        let places = (0..config.layers).map(|layer| {
            let window = config.layer_window(layer).unwrap_or(usize::MAX);
            let rows = options.context.min(window.saturating_add(options.batch));
            let place = Place { start, rows: rows.next_multiple_of(KEY_TILE), window };
            start += 2 * place.rows * config.kv_width();
            place
        });
        let places = places.collect();
        let (kv_heads, head, context) = (config.kv_heads, config.head, options.context);
        Layout { places, kv_heads, head, context, elements: start }
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
}

/// Keys and values of several sequences.
#[derive(Debug)]
pub(crate) struct KvCache<'m> {
    layout: Layout,
    progress: &'m mut [Progress],
    data: &'m mut [f16],
}

impl<'m> KvCache<'m> {
    pub(crate) fn new(
        layout: Layout,
        sequences: usize,
        arena: &mut Arena<'m>,
    ) -> Result<KvCache<'m>, ArenaError> {
        let progress = arena.take("sequences", sequences)?;
        progress.fill(Progress::default());
        let data = arena.take("KV cache", sequences * layout.elements)?;
        Ok(KvCache { layout, progress, data })
    }

    pub(crate) fn bytes(layout: &Layout, sequences: usize) -> usize {
        Arena::bytes_for::<Progress>(sequences)
            + Arena::bytes_for::<f16>(sequences * layout.elements)
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

    /// Appends a position to a sequence; its keys and values are stored layer by layer later.
    pub(crate) fn push(&mut self, sequence: usize) -> usize {
        let p = &mut self.progress[sequence];
        p.len += 1;
        p.most = p.most.max(p.len);
        p.len - 1
    }

    /// Takes the last [`KvCache::push`] to a sequence back.
    pub(crate) fn pop(&mut self, sequence: usize) {
        self.progress[sequence].len -= 1;
    }

    /// Forgets the positions from `len` on.
    pub(crate) fn truncate(&mut self, sequence: usize, len: usize) -> Result<(), TruncateError> {
        let p = &mut self.progress[sequence];
        if len > p.len {
            return Err(TruncateError::Beyond { asked: len, held: p.len });
        }
        // The next query stands at `len` and sees `window` positions back, itself included.
        for place in &self.layout.places {
            let forgotten = p.most.saturating_sub(place.rows);
            if len > 0 && (len + 1).saturating_sub(place.window) < forgotten {
                let least = forgotten.saturating_add(place.window) - 1;
                return Err(TruncateError::Forgotten { asked: len, least });
            }
        }
        p.len = len;
        if len == 0 {
            p.most = 0;
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
    ) {
        let (head, place) = (self.layout.head, self.layout.places[layer]);
        let half = self.layout.kv_heads * place.rows * head;
        let slab = &mut self.data[sequence * self.layout.elements + place.start..][..2 * half];
        let (key_slab, value_slab) = slab.split_at_mut(half);
        for (source, slab) in [(keys, key_slab), (values, value_slab)] {
            for (h, source) in source.chunks_exact(head).enumerate() {
                let row = h * place.rows + position % place.rows;
                for (to, from) in slab[row * head..][..head].iter_mut().zip(source) {
                    *to = f16::from_f32(*from);
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
        let (head, place) = (self.layout.head, self.layout.places[layer]);
        let (one, half) = (place.rows * head, self.layout.kv_heads * place.rows * head);
        let slab = &self.data[sequence * self.layout.elements + place.start..][..2 * half];
        KvView {
            keys: &slab[kv_head * one..][..one],
            values: &slab[half + kv_head * one..][..one],
            head,
            from: (position + 1).saturating_sub(place.window),
            to: position + 1,
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
