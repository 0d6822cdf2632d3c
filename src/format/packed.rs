//! Packed files: what `wick pack` writes. `src/format/README.md` draws one and tells its keys.
//!
//! A packed file is a GGUF file of version 3 whose weights stand as the kernels want them
//! ([`wick_kernels::Layout`]), so that dense tensors are mapped and used in place, and each expert is
//! one contiguous piece that can be read by itself, gate first, past the page cache (`O_DIRECT`).

use core::fmt::Write;

use heapless::String;
use wick_core::{Config, ExpertKey, ExpertMatrices, Location, Part, TensorName};
use wick_kernels::{Format, Layout, low_bit_bytes};

use crate::dims::Dims;
use crate::error::Error;
use crate::gguf::{Entry, Gguf};
use crate::head::{self, Identity};
use crate::kind::Kind;
use crate::tensor::{I8, MAX_NAME, Tensor};
use crate::value::{Array, Value};

/// The version of packed files that is written; it and those before are read.
pub const PACK_VERSION: u32 = 2;
/// Every tensor, and every part of an expert, begins at a multiple of this.
pub const EXTENT_ALIGNMENT: usize = 4096;

/// Keys of packed files.
#[derive(Clone, Copy, Debug)]
pub struct Keys;

impl Keys {
    /// What wick's keys begin with.
    pub const PREFIX: &str = "wick.";
    /// Version of the arrangement; says that the file is packed.
    pub const VERSION: &str = "wick.pack.version";
    /// Checksum of header, metadata and tensor table; none in version 1.
    pub const HEAD_CHECKSUM: &str = "wick.pack.head_crc32";
    /// Alignment of the input.
    pub const ALIGNMENT: &str = "wick.pack.alignment";
    /// Tensors of the input.
    pub const TENSORS: &str = "wick.pack.tensors";
    /// Layout of each tensor.
    pub const LAYOUTS: &str = "wick.pack.layouts";
    /// Checksum of each tensor.
    pub const CHECKSUMS: &str = "wick.pack.crc32";
    /// Neurons of an expert.
    pub const WIDTH: &str = "wick.experts.width";
    /// Formats of experts.
    pub const EXPERT_FORMATS: &str = "wick.experts.formats";
    /// Layouts of experts.
    pub const EXPERT_LAYOUTS: &str = "wick.experts.layouts";
    /// Orientation of downs.
    pub const BY_NEURON: &str = "wick.experts.by_neuron";
    /// Checksums of experts.
    pub const EXPERT_CHECKSUMS: &str = "wick.experts.crc32";
    /// The layout that tensors of experts have in [`Keys::LAYOUTS`].
    pub const EXPERTS: &str = "experts";
    /// Checksums of low-bit copies; says that there are some.
    pub const LOW_BIT_CHECKSUMS: &str = "wick.tier2.crc32";
    /// The layout that tensors of low-bit copies have in [`Keys::LAYOUTS`].
    pub const LOW_BIT: &str = "tier2";
    /// The layout that sections have in [`Keys::LAYOUTS`].
    pub const SECTION: &str = "section";
    /// The section with the sketch of the LM head.
    pub const SKETCH: &str = "sketch";
}

/// What a packed file says of its arrangement.
#[derive(Clone, Copy)]
pub struct Packed<'a, 'm> {
    file: &'a Gguf<'m>,
    version: Entry<'m>,
    identity: Identity,
    width: usize,
    tensors: Array<'m>,
    layouts: Array<'m>,
    checksums: Array<'m>,
    formats: Array<'m>,
    expert_layouts: Array<'m>,
    by_neuron: Array<'m>,
    expert_checksums: Array<'m>,
    low_bit_checksums: Option<Array<'m>>,
    experts: usize,
}

impl<'a, 'm> Packed<'a, 'm> {
    /// Reads wick's keys; `None` if the file is not packed.
    pub(crate) fn read(file: &'a Gguf<'m>) -> Result<Option<Packed<'a, 'm>>, Error<'m>> {
        let Some(version) = file.get(Keys::VERSION) else { return Ok(None) };
        if !(1..=PACK_VERSION).contains(&version.u32()?) {
            return Err(version.refuse("1 or 2 (pack the model again with this wick)"));
        }
        let alignment = file.need("general.alignment")?;
        if !(alignment.u32()? as usize).is_multiple_of(EXTENT_ALIGNMENT) {
            return Err(alignment.refuse("a multiple of 4096 in a packed file"));
        }
        let layers = file.need("smallthinker.block_count")?.u32()? as usize;
        let experts = file.need("smallthinker.expert_count")?.u32()? as usize;
        let (tensors, parts) = (file.tensor_count(), layers.saturating_mul(Part::ALL.len()));
        let array = |key, kind, len, expected| {
            let entry = file.need(key)?;
            let array = entry.array()?;
            let fits = array.kind() == kind && array.len() == len;
            if fits { Ok(array) } else { Err(entry.refuse(expected)) }
        };
        let each_tensor = "an array with a string for each tensor";
        let crc_tensor = "an array with a u32 for each tensor";
        let each_part = "an array with three strings for each layer";
        let format = "an array with three u32 for each layer";
        let crc = "an array with three u32 for each expert of each layer";
        let neuron = "an array with a bool for each layer";
        let names = file.need(Keys::TENSORS)?;
        let low_bit = file
            .get(Keys::LOW_BIT_CHECKSUMS)
            .map(|_| array(Keys::LOW_BIT_CHECKSUMS, Kind::U32, parts.saturating_mul(experts), crc));
        let strings = names.array()?;
        if strings.kind() != Kind::String {
            return Err(names.refuse("an array of strings"));
        }
        let own = match version.u32()? {
            1 => file.get(Keys::HEAD_CHECKSUM),
            _ => Some(file.need(Keys::HEAD_CHECKSUM)?),
        };
        let expected = own.map(|own| own.u32()).transpose()?;
        let found = head::checksum(file.head(), file.value_at(Keys::HEAD_CHECKSUM));
        let packed = Packed {
            file,
            version,
            identity: Identity { checksum: found, bytes: file.file_len() },
            width: file.need(Keys::WIDTH)?.u32()? as usize,
            tensors: strings,
            layouts: array(Keys::LAYOUTS, Kind::String, tensors, each_tensor)?,
            checksums: array(Keys::CHECKSUMS, Kind::U32, tensors, crc_tensor)?,
            formats: array(Keys::EXPERT_FORMATS, Kind::U32, parts, format)?,
            expert_layouts: array(Keys::EXPERT_LAYOUTS, Kind::String, parts, each_part)?,
            by_neuron: array(Keys::BY_NEURON, Kind::Bool, layers, neuron)?,
            expert_checksums: array(
                Keys::EXPERT_CHECKSUMS,
                Kind::U32,
                parts.saturating_mul(experts),
                crc,
            )?,
            low_bit_checksums: low_bit.transpose()?,
            experts,
        };
        // Last, since what else is wrong says more.
        match expected.filter(|expected| *expected != found) {
            Some(expected) => Err(Error::Head { expected, found }),
            None => Ok(Some(packed)),
        }
    }

    /// The error that a packed file is one of several.
    pub(crate) fn refuse_parts(&self) -> Error<'m> {
        self.version.refuse("no such key in a split model")
    }

    /// Version of the arrangement. Of version 1 header, metadata and tensor table have no checksum.
    pub fn version(&self) -> u32 {
        self.version.u32().unwrap_or_default()
    }

    /// Which model the file is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The bytes of an optional section, such as [`Keys::SKETCH`] for the tensor `wick.sketch`; `None` if
    /// there is none, or its bytes are not at hand. [`Packed::checksums`] has one for each.
    pub fn section(&self, name: &str) -> Option<&'m [u8]> {
        let mut sections = self.file.tensors().filter(is_section);
        let section =
            sections.find(|tensor| tensor.name().strip_prefix(Keys::PREFIX) == Some(name));
        section?.bytes()
    }

    /// Neurons of an expert.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Names of the tensors of the file that was packed, in its order.
    pub fn tensors(&self) -> impl Iterator<Item = &'m [u8]> {
        self.tensors.strings().into_iter().flatten()
    }

    /// Whether a tensor of the table is none of the input's: it has the experts of a layer, low-bit
    /// copies of them, or an optional section, which may be one that is not known yet.
    pub fn is_own(&self, tensor: &Tensor<'_>) -> bool {
        is_own(tensor)
    }

    /// How the tensor of this name is arranged, as the file says it; empty if there is no such tensor.
    pub fn layout_name(&self, name: &str) -> &'m str {
        let layouts = self.layouts.strings().into_iter().flatten();
        let mut all = self.file.tensors().zip(layouts);
        let found = all.find(|(tensor, _)| tensor.name() == name);
        found.and_then(|(_, layout)| core::str::from_utf8(layout).ok()).unwrap_or_default()
    }

    /// CRC-32 of each tensor of the table; those of experts have none of their own.
    pub fn checksums(&self) -> impl Iterator<Item = u32> {
        let values = self.checksums.integers().into_iter().flatten();
        values.map(|crc| crc as u32)
    }

    /// CRC-32 of a part of an expert; `None` if there is no such expert.
    pub fn checksum(&self, key: ExpertKey, part: Part) -> Option<u32> {
        let expert = (key.expert < self.experts).then_some(key.expert)?;
        let index = key.layer.checked_mul(self.experts)?.checked_add(expert)?;
        let index = index.checked_mul(Part::ALL.len())?.checked_add(part as usize)?;
        Some(self.expert_checksums.integers()?.nth(index)? as u32)
    }

    /// CRC-32 of gate, up and down of every expert, layer by layer.
    pub fn expert_checksums(&self) -> impl Iterator<Item = u32> {
        self.expert_checksums.integers().into_iter().flatten().map(|crc| crc as u32)
    }

    /// CRC-32 of the low-bit copies of gate, up and down of every expert, layer by layer; empty if there
    /// are no copies.
    pub fn low_bit_checksums(&self) -> impl Iterator<Item = u32> {
        let checksums = self.low_bit_checksums.as_ref().and_then(|all| all.integers());
        checksums.into_iter().flatten().map(|crc| crc as u32)
    }

    /// Where the low-bit copies of a layer's experts lie; `None` if the layer has none.
    ///
    /// # Errors
    /// The file contradicts itself or the shape.
    pub fn low_bit(
        &self,
        config: &Config,
        layer: usize,
    ) -> Result<Option<PackedLayer<'m>>, Error<'m>> {
        let name = low_bit_name(layer);
        if self.low_bit_checksums.is_none() || self.file.tensor(&name).is_none() {
            return Ok(None);
        }
        self.extents(config, layer, &name, |matrices| match matrices.format() {
            Format::Q4_0 => Some(low_bit_bytes(matrices.matrix_bytes())),
            _ => None,
        })
        .map(Some)
    }

    /// Where the experts of a layer lie and how they are arranged, in a model of this shape.
    ///
    /// # Errors
    /// The file contradicts itself or the shape.
    pub fn layer(&self, config: &Config, layer: usize) -> Result<PackedLayer<'m>, Error<'m>> {
        let size = |matrices: &ExpertMatrices<'m>| Some(matrices.matrix_bytes());
        self.extents(config, layer, &extents_name(layer), size)
    }

    /// Where a tensor has something of `size` for each matrix of a layer's experts.
    fn extents(
        &self,
        config: &Config,
        layer: usize,
        name: &str,
        size: impl Fn(&ExpertMatrices<'m>) -> Option<usize>,
    ) -> Result<PackedLayer<'m>, Error<'m>> {
        let Some(Value::Bool(by_neuron)) = self.by_neuron.iter().nth(layer) else {
            return Err(Error::MissingExtents { layer });
        };
        let mut stride = 0usize;
        let mut parts = [None; 3];
        for (place, part) in parts.iter_mut().zip(Part::ALL) {
            let matrices = self.matrices(config, layer, part, by_neuron)?;
            let bytes = size(&matrices).ok_or(Error::MissingExtents { layer })?;
            *place = Some(PackedPart { matrices, offset: stride, bytes });
            stride = bytes
                .checked_next_multiple_of(EXTENT_ALIGNMENT)
                .and_then(|room| stride.checked_add(room))
                .unwrap_or(usize::MAX);
        }
        let [Some(gate), Some(up), Some(down)] = parts else {
            return Err(Error::MissingExtents { layer });
        };
        let tensor = self.file.tensor(name).filter(|tensor| tensor.number() == I8);
        let tensor = tensor.ok_or(Error::MissingExtents { layer })?;
        let (expected, found) = (Dims::new(&[stride, config.experts]), tensor.dims());
        if expected.padded() != found.padded() {
            return Err(Error::Extents { layer, expected, found });
        }
        let start = tensor.extent().0;
        let parts = [gate, up, down];
        Ok(PackedLayer { start, stride, parts, by_neuron, bytes: tensor.bytes() })
    }

    /// Shape, format and layout of a part of a layer's experts, whose bytes lie elsewhere.
    fn matrices(
        &self,
        config: &Config,
        layer: usize,
        part: Part,
        by_neuron: bool,
    ) -> Result<ExpertMatrices<'m>, Error<'m>> {
        let index = layer.saturating_mul(Part::ALL.len()).saturating_add(part as usize);
        let number = self.formats.integers().and_then(|mut all| all.nth(index)).unwrap_or(-1);
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let tensor = TensorName::of_layer(layer, part.role());
        let format = Format::from_ggml(number).ok_or(Error::Format { tensor, number })?;
        let found = self.expert_layouts.strings().and_then(|mut all| all.nth(index));
        let found = core::str::from_utf8(found.unwrap_or_default()).unwrap_or_default();
        let shape = tensor.role.shape_in(config, by_neuron);
        let (rows, cols, layout) = (shape.rows(), shape.cols(), Layout::from_name(found));
        let matrices = layout.and_then(|layout| {
            ExpertMatrices::elsewhere(format, layout, shape.count(), rows, cols)
        });
        matrices.ok_or(Error::Layout { tensor, format, rows, cols, found })
    }
}

/// The experts of a layer of a packed file, or their low-bit copies.
#[derive(Clone, Copy, Debug)]
pub struct PackedLayer<'m> {
    /// The byte of the file at which the first expert begins.
    pub start: u64,
    /// Bytes from one expert to the next.
    pub stride: usize,
    /// Gate, up and down.
    pub parts: [PackedPart<'m>; 3],
    by_neuron: bool,
    bytes: Option<&'m [u8]>,
}

/// The same matrix of every expert of a layer of a packed file.
#[derive(Clone, Copy, Debug)]
pub struct PackedPart<'m> {
    /// Shape, format and layout; of copies, those of what they stand for.
    pub matrices: ExpertMatrices<'m>,
    /// Bytes from the start of an expert to the matrix.
    pub offset: usize,
    /// Bytes of the matrix; zeros follow up to a multiple of [`EXTENT_ALIGNMENT`].
    pub bytes: usize,
}

impl<'m> PackedLayer<'m> {
    /// The byte of the file at which a part of an expert begins.
    pub fn offset(&self, expert: usize, part: Part) -> u64 {
        self.start + (expert * self.stride + self.parts[part as usize].offset) as u64
    }

    /// The byte of the file after a part of an expert; zeros follow.
    pub fn end(&self, expert: usize, part: Part) -> u64 {
        self.offset(expert, part) + self.parts[part as usize].bytes as u64
    }

    /// All bytes of the layer's experts, if they are at hand.
    pub fn bytes(&self) -> Option<&'m [u8]> {
        self.bytes
    }

    /// Whether down has a row for each neuron.
    pub fn is_by_neuron(&self) -> bool {
        self.by_neuron
    }

    /// Where a part of the experts lies.
    pub fn location(&self, part: Part) -> Location {
        Location { file: 0, offset: self.offset(0, part), stride: self.stride as u64 }
    }

    /// Where gate, up and down lie.
    pub fn locations(&self) -> [Location; 3] {
        Part::ALL.map(|part| self.location(part))
    }

    /// A part of the experts as the engine wants it; without bytes if they are not at hand.
    pub(crate) fn matrices(&self, part: Part) -> ExpertMatrices<'m> {
        let PackedPart { matrices, offset, .. } = self.parts[part as usize];
        let bytes = self.bytes.and_then(|bytes| bytes.get(offset..));
        // The dimensions have been checked, so that placing cannot fail.
        bytes.and_then(|bytes| matrices.placed(self.stride, bytes)).unwrap_or(matrices)
    }
}

/// The name of the tensor with a layer's experts.
pub(crate) fn extents_name(layer: usize) -> String<MAX_NAME> {
    let mut name = String::new();
    // Any number fits.
    let written = write!(name, "blk.{layer}.experts");
    debug_assert!(written.is_ok());
    name
}

/// The name of the tensor with the low-bit copies of a layer's experts.
fn low_bit_name(layer: usize) -> String<MAX_NAME> {
    let mut name = String::new();
    // Any number fits.
    let written = write!(name, "blk.{layer}.experts_tier2");
    debug_assert!(written.is_ok());
    name
}

/// Whether a tensor of a packed file is an optional section.
fn is_section(tensor: &Tensor<'_>) -> bool {
    tensor.name().starts_with(Keys::PREFIX) && tensor.number() == I8
}

/// Whether a tensor of a packed file is none of the file that was packed.
pub(crate) fn is_own(tensor: &Tensor<'_>) -> bool {
    tensor.is_extents() || is_section(tensor)
}
