//! A model on a disk: what every token needs is read into memory, experts stay where they are.

use crate::image::exit::{Exit, Failure};
use crate::image::virtio::Disk;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::fmt::Display;
use wick_core::{Config, ExpertKey, Part, StoreError, TensorName, Weights};
use wick_format::{Error, Gguf, Overrides, Packed};
use wick_text::Tokenizer;
use wick_virt::disk::{self, Disk as _, SECTOR};
use wick_virt::store::{Extent, Extents};

/// Bytes that are read at first, to see how much there is to read.
const PROBE: usize = 128 << 10;
/// A length of a file that any tensor lies in. That experts lie on the disk is for the store to say, which
/// knows each by its number.
const ANY: u64 = u64::MAX;

/// A model, and what of it is in memory.
pub(crate) struct Model {
    pub(crate) config: Config,
    pub(crate) weights: Weights<'static>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) chat_template: Option<&'static str>,
    /// Where experts lie and their checksums, if the file is packed and they are not in memory.
    pub(crate) experts: Option<(Vec<Extents>, Vec<u32>)>,
}

impl Model {
    /// Reads a model into the beginning of `region` and returns the rest with it. With `whole` its experts
    /// are read as well, as they always are if the file is not packed.
    pub(crate) fn read(
        disk: &mut Disk,
        region: &'static mut [u8],
        whole: bool,
        timeout: u64,
    ) -> Result<(Model, &'static mut [u8]), Failure> {
        let capacity = disk.capacity();
        let (region, front) = read_tables(disk, region, timeout)?;
        let (len, file) = match front {
            Some(front) if !whole => (front, ANY),
            _ => (capacity, capacity),
        };
        let len = (len as usize).next_multiple_of(SECTOR);
        if len > region.len() {
            let message = format_args!("{len} bytes to be read, room for {}", region.len());
            return Err(Failure::new(Exit::Memory, message));
        }
        let region = disk::read(disk, 0, region, len, timeout).map_err(blame_disk)?;
        let (bytes, rest) = region.split_at_mut(len);
        log::info!("model: {len} of {capacity} bytes read");

        let gguf = Gguf::parse_front(bytes, file).map_err(blame)?;
        let files: &'static [Gguf<'static>] = Box::leak(Box::new([gguf]));
        let model = wick_format::Model::new(files).map_err(blame)?;
        let config = model.config(Overrides::default()).map_err(blame)?;
        let weights = model.weights(&config).map_err(blame)?;
        let mut experts = None;
        if let Some(packed) = model.packed() {
            check_dense(&files[0], &packed)?;
            if whole {
                check_experts(&files[0], &packed, &config)?;
            } else {
                experts = Some(extents(&packed, &config)?);
            }
        }
        let template = files[0].get("tokenizer.chat_template").map(|entry| entry.str());
        let chat_template = template.transpose().map_err(blame)?;
        let tokenizer = wick_session::tokenizer(&files[0]).map_err(blame)?;
        Ok((Model { config, weights, tokenizer, chat_template, experts }, rest))
    }
}

/// Reads as much as it takes to know how many bytes every token needs: `None` for all, if the file is not
/// packed.
fn read_tables(
    disk: &mut Disk,
    mut region: &'static mut [u8],
    timeout: u64,
) -> Result<(&'static mut [u8], Option<u64>), Failure> {
    let most = disk.capacity().min(region.len() as u64 / SECTOR as u64 * SECTOR as u64) as usize;
    let mut len = PROBE.min(most);
    loop {
        region = disk::read(disk, 0, region, len, timeout).map_err(blame_disk)?;
        match Gguf::parse_front(&region[..len], ANY) {
            Ok(gguf) => {
                let front = gguf.front_len();
                return Ok((region, Some(front).filter(|front| *front < ANY)));
            }
            Err(Error::Cut { .. }) if len < most => len = most.min(4 * len),
            Err(error) => return Err(blame(error)),
        }
    }
}

/// An error in the model.
pub(crate) fn blame(error: impl Display) -> Failure {
    Failure::new(Exit::Model, format_args!("the model on the disk: {error}"))
}

/// An error of the disk, with its place.
pub(crate) fn blame_disk(error: StoreError) -> Failure {
    match error.at {
        Some(_) => Failure::new(Exit::Model, format_args!("disk: {error}")),
        None => Failure::new(Exit::Model, format_args!("disk: at byte {}: {error}", error.offset)),
    }
}

/// Compares the checksums of all tensors but those of experts.
fn check_dense(gguf: &Gguf<'_>, packed: &Packed<'_, '_>) -> Result<(), Failure> {
    for (tensor, expected) in gguf.tensors().zip(packed.checksums()) {
        let Some(bytes) = tensor.bytes().filter(|_| tensor.format().is_some()) else { continue };
        let start = tensor.range().map_or(0, |range| range.start);
        compare(bytes, expected, || format!("{}, at byte {start}", tensor.name()))?;
    }
    Ok(())
}

/// Compares the checksums of experts that are in memory.
fn check_experts(gguf: &Gguf<'_>, packed: &Packed<'_, '_>, config: &Config) -> Result<(), Failure> {
    for layer in 0..config.layers {
        let extents = packed.layer(config, layer).map_err(blame)?;
        for expert in 0..config.experts {
            for part in Part::ALL {
                let at = extents.offset(expert, part);
                let bytes = gguf.bytes().get(at as usize..).unwrap_or_default();
                let bytes = bytes.get(..extents.parts[part as usize].bytes).unwrap_or_default();
                let expected = packed.checksum(ExpertKey { layer, expert }, part);
                compare(bytes, expected.unwrap_or_default(), || {
                    let tensor = TensorName::of_layer(layer, part.role());
                    format!("{tensor}, expert {expert}, at byte {at}")
                })?;
            }
        }
    }
    Ok(())
}

fn compare(
    bytes: &[u8],
    expected: u32,
    what: impl Fn() -> alloc::string::String,
) -> Result<(), Failure> {
    let found = crc32fast::hash(bytes);
    if found == expected {
        return Ok(());
    }
    let what = what();
    Err(blame(format_args!(
        "{what}: CRC-32 {expected:08x} expected, {found:08x} found; the file is damaged: copy or pack \
         it again"
    )))
}

/// Where the experts of all layers lie, and their checksums.
fn extents(packed: &Packed<'_, '_>, config: &Config) -> Result<(Vec<Extents>, Vec<u32>), Failure> {
    let mut layers = Vec::with_capacity(config.layers);
    let mut checksums = Vec::with_capacity(config.layers * config.experts * Part::ALL.len());
    for layer in 0..config.layers {
        let found = packed.layer(config, layer).map_err(blame)?;
        let parts = found.parts.map(|part| Extent {
            offset: part.offset,
            bytes: part.bytes,
            layout: part.matrices.layout(),
        });
        layers.push(Extents { start: found.start, stride: found.stride, parts });
        for expert in 0..config.experts {
            let checksum = |part| packed.checksum(ExpertKey { layer, expert }, part);
            checksums.extend(Part::ALL.map(|part| checksum(part).unwrap_or_default()));
        }
    }
    Ok((layers, checksums))
}
