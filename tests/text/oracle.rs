//! Equality with Hugging Face's `tokenizers`.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use proptest::prelude::*;
use tokenizers::tokenizer::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer as Oracle,
};
use wick_text::{Special, split};

use crate::strings::{WHITE, corpus, prose, settings};
use crate::{SPECIAL, encode, trained};

/// The oracle that reads control tokens in the text, and the one that does not.
fn oracles() -> &'static [Oracle; 2] {
    static LOADED: OnceLock<[Oracle; 2]> = OnceLock::new();
    LOADED.get_or_init(|| {
        SPECIAL.map(|special| {
            let mut oracle: Oracle =
                trained::JSON.parse().expect("tokenizers reads vocabulary.json");
            oracle.set_encode_special_tokens(special == Special::Text);
            oracle
        })
    })
}

fn check_ids(text: &str) {
    let tokenizer = trained::tokenizer();
    for (special, oracle) in SPECIAL.into_iter().zip(oracles()) {
        let expected = oracle.encode_fast(text, false).expect("the oracle encodes any text");
        assert_eq!(encode(&tokenizer, text, special), expected.get_ids(), "{special:?} {text:?}");
    }
}

/// Where the oracle's pieces end, in bytes.
fn oracle_ends(text: &str) -> Vec<usize> {
    let mut pieces = PreTokenizedString::from(text);
    let rule = oracles()[0].get_pre_tokenizer().expect("vocabulary.json has a split rule");
    rule.pre_tokenize(&mut pieces).expect("the oracle splits any text");
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits.into_iter().map(|(_, (_, end), _)| end).collect()
}

fn ends(text: &str) -> Vec<usize> {
    let grow = |end: &mut usize, piece: &str| {
        *end += piece.len();
        Some(*end)
    };
    split(text).scan(0, grow).collect()
}

/// A text that is cut in five different ways for a letter, a number, a newline, other white space and all else.
fn probe(c: char) -> String {
    format!("x{c}x!{c}!")
}

/// Characters that the oracle takes for something else: those assigned since its Unicode tables were made (16.0
/// in `regex-syntax` 0.8), which it knows as neither letters nor numbers.
fn newly_assigned() -> &'static BTreeSet<char> {
    static FOUND: OnceLock<BTreeSet<char>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let differs = |&c: &char| oracle_ends(&probe(c)) != ends(&probe(c));
        // All planes but those in which nothing has ever been assigned and those for private use.
        let planes = ('\0'..='\u{3ffff}').chain('\u{e0000}'..='\u{effff}');
        planes.filter(differs).collect()
    })
}

#[test]
fn every_character_is_classed_alike_but_for_new_ones() {
    let known_to_differ = newly_assigned();
    println!("{} characters assigned since the oracle's tables", known_to_differ.len());
    for &c in known_to_differ {
        // The cuts around whatever is no letter, no number and no white space.
        let cuts = [1, 2 + c.len_utf8(), 4 + 2 * c.len_utf8()];
        assert_eq!(oracle_ends(&probe(c)), cuts, "U+{:04X}", u32::from(c));
    }
    let oldest = known_to_differ.first().map_or(char::MAX, |&c| c);
    assert!(oldest > '\u{36f}' && known_to_differ.len() < 20_000, "U+{:04X}", u32::from(oldest));
}

#[test]
fn the_corpus_has_the_same_ids() {
    let new = corpus().chars().find(|c| newly_assigned().contains(c));
    assert_eq!(new, None, "the corpus is older than the oracle");
    check_ids(corpus());
    corpus().lines().for_each(check_ids);
    assert_eq!(ends(corpus()), oracle_ends(corpus()));
}

/// Every string of up to four characters over one of each class: all the corners of the split rule.
#[test]
fn short_strings_are_split_alike() {
    let classes = ['a', 's', 'é', '1', '\'', '!', '\u{301}', ' ', '\t', '\u{3000}', '\r', '\n'];
    let mut texts = vec![String::new()];
    for _ in 0..4 {
        let longer = texts.iter().flat_map(|text| classes.map(|c| format!("{text}{c}")));
        texts = longer.collect();
        for text in &texts {
            assert_eq!(ends(text), oracle_ends(text), "{text:?}");
        }
    }
}

#[test]
fn white_space_is_split_alike() {
    for (a, b) in WHITE.chars().flat_map(|a| WHITE.chars().map(move |b| (a, b))) {
        for text in
            [format!("x{a}{b}x{a}{b}"), format!("{a}{b}1 {a}!{b}'s"), format!("{a}\n{b}\r{a} {b}.")]
        {
            check_ids(&text);
        }
    }
}

proptest! {
    #![proptest_config(settings(6_000))]

    #[test]
    fn any_text_has_the_same_ids(text in prose()) {
        let text = text.replace(|c| newly_assigned().contains(&c), "");
        check_ids(&text);
        prop_assert_eq!(ends(&text), oracle_ends(&text));
    }
}
