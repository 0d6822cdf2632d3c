//! Where the experts of a model lie in its files, and how they stand in slots.

use crate::block_file::{ALIGNMENT, BlockFile, Caching};
use crate::fault::page_size;
use crate::map::ModelFile;
use crate::open_files::TooManyFiles;
use crate::refusal::is_refusal;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use wick_core::{ExpertKey, Layer, Location, Part, TensorName, Weights, expert_layout};
use wick_kernels::{Layout, low_bit_bytes};

/// Parts of an expert.
pub(super) const PARTS: usize = Part::ALL.len();

/// Where the experts of a model lie in its files, and what a slot must hold.
#[derive(Debug)]
pub struct Catalogue {
    files: Arc<[BlockFile]>,
    layers: Vec<[Tensor; PARTS]>,
    experts: usize,
    slot_bytes: usize,
    /// CRC-32 of each part of each expert of each layer, in this order; none if they are not known.
    checksums: Vec<u32>,
    low_bit: Option<LowBit>,
}

/// Where the low-bit copies of a model's experts lie in its first file.
#[derive(Clone, Debug)]
pub struct LowBit {
    /// Those of gate, up and down, of each layer that has them, each from the start of a block.
    pub layers: Vec<Option<[Location; PARTS]>>,
    /// CRC-32 of the copies of gate, up and down of every expert, layer by layer.
    pub checksums: Vec<u32>,
}

/// The same matrix of every expert of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensor {
    /// Where it lies.
    pub(super) location: Location,
    /// Bytes of one matrix.
    pub(super) size: usize,
    /// How many there are.
    count: usize,
    /// Columns of one.
    pub(super) cols: usize,
    /// How it stands in a slot.
    pub(super) layout: Layout,
    /// Whether it stands in another way in the file: row by row.
    pub(super) is_arranged: bool,
    /// Where its room begins in a slot.
    pub(super) place: usize,
}

/// A matrix in a file, or its low-bit copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) file: usize,
    /// Where it begins.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) size: usize,
    /// CRC-32 that it has on record.
    pub(super) checksum: Option<u32>,
}

/// What is read to have a matrix: whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) len: usize,
    /// Bytes before the matrix.
    pub(super) shift: usize,
}

impl Catalogue {
    /// The experts of `weights`, of which gate, up and down of each layer lie in `files` where
    /// `experts` says. They are to stand in slots as [`expert_layout`] has it; those that the files
    /// have arranged already stay as they are. `checksums` are the CRC-32 of gate, up and down of
    /// every expert, layer by layer; empty if there are none.
    ///
    /// # Errors
    /// A file cannot be opened, has changed since it was mapped, or ends before the experts do.
    ///
    /// # Panics
    /// If there are not as many locations as layers, or if there are checksums, but not as many as
    /// matrices.
    pub fn new(
        weights: &Weights<'_>,
        files: &[ModelFile],
        experts: &[[Location; PARTS]],
        checksums: Vec<u32>,
        caching: Caching,
    ) -> Result<Catalogue, CatalogueError> {
        assert_eq!(experts.len(), weights.layers.len(), "locations of experts");
        let opened = files.iter().map(|file| open(file, caching));
        let opened: Arc<[BlockFile]> = opened.collect::<Result<Vec<_>, _>>()?.into();
        let (mut layers, mut slot_bytes) = (Vec::with_capacity(experts.len()), 0);
        for (number, (layer, locations)) in weights.layers.iter().zip(experts).enumerate() {
            let mut place = 0;
            let mut tensors = Vec::with_capacity(PARTS);
            for (part, location) in Part::ALL.into_iter().zip(locations) {
                let tensor = Tensor::new(layer, part, *location, place);
                if !files.get(location.file).is_some_and(|file| tensor.lies_in(file)) {
                    let tensor = TensorName::of_layer(number, part.role());
                    return Err(CatalogueError::Elsewhere { tensor });
                }
                place += tensor.room(&opened[location.file]);
                tensors.push(tensor);
            }
            // Slots do not share pages, so that one can be given back without another.
            slot_bytes = slot_bytes.max(place.next_multiple_of(page_size()));
            layers.push(tensors.try_into().expect("as many as parts"));
        }
        let experts = weights.layers.first().map_or(0, |layer| layer.gate.count());
        let low_bit = None;
        let catalogue =
            Catalogue { files: opened, layers, experts, slot_bytes, checksums, low_bit };
        let (found, expected) = (catalogue.checksums.len(), catalogue.matrices());
        assert!(found == 0 || found == expected, "{expected} checksums expected");
        Ok(catalogue)
    }

    /// The same, with low-bit copies of experts.
    ///
    /// # Panics
    /// If there are not as many layers and checksums as in the model.
    #[must_use]
    pub fn with_low_bit(self, low_bit: LowBit) -> Catalogue {
        assert_eq!(low_bit.layers.len(), self.layers.len(), "layers of low-bit copies");
        assert_eq!(low_bit.checksums.len(), self.matrices(), "checksums of low-bit copies");
        Catalogue { low_bit: Some(low_bit), ..self }
    }

    /// Bytes of a slot: the largest expert, each part from the start of a block, in whole pages.
    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// Bytes that a store takes besides its slots, if that many threads arrange or expand what they have
    /// read.
    pub fn scratch_bytes(&self, threads: usize) -> usize {
        self.largest_copied() * threads
    }

    /// Bytes of all parts of an expert as they lie in the file.
    pub fn expert_bytes(&self, layer: usize) -> usize {
        self.layers[layer].iter().map(|tensor| tensor.size).sum()
    }

    /// Whether there is work to do when experts have been read: they are arranged, because the files have
    /// them row by row, or low-bit copies are expanded.
    pub fn is_arranging(&self) -> bool {
        self.largest_copied() > 0
    }

    /// The files, opened for reading.
    pub fn files(&self) -> &[BlockFile] {
        &self.files
    }

    pub(super) fn shared_files(&self) -> Arc<[BlockFile]> {
        Arc::clone(&self.files)
    }

    /// Bytes of the largest matrix that is arranged, or low-bit copy; 0 if there is none.
    pub(super) fn largest_copied(&self) -> usize {
        let size = |layer, tensor: &Tensor| match (tensor.is_arranged, self.has_low_bit(layer)) {
            (true, _) => tensor.size,
            (false, true) => low_bit_bytes(tensor.size),
            (false, false) => 0,
        };
        let layers = self.layers.iter().enumerate();
        let all = layers.flat_map(|(layer, tensors)| tensors.iter().map(move |t| size(layer, t)));
        all.max().unwrap_or(0)
    }

    /// Whether there are low-bit copies of a layer's experts.
    pub(super) fn has_low_bit(&self, layer: usize) -> bool {
        self.low_bit.as_ref().is_some_and(|low| low.layers[layer].is_some())
    }

    /// What is read of a matrix, or of its low-bit copy where that is wanted.
    pub(super) fn source(&self, key: ExpertKey, part: Part, low_bit: bool) -> Source {
        let tensor = self.tensor(key.layer, part);
        let low = self.low_bit.as_ref().filter(|_| low_bit);
        match low.and_then(|low| Some((low, low.layers[key.layer]?))) {
            None => {
                let (file, size) = (tensor.location.file, tensor.size);
                let (offset, checksum) = (self.offset(key, part), self.checksum(key, part));
                Source { file, offset, size, checksum }
            }
            Some((low, locations)) => Source {
                file: locations[part as usize].file,
                offset: begin(locations[part as usize], key.expert),
                size: low_bit_bytes(tensor.size),
                checksum: low.checksums.get(self.index(key, part)).copied(),
            },
        }
    }

    pub(super) fn tensor(&self, layer: usize, part: Part) -> &Tensor {
        &self.layers[layer][part as usize]
    }

    /// Where a matrix begins in its file.
    pub(super) fn offset(&self, key: ExpertKey, part: Part) -> u64 {
        begin(self.tensor(key.layer, part).location, key.expert)
    }

    /// What is read to have a source.
    pub(super) fn span(&self, source: &Source) -> Span {
        let alignment = self.files[source.file].alignment() as u64;
        let first = source.offset;
        let offset = first / alignment * alignment;
        let end = (first + source.size as u64).next_multiple_of(alignment);
        Span { offset, len: (end - offset) as usize, shift: (first - offset) as usize }
    }

    /// The number of a matrix among all of the model.
    pub(super) fn index(&self, key: ExpertKey, part: Part) -> usize {
        (key.layer * self.experts + key.expert) * PARTS + part as usize
    }

    /// How many matrices there are.
    pub(super) fn matrices(&self) -> usize {
        self.layers.len() * self.experts * PARTS
    }

    /// CRC-32 that a matrix has on record.
    fn checksum(&self, key: ExpertKey, part: Part) -> Option<u32> {
        self.checksums.get(self.index(key, part)).copied()
    }
}

impl Tensor {
    fn new(layer: &Layer<'_>, part: Part, location: Location, place: usize) -> Tensor {
        let (matrices, layout) = (layer.experts(part), expert_layout(layer, part));
        let (size, cols, count) = (matrices.matrix_bytes(), matrices.cols(), matrices.count());
        let is_arranged = layout != matrices.layout();
        Tensor { location, size, cols, count, layout, is_arranged, place }
    }

    /// Whether all of it lies within a file.
    fn lies_in(&self, file: &ModelFile) -> bool {
        let last = self.location.stride.checked_mul(self.count as u64 - 1);
        let start = last.and_then(|last| last.checked_add(self.location.offset));
        let end = start.and_then(|start| start.checked_add(self.size as u64));
        end.is_some_and(|end| end <= file.len() as u64)
    }

    /// Bytes that its blocks take in a slot, wherever in their blocks the matrices begin.
    fn room(&self, file: &BlockFile) -> usize {
        let (block, unit) = (file.alignment().max(ALIGNMENT), file.alignment() as u64);
        let Location { offset, stride, .. } = self.location;
        let starts_blocks = offset.is_multiple_of(unit) && stride.is_multiple_of(unit);
        self.size.next_multiple_of(block) + if starts_blocks { 0 } else { block }
    }
}

/// The byte at which the matrix of an expert begins.
fn begin(location: Location, expert: usize) -> u64 {
    location.offset + location.stride * expert as u64
}

fn open(file: &ModelFile, caching: Caching) -> Result<BlockFile, CatalogueError> {
    let path = || file.path().to_owned();
    let opened = BlockFile::open(file.path(), caching);
    let opened = opened.map_err(|error| {
        let error = TooManyFiles::name(error);
        CatalogueError::Io { path: path(), error }
    })?;
    match opened.is_same(file) {
        true => Ok(opened),
        false => Err(CatalogueError::Changed { path: path() }),
    }
}

/// The experts of a model cannot be read from its files.
#[derive(Debug)]
pub enum CatalogueError {
    /// A file cannot be opened.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not the one that was mapped.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Experts do not lie in the files.
    Elsewhere {
        /// Which.
        tensor: TensorName,
    },
}

impl CatalogueError {
    /// Whether the system refuses memory for reads.
    pub fn is_refusal(&self) -> bool {
        matches!(self, CatalogueError::Io { error, .. } if is_refusal(error))
    }

    /// Whether too many files are open.
    pub fn is_of_open_files(&self) -> bool {
        matches!(self, CatalogueError::Io { error, .. } if TooManyFiles::is_in(error))
    }
}

impl fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CatalogueError::Io { path, error } => write!(f, "{}: {error}", path.display()),
            CatalogueError::Changed { path } => {
                write!(f, "{}: the file has changed while it was loaded; try again", path.display())
            }
            CatalogueError::Elsewhere { tensor } => {
                write!(f, "{tensor}: the experts are not in a file")
            }
        }
    }
}

/// The message has the cause in it, so there is no source to print after it.
impl std::error::Error for CatalogueError {}
