//! Words, lines and capitals, as Python finds them; what filters and methods of texts share.

use super::budget::Budget;
use super::error::Result;
use super::text::{Builder, Text};
use std::ops::Range;

/// Python's white space: Unicode's, and four separators.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The text without these characters at its ends; without white space if there are none.
pub(crate) fn trim(
    text: &Text,
    chars: Option<&Text>,
    [left, right]: [bool; 2],
    budget: &Budget,
) -> Result<Text> {
    if let Some(chars) = chars {
        budget.read(text.len().saturating_mul(chars.len()))?;
    }
    let drops = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let kept = if left { text.trim_start_matches(drops) } else { text };
    let start = text.len() - kept.len();
    let kept = if right { kept.trim_end_matches(drops) } else { kept };
    text.slice(start..start + kept.len(), budget)
}

/// The text with each `from` replaced; only the first so many, if `most` says so. What stands in place of something
/// that a user wrote is the user's.
pub(crate) fn replace(
    text: &Text,
    from: &str,
    to: &Text,
    most: Option<usize>,
    budget: &Budget,
) -> Result<Text> {
    let mut out = Builder::new(budget);
    let mut at = 0;
    for (found, part) in text.match_indices(from).take(most.unwrap_or(usize::MAX)) {
        out.push_slice(text, at..found)?;
        at = found + part.len();
        match text.is_user(&(found..at)) {
            true => out.push_as(to, true)?,
            false => out.push(to)?,
        }
        budget.step()?;
    }
    out.push_slice(text, at..text.len())?;
    out.finish()
}

/// The text in the middle of `width` characters, as Python places it.
pub(crate) fn center(text: &Text, width: usize, fill: &Text, budget: &Budget) -> Result<Text> {
    let missing = width.saturating_sub(text.chars().count());
    let left = missing / 2 + (missing & width & 1);
    let mut out = Builder::new(budget);
    out.push_times(fill, left)?;
    out.push(text)?;
    out.push_times(fill, missing - left)?;
    out.finish()
}

/// The lines of a text without their breaks.
pub(crate) fn lines(text: &str) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if !is_break(c) {
            continue;
        }
        lines.push(start..at);
        start = at + c.len_utf8();
        if c == '\r' && chars.next_if(|&(_, next)| next == '\n').is_some() {
            start += 1;
        }
    }
    if start < text.len() {
        lines.push(start..text.len());
    }
    lines
}

fn is_break(c: char) -> bool {
    matches!(
        c,
        '\n' | '\x0b' | '\x0c' | '\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// Words between white space. After `most` splits the rest is one.
pub(crate) fn words(text: &str, most: usize) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        let rest = text[at..].trim_start_matches(is_space);
        at = text.len() - rest.len();
        if rest.is_empty() {
            return words;
        }
        if words.len() == most {
            words.push(at..text.trim_end_matches(is_space).len());
            return words;
        }
        let end = rest.find(is_space).unwrap_or(rest.len());
        words.push(at..at + end);
        at += end;
    }
}

/// The text with the first letter of each word as a capital and all others small; `begins` tells whether a word
/// begins after a character.
pub(crate) fn title(text: &Text, begins: fn(char) -> bool, budget: &Budget) -> Result<Text> {
    let mut before = None;
    text.map(budget, |run| {
        let mut out = String::with_capacity(run.len());
        for c in run.chars() {
            match before.is_none_or(begins) {
                // Of several letters for one (ß), only the first is a capital.
                true => {
                    let mut letters = c.to_uppercase();
                    out.extend(letters.next());
                    out.extend(letters.flat_map(char::to_lowercase));
                }
                false => out.extend(c.to_lowercase()),
            }
            before = Some(c);
        }
        out
    })
}

/// The text with a capital first and all else small.
pub(crate) fn capitalize(text: &Text, budget: &Budget) -> Result<Text> {
    title(text, |_| false, budget)
}
