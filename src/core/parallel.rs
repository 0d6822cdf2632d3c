//! The door to the processor's cores, and the one place where the core hands parts of a slice to
//! several threads.
//!
//! Work is cut into tiles whose values do not depend on the cut. Threads take the next tile until none
//! is left, so who computes a tile is left to chance, but what is computed is not.

#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ops::Range;
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The platform's threads.
pub trait Parallel: Sync {
    /// How many threads [`Parallel::run`] can use, the caller's own included; at least one.
    fn threads(&self) -> usize;

    /// Calls `work` on the calling thread and, at the same time, once on each other thread that is
    /// free; returns when all calls have returned.
    fn run(&self, work: &(dyn Fn() + Sync));
}

/// No threads but the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Parallel for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, work: &(dyn Fn() + Sync)) {
        work();
    }
}

/// How the rows of a [`Grid`] are grouped into bands; a tile lies in one band.
#[derive(Clone, Copy, Debug)]
pub enum Bands<'a> {
    /// All rows are one band.
    One,
    /// Each row is a band.
    Each,
    /// Band `i` is the rows `bounds[i] .. bounds[i + 1]`.
    Bounds(&'a [usize]),
    /// Of these, the bands that are `chosen`, each once and in rising order.
    Some {
        /// As for [`Bands::Bounds`].
        bounds: &'a [usize],
        /// Which bands.
        chosen: &'a [u32],
    },
}

impl Bands<'_> {
    /// How many there are of so many rows.
    fn count(self, rows: usize) -> usize {
        match self {
            Bands::One => 1,
            Bands::Each => rows,
            Bands::Bounds(bounds) => bounds.len().saturating_sub(1),
            Bands::Some { chosen, .. } => chosen.len(),
        }
    }

    /// The band in this place, and its rows out of so many.
    fn band(self, place: usize, rows: usize) -> (usize, Range<usize>) {
        match self {
            Bands::One => (place, 0..rows),
            Bands::Each => (place, place..place + 1),
            Bands::Bounds(bounds) => (place, bounds[place]..bounds[place + 1]),
            Bands::Some { bounds, chosen } => {
                let band = chosen[place] as usize;
                (band, bounds[band]..bounds[band + 1])
            }
        }
    }
}

/// Rows of `f32` whose leading columns are to be written by several threads.
#[derive(Debug)]
pub struct Grid<'a> {
    data: &'a mut [f32],
    stride: usize,
    cols: usize,
}

impl<'a> Grid<'a> {
    /// The first `cols` columns of rows that start every `stride` elements of `data`.
    ///
    /// # Panics
    /// If `cols` is more than `stride`.
    pub fn new(data: &'a mut [f32], stride: usize, cols: usize) -> Grid<'a> {
        assert!(cols <= stride && stride > 0, "{cols} columns in rows of {stride}");
        Grid { data, stride, cols }
    }

    /// Calls `work` once for every tile of one band by up to `width` columns.
    ///
    /// # Panics
    /// If `bands` are out of order or reach past the last row.
    pub fn for_each_tile(
        self,
        parallel: &dyn Parallel,
        bands: Bands<'_>,
        width: usize,
        work: impl Fn(&mut Tile<'_>) + Sync,
    ) {
        let cuts = [0, self.cols];
        self.for_each_tile_within(parallel, bands, &cuts, width, work);
    }

    /// The same with tiles that do not cross `cuts`: columns `cuts[i] .. cuts[i + 1]` are part `i`
    /// of the grid, and each part is cut into tiles from its start.
    ///
    /// # Panics
    /// If `bands` or `cuts` are out of order or reach past the end.
    pub fn for_each_tile_within(
        self,
        parallel: &dyn Parallel,
        bands: Bands<'_>,
        cuts: &[usize],
        width: usize,
        work: impl Fn(&mut Tile<'_>) + Sync,
    ) {
        assert!(cuts.is_sorted() && cuts.last().is_none_or(|last| *last <= self.cols));
        let rows = self.data.len() / self.stride;
        if let Bands::Bounds(bounds) | Bands::Some { bounds, .. } = bands {
            assert!(bounds.is_sorted() && bounds.last().is_none_or(|last| *last <= rows));
        }
        if let Bands::Some { chosen, .. } = bands {
            assert!(chosen.is_sorted_by(|a, b| a < b), "bands {chosen:?} out of order");
        }
        let part_tiles = |part: usize| (cuts[part + 1] - cuts[part]).div_ceil(width);
        let parts = cuts.len().saturating_sub(1);
        let across: usize = (0..parts).map(part_tiles).sum();
        let data = Shared(self.data.as_mut_ptr());
        // Bands do not overlap, and tiles of a band do not share columns: tiles are disjoint.
        let tile = |i: usize| {
            let (place, mut start) = (i / across, i % across);
            let (band, rows) = bands.band(place, rows);
            let mut part = 0;
            while start >= part_tiles(part) {
                start -= part_tiles(part);
                part += 1;
            }
            let start = cuts[part] + start * width;
            let cols = start..cuts[part + 1].min(start + width);
            let (stride, data, grid) = (self.stride, data.get(), PhantomData);
            Tile { band, part, rows, cols, stride, data, grid }
        };
        for_each_index(parallel, bands.count(rows) * across, |i| work(&mut tile(i)));
    }
}

/// Most regions that indices are cut into; where there are more threads, some share one.
const REGIONS: usize = 16;

/// The next index of a region, in a cache line of its own.
#[repr(align(64))]
struct Next(AtomicUsize);

/// Calls `work` once for every index below `count`, on all threads, in no particular order.
///
/// Each thread has a region of its own, which it takes from the start: what a thread reads is one
/// piece of memory as far as may be, which comes faster than pieces by turns. A thread that is done
/// with its region helps with the next ones.
fn for_each_index(parallel: &dyn Parallel, count: usize, work: impl Fn(usize) + Sync) {
    let regions = parallel.threads().min(count).min(REGIONS);
    if regions <= 1 {
        return (0..count).for_each(work);
    }
    let start = |region: usize| region * count / regions;
    let next: [Next; REGIONS] = core::array::from_fn(|i| Next(AtomicUsize::new(start(i))));
    let arrived = AtomicUsize::new(0);
    parallel.run(&|| {
        let own = arrived.fetch_add(1, Ordering::Relaxed);
        for region in (own..own + regions).map(|i| i % regions) {
            let indices =
                core::iter::repeat_with(|| next[region].0.fetch_add(1, Ordering::Relaxed));
            indices.take_while(|i| *i < start(region + 1)).for_each(&work);
        }
    });
}

/// A pointer that threads may share because they write disjoint tiles through it.
struct Shared(*mut f32);

impl Shared {
    fn get(&self) -> *mut f32 {
        self.0
    }
}

// SAFETY: the pointer comes from a `&mut [f32]` that outlives the call it is shared in, and is
// only used to make `Tile`s, which are disjoint.
unsafe impl Sync for Shared {}

/// A rectangle of a [`Grid`] that one thread may write.
#[derive(Debug)]
pub struct Tile<'a> {
    band: usize,
    part: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    stride: usize,
    data: *mut f32,
    grid: PhantomData<&'a mut [f32]>,
}

impl Tile<'_> {
    /// The band that the tile lies in.
    pub fn band(&self) -> usize {
        self.band
    }

    /// The part of the columns that the tile lies in.
    pub fn part(&self) -> usize {
        self.part
    }

    /// The rows of the grid that the tile covers.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The columns of the grid that the tile covers.
    pub fn cols(&self) -> Range<usize> {
        self.cols.clone()
    }

    /// The tile's part of a row of the grid.
    ///
    /// # Panics
    /// If the tile does not cover the row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(self.rows.contains(&row), "row {row} of a tile of rows {:?}", self.rows);
        // SAFETY: rows and columns lie in the grid, whose slice is borrowed for `'a`; each tile is
        // made once and no two tiles share an element, so this is the only reference to these.
        unsafe {
            let start = self.data.add(row * self.stride + self.cols.start);
            slice::from_raw_parts_mut(start, self.cols.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_each_element_once() {
        let mut data = [0f32; 7 * 10];
        for bands in [Bands::One, Bands::Each, Bands::Bounds(&[0, 2, 2, 7])] {
            data.fill(0.0);
            Grid::new(&mut data, 10, 9).for_each_tile(&Serial, bands, 4, |tile| {
                for row in tile.rows() {
                    tile.row(row).iter_mut().for_each(|v| *v += 1.0);
                }
            });
            for row in data.chunks(10) {
                assert_eq!(row, [1., 1., 1., 1., 1., 1., 1., 1., 1., 0.], "{bands:?}");
            }
        }
    }

    #[test]
    fn only_chosen_bands_are_covered() {
        let mut data = [0f32; 7];
        let bands = Bands::Some { bounds: &[0, 2, 2, 5, 7], chosen: &[0, 1, 3] };
        Grid::new(&mut data, 1, 1).for_each_tile(&Serial, bands, 1, |tile| {
            let band = tile.band() as f32;
            tile.rows().for_each(|row| tile.row(row)[0] += 1.0 + band);
        });
        assert_eq!(data, [1., 1., 0., 0., 0., 4., 4.]);
    }

    #[test]
    fn tiles_stay_within_cuts() {
        let mut data = [0f32; 2 * 12];
        let cuts = [1, 6, 6, 12];
        Grid::new(&mut data, 12, 12).for_each_tile_within(&Serial, Bands::One, &cuts, 4, |tile| {
            let (part, cols) = (tile.part(), tile.cols());
            assert!(cols.start >= cuts[part] && cols.end <= cuts[part + 1] && cols.len() <= 4);
            for row in tile.rows() {
                tile.row(row).iter_mut().for_each(|v| *v += 1.0 + part as f32);
            }
        });
        for row in data.chunks(12) {
            assert_eq!(row, [0., 1., 1., 1., 1., 1., 3., 3., 3., 3., 3., 3.]);
        }
    }

    #[test]
    #[should_panic]
    fn overlapping_bands_are_refused() {
        let mut data = [0f32; 4];
        Grid::new(&mut data, 1, 1).for_each_tile(&Serial, Bands::Bounds(&[0, 3, 2]), 1, |_| ());
    }
}
