//! Reading forward, never past the end.

use crate::error::Error;
use crate::place::Place;

/// A position in a file, and what is being read there.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'m> {
    bytes: &'m [u8],
    at: usize,
    /// Named in errors.
    pub(crate) place: Place<'m>,
}

impl<'m> Cursor<'m> {
    /// A cursor at byte `at`, which is at most the length of `bytes`.
    pub(crate) fn new(bytes: &'m [u8], at: usize, place: Place<'m>) -> Cursor<'m> {
        Cursor { bytes, at, place }
    }

    /// Bytes from the start of the file.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: u64) -> Result<&'m [u8], Error<'m>> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let taken = taken.ok_or(Error::Cut {
            place: self.place,
            at: self.at,
            needs: count,
            left: rest.len(),
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    /// Checks that `count` things of at least `size` bytes each can follow.
    pub(crate) fn expect(&self, count: u64, size: usize) -> Result<(), Error<'m>> {
        let needs = count.saturating_mul(size as u64);
        self.clone().take(needs).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error<'m>> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error<'m>> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error<'m>> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error<'m>> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error<'m>> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length and as many bytes.
    pub(crate) fn string(&mut self) -> Result<&'m [u8], Error<'m>> {
        let len = self.u64()?;
        self.take(len)
    }

    /// A string that must be UTF-8 and at most `most` bytes.
    pub(crate) fn text(&mut self, most: usize) -> Result<&'m str, Error<'m>> {
        let start = self.at;
        let bytes = self.string()?;
        if bytes.len() > most {
            let found = bytes.len() as u64;
            return Err(self.limit(start, "bytes of name", most, found));
        }
        core::str::from_utf8(bytes).map_err(|_| Error::NotText { place: self.place, at: start })
    }

    /// The error that something at byte `at` exceeds a limit of this crate.
    pub(crate) fn limit(
        &self,
        at: usize,
        what: &'static str,
        most: usize,
        found: u64,
    ) -> Error<'m> {
        Error::Limit { place: self.place, at, what, most, found }
    }
}
