//! The tokens' bytes, end to end in one array, and the way back from bytes to an id.

use alloc::vec::Vec;

use crate::alphabet::stored_byte;
use crate::error::Error;
use crate::vocabulary::Kind;

/// A slot of the hash table that holds no id.
const EMPTY: u32 = u32::MAX;

/// Slots tried in vain for each token, on average, from which on the table counts as flooded. An honest table
/// of this load tries about two.
const MOST_TRIES: usize = 64;

/// All tokens by id, and an open-addressing table from bytes to ids.
#[derive(Debug)]
pub(crate) struct Tokens {
    bytes: Vec<u8>,
    /// Token `id` is `bytes[offsets[id]..offsets[id + 1]]`.
    offsets: Vec<u32>,
    kinds: Vec<Kind>,
    /// A power of two of slots, at most 3/4 of them taken.
    slots: Vec<u32>,
}

impl Tokens {
    /// Reads the stored tokens; `kind_of` gives the kind of a token by id and stored text.
    pub(crate) fn read<'a>(
        stored: impl Iterator<Item = &'a [u8]> + Clone,
        mut kind_of: impl FnMut(usize, &str) -> Result<Kind, Error>,
    ) -> Result<Self, Error> {
        let mut tokens = Self::with_room_for(stored.clone())?;
        for (id, token) in stored.enumerate() {
            let text = core::str::from_utf8(token)
                .map_err(|error| Error::TokenNotUtf8 { token: id, valid: error.valid_up_to() })?;
            let kind = kind_of(id, text)?;
            tokens.push(text, kind)?;
        }
        tokens.bytes.shrink_to_fit();
        tokens.index()?;
        Ok(tokens)
    }

    /// Empty arrays large enough for the tokens. Stored text is never shorter than the bytes it stands for.
    fn with_room_for<'a>(stored: impl Iterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let (mut count, mut size) = (0_usize, 0_usize);
        for token in stored {
            count += 1;
            size = size.saturating_add(token.len());
        }
        if count >= EMPTY as usize || size > u32::MAX as usize {
            return Err(Error::TooLarge { tokens: count });
        }
        let mut offsets = reserve(count + 1)?;
        offsets.push(0);
        Ok(Tokens { bytes: reserve(size)?, offsets, kinds: reserve(count)?, slots: Vec::new() })
    }

    fn push(&mut self, text: &str, kind: Kind) -> Result<(), Error> {
        let token = self.kinds.len();
        if !kind.is_text() {
            self.bytes.extend_from_slice(text.as_bytes());
        } else if let Err(found) = extend_decoded(&mut self.bytes, text) {
            return Err(Error::TokenCharacter { token, found });
        }
        let end = u32::try_from(self.bytes.len()).map_err(|_| Error::TooLarge { tokens: token })?;
        self.offsets.push(end);
        self.kinds.push(kind);
        Ok(())
    }

    /// Fills the hash table with the tokens that merging may make. Where a normal and a user-defined token share
    /// their bytes, the first is found; the text of a user-defined one is not left to merging anyway.
    fn index(&mut self) -> Result<(), Error> {
        let slots = (self.len() + self.len() / 3 + 1).next_power_of_two();
        self.slots = reserve(slots)?;
        self.slots.resize(slots, EMPTY);
        let mut tries = 0;
        for id in 0..self.len() as u32 {
            let kind = self.kind(id);
            if !kind.is_mergeable() || self.bytes(id).is_empty() {
                continue;
            }
            let slot = self.slot(self.bytes(id));
            tries += slot.wrapping_sub(self.home(self.bytes(id))) & (slots - 1);
            if tries > MOST_TRIES * self.len() {
                return Err(Error::HashFlood { token: id as usize });
            }
            match self.slots[slot] {
                EMPTY => self.slots[slot] = id,
                first if kind.is_text() && self.kind(first).is_text() => {
                    return Err(Error::RepeatedToken { token: id as usize, first: first as usize });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where the search for `bytes` begins.
    fn home(&self, bytes: &[u8]) -> usize {
        hash(bytes) as usize & (self.slots.len() - 1)
    }

    /// The slot that holds the token `bytes`, or the empty one where it belongs.
    fn slot(&self, bytes: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.home(bytes);
        while self.slots[slot] != EMPTY && self.bytes(self.slots[slot]) != bytes {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The id of the normal or user-defined token with these bytes.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<u32> {
        Some(self.slots[self.slot(bytes)]).filter(|&id| id != EMPTY)
    }

    /// The bytes of a token below [`Tokens::len`].
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        &self.bytes[self.offsets[id] as usize..self.offsets[id + 1] as usize]
    }

    /// The kind of a token below [`Tokens::len`].
    pub(crate) fn kind(&self, id: u32) -> Kind {
        self.kinds[id as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.kinds.capacity()
            + 4 * (self.offsets.capacity() + self.slots.capacity())
    }
}

/// Appends the bytes that stored text stands for, or gives the first character outside of the alphabet.
pub(crate) fn extend_decoded(bytes: &mut Vec<u8>, stored: &str) -> Result<(), char> {
    for c in stored.chars() {
        bytes.push(stored_byte(c).ok_or(c)?);
    }
    Ok(())
}

/// A vector with room for exactly `count` entries, or an error where there is no memory.
pub(crate) fn reserve<T>(count: usize) -> Result<Vec<T>, Error> {
    let mut vector = Vec::new();
    match vector.try_reserve_exact(count) {
        Ok(()) => Ok(vector),
        Err(_) => Err(Error::OutOfMemory { bytes: count.saturating_mul(size_of::<T>()) }),
    }
}

/// FNV-1a with a final mix, since the table uses the low bits alone.
fn hash(bytes: &[u8]) -> u64 {
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (sum ^ (sum >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    fn read(texts: &[String]) -> Result<Tokens, Error> {
        Tokens::read(texts.iter().map(String::as_bytes), |_, _| Ok(Kind::Normal))
    }

    #[test]
    fn every_token_is_found_by_its_bytes() {
        let texts: Vec<String> = (0..5000).map(|n| format!("token{n}")).collect();
        let tokens = read(&texts).unwrap();
        for (id, text) in texts.iter().enumerate() {
            assert_eq!(tokens.find(text.as_bytes()), Some(id as u32));
            assert_eq!(tokens.bytes(id as u32), text.as_bytes());
        }
        assert_eq!(tokens.find(b"token5000"), None);
        assert_eq!(tokens.find(b""), None);
    }

    #[test]
    fn texts_made_to_collide_are_refused() {
        let same_slot = |text: &String| hash(text.as_bytes()) & 1023 == 7;
        let texts: Vec<String> =
            (0..).map(|n: u32| format!("{n}")).filter(same_slot).take(700).collect();
        assert!(matches!(read(&texts).unwrap_err(), Error::HashFlood { token: 200..700 }));
    }
}
