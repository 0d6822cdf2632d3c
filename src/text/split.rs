//! The Qwen2 split rule: text cut into the pieces within which bytes may merge.
//!
//! The rule is the regular expression
//!
//! ```text
//! (?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])
//!   |[^\r\n\p{L}\p{N}]?\p{L}+ |\p{N} | ?[^\s\p{L}\p{N}]+[\r\n]* |\s*[\r\n]+ |\s+(?!\S) |\s+
//! ```
//!
//! whose alternatives are tried in order at each place. They cover every character, so the pieces joined are
//! the text. Written by hand, the rule needs neither backtracking nor tables beyond the letters and numbers.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// What the rule asks of a character; each character is exactly one of these.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `[\r\n]`
    Newline,
    /// `\s` without the newlines
    Space,
    /// `[^\s\p{L}\p{N}]`: punctuation, symbols, marks, controls, and what is not assigned
    Other,
}

impl Class {
    fn of(c: char) -> Class {
        match c {
            'a'..='z' | 'A'..='Z' => Class::Letter,
            '0'..='9' => Class::Number,
            '\r' | '\n' => Class::Newline,
            _ if c.is_whitespace() => Class::Space,
            _ if c.is_ascii() => Class::Other,
            _ => match c.general_category_group() {
                GeneralCategoryGroup::Letter => Class::Letter,
                GeneralCategoryGroup::Number => Class::Number,
                _ => Class::Other,
            },
        }
    }

    fn is_white(self) -> bool {
        matches!(self, Class::Space | Class::Newline)
    }
}

/// The pieces of `text` by the Qwen2 rule, in order; none is empty and together they are the text.
///
/// Takes time proportional to the text.
pub fn split(text: &str) -> Pieces<'_> {
    Pieces { rest: text }
}

/// Iterator over the pieces of a text; see [`split`].
#[derive(Clone, Debug)]
pub struct Pieces<'t> {
    rest: &'t str,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let first = self.rest.chars().next()?;
        let (piece, rest) = self.rest.split_at(piece_len(self.rest, first));
        self.rest = rest;
        Some(piece)
    }
}

/// Bytes of the piece that `text`, whose first character is `first`, begins with.
fn piece_len(text: &str, first: char) -> usize {
    let after = &text[first.len_utf8()..];
    let class = Class::of(first);
    let next = after.chars().next().map(Class::of);
    match class {
        Class::Letter => run(text, Class::Letter),
        Class::Number => first.len_utf8(),
        Class::Other if first == '\'' && contraction(after) > 0 => 1 + contraction(after),
        Class::Other | Class::Space if next == Some(Class::Letter) => {
            first.len_utf8() + run(after, Class::Letter)
        }
        Class::Other => symbols(text),
        Class::Space if first == ' ' && next == Some(Class::Other) => 1 + symbols(after),
        Class::Space | Class::Newline => white(text),
    }
}

/// Bytes of the characters of `class` that `text` begins with.
fn run(text: &str, class: Class) -> usize {
    text.find(|c| Class::of(c) != class).unwrap_or(text.len())
}

/// Bytes of a contraction's letters, `after` being what follows the apostrophe; 0 where it is none.
fn contraction(after: &str) -> usize {
    match after.as_bytes() {
        [b's' | b'S' | b't' | b'T' | b'm' | b'M' | b'd' | b'D', ..] => 1,
        [b'r' | b'R' | b'v' | b'V', b'e' | b'E', ..] | [b'l' | b'L', b'l' | b'L', ..] => 2,
        _ => 0,
    }
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n]*` behind its space.
fn symbols(text: &str) -> usize {
    let symbols = run(text, Class::Other);
    symbols + run(&text[symbols..], Class::Newline)
}

/// The three alternatives for white space, with what their backtracking comes to.
fn white(text: &str) -> usize {
    let end = text.find(|c| !Class::of(c).is_white()).unwrap_or(text.len());
    let run = &text[..end];
    if let Some(newline) = run.rfind(['\r', '\n']) {
        return newline + 1; // `\s*[\r\n]+`: up to the last newline
    }
    let last = run.chars().next_back().map_or(0, char::len_utf8);
    if end == text.len() || last == end {
        end // `\s+(?!\S)` at the end of the text, or `\s+` on a single character
    } else {
        end - last // `\s+(?!\S)`: the last one is left to the word that follows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(split(text).collect::<Vec<_>>(), expected, "{text:?}");
    }

    #[test]
    fn words_take_one_character_before_them() {
        check("one two", &["one", " two"]);
        check("\tone (two)", &["\tone", " (", "two", ")"]);
        check("(one", &["(one"]);
        check("((one", &["((", "one"]);
        check("\none", &["\n", "one"]);
        check("\u{301}one", &["\u{301}one"]);
    }

    #[test]
    fn contractions_are_cut_as_written() {
        check("it's IT'S we'RE I'll", &["it", "'s", " IT", "'S", " we", "'RE", " I", "'ll"]);
        check("'sun 'xo", &["'s", "un", " '", "xo"]);
        check("''s", &["''", "s"]);
        check("'ſ 'l", &["'ſ", " '", "l"]);
        check("'ve've'm", &["'ve", "'ve", "'m"]);
        for letters in "s t m d re ve ll S T M D rE Re vE Ve lL Ll".split(' ') {
            let text = alloc::format!("'{letters}x");
            check(&text, &[&text[..=letters.len()], "x"]);
        }
    }

    #[test]
    fn numbers_stand_alone() {
        check("12 3", &["1", "2", " ", "3"]);
        check("a1b", &["a", "1", "b"]);
        check("½Ⅻ४", &["½", "Ⅻ", "४"]);
    }

    #[test]
    fn symbols_take_a_space_and_newlines() {
        check("a !?\r\n\nb", &["a", " !?\r\n\n", "b"]);
        check("\t!\n b", &["\t", "!\n", " b"]);
        check("🙂\u{200d}🙂 🙂", &["🙂\u{200d}🙂", " 🙂"]);
    }

    #[test]
    fn white_space_leaves_its_last_character_to_the_word() {
        check("a   b", &["a", "  ", " b"]);
        check("a   ", &["a", "   "]);
        check("a \u{a0}1", &["a", " ", "\u{a0}", "1"]);
        check("  \n \n  b", &["  \n \n", " ", " b"]);
        check("\u{3000}\u{2003}!", &["\u{3000}", "\u{2003}", "!"]);
        check(" \r\n", &[" \r\n"]);
        check(" \r  x", &[" \r", " ", " x"]);
        check("\u{85}\u{2028}", &["\u{85}\u{2028}"]);
        check("", &[]);
    }
}
