//! The tensor table.

use core::fmt;
use core::ops::Range;

use wick_kernels::Format;

use crate::cursor::Cursor;
use crate::dims::{Dims, Overflow};
use crate::error::Error;
use crate::place::Place;
use crate::types::GgmlType;

/// The number of 8-bit integers in a tensor table (`ggml_type`), which the experts of a layer in a packed file have.
pub const I8: u32 = 24;
/// Bytes of a tensor's name (GGUF specification).
pub const MAX_NAME: usize = 64;

/// A tensor of a file.
#[derive(Clone, Copy)]
pub struct Tensor<'m> {
    name: &'m str,
    dims: Dims,
    number: u32,
    /// Bytes, or `None` where wick does not read the type.
    size: Option<usize>,
    /// From the start of the data until the table is complete, from the start of the file after.
    offset: u64,
    file: &'m [u8],
}

impl<'m> Tensor<'m> {
    /// Reads and checks an entry of the table of `file`, but for its place in the data.
    pub(crate) fn read(cursor: &mut Cursor<'m>, file: &'m [u8]) -> Result<Tensor<'m>, Error<'m>> {
        let name = cursor.text(MAX_NAME)?;
        cursor.place = Place::Tensor(name);
        let dims = read_dims(cursor)?;
        let number = cursor.u32()?;
        let offset = cursor.u64()?;
        // Types that wick does not compute with are told by name before anything else of them is.
        let is_read = |(len, _): &(usize, usize)| *len == 1 || Format::from_ggml(number).is_some();
        let size = match GgmlType(number).block().filter(is_read) {
            None => None,
            Some(block) => dims.bytes(block).map_err(|Overflow| Error::TooLarge { name, dims })?,
        };
        if let Some(format) = Format::from_ggml(number).filter(|_| size.is_none()) {
            return Err(Error::Blocks { name, format, row: dims.padded()[0] });
        }
        Ok(Tensor { name, dims, number, size, offset, file })
    }

    /// Gives the tensor its place in a file of `file` bytes whose data begin at byte `data`, and
    /// checks it.
    pub(crate) fn placed(
        self,
        data: usize,
        alignment: usize,
        file: u64,
    ) -> Result<Tensor<'m>, Error<'m>> {
        let Tensor { name, offset, .. } = self;
        if !offset.is_multiple_of(alignment as u64) {
            return Err(Error::Misaligned { name, offset, alignment });
        }
        // Of an unknown format at least one byte must be there.
        let size = self.size.unwrap_or(1) as u64;
        let start = offset.saturating_add(data as u64);
        let end = start.saturating_add(size);
        if end > file {
            return Err(Error::Outside { name, start, end, file });
        }
        Ok(Tensor { offset: start, ..self })
    }

    /// Its name.
    pub fn name(&self) -> &'m str {
        self.name
    }

    /// Its dimensions.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// The number of its format, `ggml_type`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its format, if it is one that wick computes with.
    pub fn format(&self) -> Option<Format> {
        Format::from_ggml(self.number)
    }

    /// Bytes that it takes, as ggml has it; `None` if it does not know the type either.
    pub fn stored_bytes(&self) -> Option<usize> {
        self.dims.bytes(GgmlType(self.number).block()?).ok().flatten()
    }

    /// Where in the file its bytes lie; `None` if wick neither computes with the type, nor are its weights
    /// stored one by one.
    pub fn range(&self) -> Option<Range<usize>> {
        // The parser has checked that both ends lie within the file.
        let start = self.offset as usize;
        Some(start..start + self.size?)
    }

    /// Its bytes, under the condition of [`Tensor::range`] and if they are at hand.
    pub fn bytes(&self) -> Option<&'m [u8]> {
        self.file.get(self.range()?)
    }

    /// First byte, and the end of what is known to belong to the tensor.
    pub(crate) fn extent(&self) -> (u64, u64) {
        (self.offset, self.offset + self.size.unwrap_or(1) as u64)
    }

    /// Whether the tensor of a packed file has the experts of a layer, or their low-bit copies.
    pub(crate) fn is_extents(&self) -> bool {
        let after = self.name().strip_prefix("blk.");
        let middle = after.and_then(|name| {
            name.strip_suffix(".experts_tier2").or_else(|| name.strip_suffix(".experts"))
        });
        let number = middle.is_some_and(|m| !m.is_empty() && m.bytes().all(|b| b.is_ascii_digit()));
        number && self.number() == I8
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of type {} at {}", self.name, self.dims, self.number, self.offset)
    }
}

fn read_dims<'m>(cursor: &mut Cursor<'m>) -> Result<Dims, Error<'m>> {
    let (place, at) = (cursor.place, cursor.at());
    let rank = cursor.u32()?;
    if !(1..=4).contains(&rank) {
        let (expected, found) = ("1 to 4 dimensions", rank.into());
        return Err(Error::Malformed { place, at, expected, found });
    }
    let (mut sizes, rank) = ([1; 4], rank as usize);
    let mut elements = 1usize;
    for size in &mut sizes[..rank] {
        let at = cursor.at();
        let found = cursor.u64()?;
        if found == 0 {
            let expected = "a dimension greater than 0";
            return Err(Error::Malformed { place, at, expected, found });
        }
        let fits = usize::try_from(found).ok();
        let Some((d, product)) = fits.and_then(|d| Some((d, elements.checked_mul(d)?))) else {
            let expected = "dimensions whose product can be addressed";
            return Err(Error::Malformed { place, at, expected, found });
        };
        (*size, elements) = (d, product);
    }
    Ok(Dims::new(&sizes[..rank]))
}
