//! Weights arranged for the kernels, in memory of their own.

use crate::ModelFile;
use memmap2::{Advice, MmapMut};
use std::io;
use std::sync::{Mutex, PoisonError};
use wick_core::{Arrangement, Parallel, Piece, Weights, arranged_bytes, for_each_piece};

/// Memory that holds the weights of a model as [`wick_core::arranged`] finds them, in huge pages
/// where the system has them.
#[derive(Debug)]
pub struct ArrangedMemory {
    /// `None` if nothing is arranged.
    map: Option<MmapMut>,
}

impl ArrangedMemory {
    /// Arranges `weights` on all threads. Pages of `files` that were read for it are given back, so
    /// that weights are not held twice.
    pub fn new(
        weights: &Weights<'_>,
        what: Arrangement,
        files: &[ModelFile],
        parallel: &dyn Parallel,
    ) -> io::Result<ArrangedMemory> {
        let bytes = arranged_bytes(weights, what);
        if bytes == 0 {
            return Ok(ArrangedMemory { map: None });
        }
        let mut map = MmapMut::map_anon(bytes)?;
        if let Err(error) = map.advise(Advice::HugePage) {
            log::debug!("no huge pages: {error}");
        }
        let mut pieces = Vec::new();
        for_each_piece(weights, what, &mut map, |piece| pieces.push(piece));
        // Pieces are taken in order, so that the file is read from front to back.
        let pieces = Mutex::new(pieces.into_iter());
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        parallel.run(&|| {
            while let Some(piece) = next() {
                arrange(piece, files)
            }
        });
        Ok(ArrangedMemory { map: Some(map) })
    }

    /// The memory.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

fn arrange(piece: Piece<'_, '_>, files: &[ModelFile]) {
    let source = piece.arrange();
    files.iter().for_each(|file| file.release(source));
}
