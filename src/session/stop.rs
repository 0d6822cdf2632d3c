//! Stop strings: text that ends a generation and is not shown.

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of a token's text that there is room for.
const TOKEN_ROOM: usize = 512;

/// Looks for stop strings in text that comes in pieces, and holds back what may be the beginning of
/// one, so that none is ever shown in part.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopStrings {
    /// None of them empty.
    stops: Vec<String>,
    /// The end of the text so far, if a stop string may begin there.
    pending: String,
}

impl StopStrings {
    /// Empty ones stop nothing.
    pub(crate) fn new(stops: impl IntoIterator<Item = String>) -> StopStrings {
        let stops: Vec<String> = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        StopStrings { stops, pending: String::with_capacity(longest + TOKEN_ROOM) }
    }

    /// Takes a piece of text, and appends what is certain to be shown to `out`. Returns the number of
    /// the stop string that was found; of several, of the one that ends first, which is the same
    /// wherever the text is cut, then of the one that begins first, then of the first in the list.
    pub(crate) fn push(&mut self, text: &str, out: &mut String) -> Option<usize> {
        if self.stops.is_empty() {
            out.push_str(text);
            return None;
        }
        self.pending.push_str(text);
        let found = self.stops.iter().enumerate();
        let found = found.filter_map(|(i, stop)| {
            let start = self.place_of(stop)?;
            Some((start + stop.len(), start, i))
        });
        if let Some((_, start, stop)) = found.min() {
            out.push_str(&self.pending[..start]);
            self.pending.clear();
            return Some(stop);
        }
        let certain = self.pending.len() - self.held_back();
        out.push_str(&self.pending[..certain]);
        self.pending.drain(..certain);
        None
    }

    /// Ends the text: what was held back is shown.
    pub(crate) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.pending);
        self.pending.clear();
    }

    /// Where a stop string begins in the pending text, which is short.
    fn place_of(&self, stop: &str) -> Option<usize> {
        let mut windows = self.pending.as_bytes().windows(stop.len());
        windows.position(|window| window == stop.as_bytes())
    }

    /// Bytes at the end of the pending text with which a stop string may begin.
    fn held_back(&self) -> usize {
        let longest = |stop: &String| {
            let cuts = (1..stop.len()).rev().filter(|len| stop.is_char_boundary(*len));
            cuts.into_iter().find(|len| self.pending.ends_with(&stop[..*len]))
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    /// What is shown of `text`, which comes in pieces as the bits of `cuts` say, and what stopped it.
    fn shown(stops: &[&str], text: &str, cuts: u32) -> (String, Option<usize>) {
        let mut stops = StopStrings::new(stops.iter().map(ToString::to_string));
        let (mut out, mut piece) = (String::new(), String::new());
        for (i, c) in text.chars().enumerate() {
            piece.push(c);
            if cuts & (1 << i) != 0 {
                if let Some(stop) = stops.push(&piece, &mut out) {
                    return (out, Some(stop));
                }
                piece.clear();
            }
        }
        let stop = stops.push(&piece, &mut out);
        if stop.is_none() {
            stops.finish(&mut out);
        }
        (out, stop)
    }

    #[test]
    fn they_are_found_in_any_pieces_and_never_shown() {
        let cases: [(&[&str], &str, &str, Option<usize>); 9] = [
            (&["abcd", "c"], "abcd", "ab", Some(1)),
            (&["abc", "ab"], "abc", "", Some(1)),
            (&["END"], "xyEENDz", "xyE", Some(0)),
            (&["aab"], "aaab", "a", Some(0)),
            (&["b", "ab"], "xab", "x", Some(1)),
            (&["abc"], "xabab", "xabab", None),
            (&["\n\n", "é€"], "a\nbé€c", "a\nb", Some(1)),
            (&["€x"], "é€y€", "é€y€", None),
            (&[""], "abc", "abc", None),
        ];
        for (stops, text, expected, stop) in cases {
            for cuts in 0..1 << text.chars().count() {
                let found = shown(stops, text, cuts);
                assert_eq!(found, (expected.into(), stop), "{stops:?} in {text:?}, cut {cuts:b}");
            }
        }
    }

    #[test]
    fn only_what_may_be_a_beginning_waits() {
        let mut stops = StopStrings::new(vec!["</end>".into()]);
        let mut out = String::new();
        assert_eq!(stops.push("a<b </e", &mut out), None);
        assert_eq!(out, "a<b ");
        assert_eq!(stops.push("x", &mut out), None);
        assert_eq!(out, "a<b </ex");
    }
}
