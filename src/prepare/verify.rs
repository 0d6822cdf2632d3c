//! Checking packed files.

use crate::Error;
use crate::ordered::break_off;
use std::fmt;
use std::ops::ControlFlow;
use wick_core::{ExpertKey, Part, StoreError, StoreReason};
use wick_format::{EXTENT_ALIGNMENT, Model, Overrides, Packed, PackedLayer, Tensor};

/// Something in a packed file that is not what was packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A matrix of an expert.
    Expert(StoreError),
    /// A tensor that every token may need.
    Tensor {
        /// Its name.
        name: String,
        /// The byte of the file at which it begins.
        offset: u64,
        /// CRC-32 that the file has on record.
        expected: u32,
        /// CRC-32 of its bytes.
        found: u32,
    },
    /// What stands between tensors, or between the matrices of an expert, is not zero.
    Padding {
        /// The byte of the file.
        offset: u64,
        /// Its value.
        found: u8,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Expert(error) => error.fmt(f),
            Damage::Tensor { name, offset, expected, found } => write!(
                f,
                "{name}, at byte {offset}: CRC-32 {expected:08x} expected, {found:08x} found; the \
                 file is damaged: copy or pack it again"
            ),
            Damage::Padding { offset, found } => write!(
                f,
                "padding at byte {offset}: 0 expected, {found} found; the file is damaged: copy or \
                 pack it again"
            ),
        }
    }
}

/// Compares all tensors of a packed model with their checksums and returns how many bytes that were.
/// Header, metadata and tensor table were compared when the model was read, but for a file of version 1.
/// `found` is told what is wrong, `done` which bytes of the file are not needed any more; it may
/// break off.
///
/// # Errors
/// The model is not packed, the file contradicts itself, or checking was broken off.
pub fn verify<'m>(
    model: Model<'_, 'm>,
    mut found: impl FnMut(Damage),
    mut done: impl FnMut(&'m [u8]) -> ControlFlow<()>,
) -> Result<u64, Error> {
    let refusal = |message: String| Error::Input { message };
    let packed = model.packed().ok_or_else(|| refusal("the file is not packed".into()))?;
    let config = model.config(Overrides::default())?;
    let weights = model.weights(&config)?;
    weights.check_layouts().map_err(|e| refusal(e.to_string()))?;
    let file = model.metadata().bytes();
    check_padding(file, model.metadata().head().len() as u64).unwrap_or_else(&mut found);
    let mut bytes = 0;
    let sums: [Vec<u32>; 2] =
        [packed.expert_checksums().collect(), packed.low_bit_checksums().collect()];
    let mut layers = Vec::new();
    for layer in 0..config.layers {
        layers.push((layer, packed.layer(&config, layer)?, &sums[0]));
        layers.extend(packed.low_bit(&config, layer)?.map(|place| (layer, place, &sums[1])));
    }
    for (index, tensor) in model.tensors().enumerate() {
        let Some(range) = tensor.range() else { continue };
        let whole = &file[range.clone()];
        let layer = layers.iter().find(|(_, place, _)| place.start == range.start as u64);
        match layer {
            None => {
                check_tensor(&packed, &tensor, index).unwrap_or_else(&mut found);
                break_off(done(whole))?;
            }
            Some(&(layer, ref place, sums)) => {
                for (expert, extent) in whole.chunks(place.stride).enumerate() {
                    let key = ExpertKey { layer, expert };
                    let first = (layer * config.experts + expert) * Part::ALL.len();
                    for (part, expected) in Part::ALL.into_iter().zip(&sums[first..]) {
                        check_expert(*expected, place, key, part).unwrap_or_else(&mut found);
                        check_padding(file, place.end(expert, part)).unwrap_or_else(&mut found);
                    }
                    break_off(done(extent))?;
                }
            }
        }
        check_padding(file, range.end as u64).unwrap_or_else(&mut found);
        bytes += whole.len() as u64;
    }
    Ok(bytes)
}

/// Compares a tensor, the `index`-th of the table, with its checksum.
pub(crate) fn check_tensor(
    packed: &Packed<'_, '_>,
    tensor: &Tensor<'_>,
    index: usize,
) -> Result<(), Damage> {
    let expected = packed.checksums().nth(index).unwrap_or_default();
    let found = crc32fast::hash(tensor.bytes().unwrap_or_default());
    let offset = tensor.range().map_or(0, |range| range.start as u64);
    let name = || tensor.name().to_owned();
    if expected == found {
        return Ok(());
    }
    Err(Damage::Tensor { name: name(), offset, expected, found })
}

/// Compares a matrix of an expert, or a low-bit copy, with its checksum.
pub(crate) fn check_expert(
    expected: u32,
    layer: &PackedLayer<'_>,
    key: ExpertKey,
    part: Part,
) -> Result<(), Damage> {
    let matrix = layer.parts[part as usize];
    let start = key.expert * layer.stride + matrix.offset;
    let bytes = &layer.bytes().unwrap_or_default()[start..][..matrix.bytes];
    let found = crc32fast::hash(bytes);
    if expected == found {
        return Ok(());
    }
    let reason = StoreReason::Checksum { expected, found };
    let offset = layer.offset(key.expert, part);
    Err(Damage::Expert(StoreError { at: Some((key, part)), file: 0, offset, reason }))
}

/// Checks the zeros between `start` and the next multiple of the alignment, or the end of the file.
fn check_padding(file: &[u8], start: u64) -> Result<(), Damage> {
    let start = start as usize;
    let end = start.next_multiple_of(EXTENT_ALIGNMENT).min(file.len());
    let zeros = file.get(start..end).unwrap_or_default();
    match zeros.iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => Err(Damage::Padding { offset: (start + at) as u64, found: zeros[at] }),
    }
}
