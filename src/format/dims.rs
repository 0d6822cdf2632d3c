//! The shape of a tensor.

use core::fmt;

/// One to four dimensions in GGUF's order: the first is the length of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    sizes: [usize; 4],
    rank: usize,
}

impl Dims {
    /// Dimensions from a list of at most four; more are left out.
    pub fn new(list: &[usize]) -> Dims {
        let mut sizes = [1; 4];
        sizes.iter_mut().zip(list).for_each(|(size, &d)| *size = d);
        Dims { sizes, rank: list.len().min(4) }
    }

    /// The dimensions that the file has.
    pub fn as_slice(&self) -> &[usize] {
        &self.sizes[..self.rank]
    }

    /// Four dimensions; those that the file leaves out are 1.
    pub fn padded(&self) -> [usize; 4] {
        self.sizes
    }

    /// The product; the parser has checked that it fits.
    pub fn elements(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Bytes in blocks of so many weights and bytes: `Ok(None)` if rows are no whole number of them,
    /// `Err` on overflow.
    pub(crate) fn bytes(&self, (len, bytes): (usize, usize)) -> Result<Option<usize>, Overflow> {
        let [cols, rows @ ..] = self.sizes;
        if !cols.is_multiple_of(len) {
            return Ok(None);
        }
        let row = (cols / len).checked_mul(bytes).ok_or(Overflow)?;
        rows.iter().try_fold(row, |n, &d| n.checked_mul(d)).ok_or(Overflow).map(Some)
    }
}

/// More than a number holds.
pub(crate) struct Overflow;

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, size) in self.as_slice().iter().enumerate() {
            write!(f, "{}{size}", if i == 0 { "[" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
