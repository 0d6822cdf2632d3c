//! Weights arranged for the kernels, in memory of their own.

use crate::ModelFile;
use memmap2::{Advice, MmapMut};
use std::io;
use std::sync::{Mutex, PoisonError};
use wick_core::{
    Arrangement, Arranger, Parallel, Piece, Section, Weights, arranged_bytes, for_each_piece,
    take_arranged,
};

/// Memory for the arranged weights of a model, in huge pages where the system has them. It is taken
/// from the system as it is touched.
#[derive(Debug)]
pub struct ArrangedMemory {
    /// `None` if nothing is arranged.
    map: Option<MmapMut>,
}

impl ArrangedMemory {
    /// Memory for all of `weights` that is arranged.
    pub fn new(weights: &Weights<'_>, what: Arrangement) -> io::Result<ArrangedMemory> {
        let bytes = arranged_bytes(weights, what);
        if bytes == 0 {
            return Ok(ArrangedMemory { map: None });
        }
        let map = MmapMut::map_anon(bytes)?;
        if let Err(error) = map.advise(Advice::HugePage) {
            log::debug!("no huge pages: {error}");
        }
        Ok(ArrangedMemory { map: Some(map) })
    }
}

/// Weights that are arranged a layer at a time, on all threads. Pages of the files that were read for
/// it are given back, so that weights are not held twice.
pub struct Arranging<'m> {
    weights: Weights<'m>,
    what: Arrangement,
    /// The next layer.
    next: usize,
    /// Memory that is not used yet.
    rest: &'m mut [u8],
    files: &'m [ModelFile],
    parallel: &'m dyn Parallel,
}

impl<'m> Arranging<'m> {
    /// Arranges of `weights`, which lie in `files`, what comes after the layers. `memory` was made
    /// for the same weights and arrangement.
    ///
    /// # Panics
    /// If the memory is too small.
    pub fn new(
        weights: &Weights<'m>,
        what: Arrangement,
        memory: &'m mut ArrangedMemory,
        files: &'m [ModelFile],
        parallel: &'m dyn Parallel,
    ) -> Arranging<'m> {
        let next = if memory.map.is_some() { 0 } else { weights.layers.len() };
        let (weights, rest) = (weights.clone(), memory.map.as_deref_mut().unwrap_or_default());
        let mut arranging = Arranging { weights, what, next, rest, files, parallel };
        arranging.arrange_section(Section::Output);
        arranging
    }

    fn arrange_section(&mut self, section: Section) {
        let what = Arrangement { section, ..self.what };
        let bytes = arranged_bytes(&self.weights, what);
        let (memory, rest) = std::mem::take(&mut self.rest).split_at_mut(bytes);
        self.rest = rest;
        let mut pieces = Vec::new();
        for_each_piece(&self.weights, what, memory, |piece| pieces.push(piece));
        // Pieces are taken in order, so that the file is read from front to back.
        let pieces = Mutex::new(pieces.into_iter());
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        self.parallel.run(&|| {
            while let Some(piece) = next() {
                arrange(piece, self.files)
            }
        });
        drop(pieces);
        take_arranged(&mut self.weights, what, memory);
    }
}

impl Arranger for Arranging<'_> {
    fn arrange(&mut self, layers: usize) -> usize {
        let all = self.weights.layers.len();
        let end = self.next.saturating_add(layers).min(all);
        for layer in std::mem::replace(&mut self.next, end)..end {
            self.arrange_section(Section::Layer(layer));
        }
        all - end
    }

    fn weights(&self) -> &Weights<'_> {
        &self.weights
    }
}

fn arrange(piece: Piece<'_, '_>, files: &[ModelFile]) {
    let source = piece.arrange();
    files.iter().for_each(|file| file.release(source));
}
