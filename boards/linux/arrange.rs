//! Weights arranged for the kernels, in memory of their own.

use crate::ModelFile;
use crate::identity::check_all;
use crate::slot_memory::Memory;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use wick_core::{
    Arrangement, Arranger, Layer, Parallel, Part, Piece, Section, StoreError, Weights,
    arranged_bytes, for_each_piece, take_arranged,
};

/// Memory for the arranged weights of a model, in huge pages where the system has them. It is taken
/// from the system as it is touched.
#[derive(Debug)]
pub struct ArrangedMemory {
    /// `None` if nothing is arranged.
    memory: Option<Memory>,
}

impl ArrangedMemory {
    /// Memory for all of `weights` that is arranged.
    pub fn new(weights: &Weights<'_>, what: Arrangement) -> io::Result<ArrangedMemory> {
        let bytes = arranged_bytes(weights, what);
        if bytes == 0 {
            return Ok(ArrangedMemory { memory: None });
        }
        Ok(ArrangedMemory { memory: Some(Memory::new(bytes)?) })
    }
}

/// Weights that are arranged section by section, on all threads: the LM head first, then layer by
/// layer. Pages of the files that were read for it are given back, so that weights are not held twice.
pub struct Arranging<'m> {
    weights: Weights<'m>,
    what: Arrangement,
    /// Sections that are arranged.
    done: usize,
    /// Memory that is not used yet.
    rest: &'m mut [u8],
    files: &'m [ModelFile],
    /// Of each expert of each layer: whether the system was asked to read it.
    asked: Vec<Vec<AtomicBool>>,
    parallel: &'m dyn Parallel,
}

impl<'m> Arranging<'m> {
    /// The `weights`, which lie in `files`, before anything is arranged. `memory` was made for the
    /// same weights and arrangement.
    pub fn new(
        weights: &Weights<'m>,
        what: Arrangement,
        memory: &'m mut ArrangedMemory,
        files: &'m [ModelFile],
        parallel: &'m dyn Parallel,
    ) -> Arranging<'m> {
        let done = if memory.memory.is_some() { 0 } else { sections(weights) };
        let rest = memory.memory.as_mut().map(Memory::as_mut_slice).unwrap_or_default();
        let none =
            |layer: &Layer<'_>| (0..layer.gate.count()).map(|_| AtomicBool::default()).collect();
        let asked = weights.layers.iter().map(none).collect();
        let weights = weights.clone();
        Arranging { weights, what, done, rest, files, asked, parallel }
    }

    fn arrange_section(&mut self, section: Section) {
        let what = Arrangement { section, ..self.what };
        let bytes = arranged_bytes(&self.weights, what);
        let (memory, rest) = std::mem::take(&mut self.rest).split_at_mut(bytes);
        self.rest = rest;
        let mut pieces = Vec::new();
        for_each_piece(&self.weights, what, memory, |piece| {
            will_need(self.files, piece.source());
            pieces.push(piece);
        });
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

/// The LM head and the layers.
fn sections(weights: &Weights<'_>) -> usize {
    1 + weights.layers.len()
}

impl Arranger for Arranging<'_> {
    /// # Panics
    /// If the memory is too small.
    fn arrange(&mut self, most: usize) -> usize {
        let all = sections(&self.weights);
        let end = self.done.saturating_add(most).min(all);
        while self.done < end {
            self.arrange_section(self.done.checked_sub(1).map_or(Section::LmHead, Section::Layer));
            self.done += 1;
        }
        all - end
    }

    fn weights(&self) -> &Weights<'_> {
        &self.weights
    }

    fn will_need(&self, layer: usize, experts: &[u32]) {
        let (asked, layer) = (&self.asked[layer], &self.weights.layers[layer]);
        for expert in experts.iter().map(|expert| *expert as usize) {
            if !asked[expert].swap(true, Ordering::Relaxed) {
                for part in Part::ALL {
                    will_need(self.files, layer.experts(part).expert(expert).bytes());
                }
            }
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        check_all(self.files.iter().map(ModelFile::is_unchanged))
    }
}

/// Has the system read `bytes` at once, not page by page when they are first touched.
pub(crate) fn will_need(files: &[ModelFile], bytes: &[u8]) {
    files.iter().for_each(|file| file.will_need(bytes));
}

fn arrange(piece: Piece<'_, '_>, files: &[ModelFile]) {
    let Some(source) = piece.arrange() else { return };
    files.iter().for_each(|file| file.release(source));
}
