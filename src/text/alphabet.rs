//! GPT-2's printable alphabet: how a file stores the bytes of a token as text.
//!
//! The 188 printable characters of Latin-1 stand for their own byte; the other 68 bytes are written
//! as U+0100 to U+0143, in order. So a space is stored as `Ġ` (U+0120) and a line feed as `Ċ` (U+010A).

/// The character that stands for `byte` in stored tokens and merges.
pub const fn stored_char(byte: u8) -> char {
    match byte {
        0..=0x20 => shifted(byte as u32),
        0x7f..=0xa0 => shifted(byte as u32 - 0x7f + 0x21),
        0xad => shifted(0x43),
        printable => printable as char,
    }
}

const fn shifted(nth: u32) -> char {
    match char::from_u32(0x100 + nth) {
        Some(c) => c,
        None => char::REPLACEMENT_CHARACTER,
    }
}

/// The byte that a stored character stands for; none outside of the alphabet.
pub(crate) const fn stored_byte(c: char) -> Option<u8> {
    let code = c as u32;
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_byte_has_its_character() {
        for byte in 0..=255 {
            assert_eq!(stored_byte(stored_char(byte)), Some(byte));
        }
        assert_eq!([b' ', b'\n', 0x7f, 0xad].map(stored_char), ['Ġ', 'Ċ', 'ġ', 'Ń']);
    }

    #[test]
    fn no_other_character_is_stored() {
        let known: Vec<char> = (0..=255).map(stored_char).collect();
        for c in ('\0'..='\u{2000}').filter(|c| !known.contains(c)) {
            assert_eq!(stored_byte(c), None, "{c:?}");
        }
    }
}
