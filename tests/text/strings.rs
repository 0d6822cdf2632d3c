//! Strings that are hard on a tokenizer.

use proptest::prelude::*;

/// Text in more than 40 scripts, code, emoji, combining marks, and every white space character in many places.
pub(crate) fn corpus() -> &'static str {
    include_str!("scripts.txt")
}

/// Proptest's settings for a number of cases; failures are printed, not stored.
pub(crate) fn settings(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// Every character of the property White_Space.
pub(crate) const WHITE: &str = "\t\n\u{b}\u{c}\r \u{85}\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\
    \u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";

/// Letters of many scripts, of every case and length in UTF-8.
const LETTERS: &str =
    "sStTrReEvVmMlLdDaz ſKİıßẞéñŁơǅαΩяЖըთאשעمںܐދकखঅਕકଅதతಕമකกລកမཀሀᠠᎣᐊⴰߌᚠかカ小龍각ㄱ𐌲𐐔𒀭𓂀𠮷𝔉ªʰ々ー";

/// Numbers of every kind.
const NUMBERS: &str = "0123456789٣۴४৪๓፩²½Ⅷ①㊿𝟘𐄇〇";

/// Marks that combine with the character before, joiners, selectors, controls and neighbors of the surrogates.
const MARKS: &str = "\u{301}\u{308}\u{20e3}\u{93f}\u{94d}\u{e33}\u{5b8}\u{64e}\u{200b}\u{200c}\u{200d}\u{200e}\u{2060}\
    \u{fe0e}\u{fe0f}\u{e0067}\u{e007f}\u{0}\u{1b}\u{1f}\u{7f}\u{80}\u{ad}\u{180e}\u{feff}\u{d7ff}\u{e000}\u{fffd}\
    \u{fffe}\u{ffff}\u{10000}\u{10ffff}\u{115f}\u{3164}";

/// Punctuation and symbols.
const SYMBOLS: &str = "''''’.,!?-_()[]{}<>|/\\\"#$%&*+=@^`~«»。、‰€©∑🙂👍🏽👨👩🏳🌈🇩🇪";

/// Whole pieces that no choice of single characters would make.
const PHRASES: [&str; 16] = [
    "'s",
    "'RE",
    "'ll",
    "'Ve",
    "\r\n",
    "\r\n\r\n",
    "  \n  ",
    "   ",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_",
    "<tool_call>",
    "<tool",
    " don't",
];

fn one_of(set: &'static str) -> impl Strategy<Value = String> {
    let characters: Vec<char> = set.chars().collect();
    prop::sample::select(characters).prop_map(String::from)
}

/// Texts of up to 40 such pieces.
pub(crate) fn prose() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => one_of(WHITE),
        3 => Just(" ".to_owned()),
        6 => one_of(LETTERS),
        3 => one_of(NUMBERS),
        3 => one_of(MARKS),
        4 => one_of(SYMBOLS),
        3 => prop::sample::select(PHRASES.to_vec()).prop_map(str::to_owned),
        2 => any::<char>().prop_map(String::from),
        1 => "[a-z]{1,12}",
        1 => r"\PC{0,6}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}
