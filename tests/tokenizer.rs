//! The tokenizer against Hugging Face's `tokenizers`, on a vocabulary trained by text/make_vocabulary.py, and
//! its memory at the size of the published models.

use proptest::prelude::*;
use wick_text::{Control, Detokenizer, Special, Tokenizer, split};

#[path = "text/memory.rs"]
mod memory;
// The oracle is a large dependency; the comparison is made on the host alone.
#[cfg(not(target_arch = "aarch64"))]
#[path = "text/oracle.rs"]
mod oracle;
#[path = "text/strings.rs"]
mod strings;
#[path = "text/trained.rs"]
mod trained;

use strings::{corpus, prose, settings};

const SPECIAL: [Special; 2] = [Special::Parse, Special::Text];

fn encode(tokenizer: &Tokenizer, text: &str, special: Special) -> Vec<u32> {
    let mut ids = Vec::new();
    tokenizer.encode(text, special, &mut ids);
    ids
}

/// What a stream of ids shows, piece by piece, and at its end.
fn stream(tokenizer: &Tokenizer, ids: &[u32], control: Control) -> Vec<String> {
    let mut detokenizer = Detokenizer::new(control);
    let mut shown: Vec<String> =
        ids.iter().map(|&id| detokenizer.push(tokenizer, id).to_owned()).collect();
    shown.push(detokenizer.finish().to_owned());
    shown
}

fn check_round_trip(tokenizer: &Tokenizer, text: &str) {
    for special in SPECIAL {
        let ids = encode(tokenizer, text, special);
        let mut bytes = Vec::new();
        tokenizer.decode(&ids, Control::Show, &mut bytes);
        assert_eq!(bytes, text.as_bytes());
        let shown = stream(tokenizer, &ids, Control::Show);
        assert_eq!(shown.concat(), text);
    }
}

#[test]
fn the_corpus_comes_back() {
    let tokenizer = trained::tokenizer();
    check_round_trip(&tokenizer, corpus());
    corpus().lines().for_each(|line| check_round_trip(&tokenizer, line));
}

proptest! {
    #![proptest_config(settings(2000))]

    #[test]
    fn any_text_comes_back(text in prose()) {
        check_round_trip(&trained::tokenizer(), &text);
    }

    #[test]
    fn pieces_are_the_text(text in prose()) {
        let pieces: Vec<&str> = split(&text).collect();
        prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
        prop_assert_eq!(pieces.concat(), text);
    }

    /// Ids in any order make any bytes: invalid, overlong, cut short.
    #[test]
    fn any_ids_stream_as_their_bytes_decode(ids in prop::collection::vec(0..3010_u32, 0..60)) {
        let tokenizer = trained::tokenizer();
        for control in [Control::Hide, Control::Show] {
            let mut bytes = Vec::new();
            tokenizer.decode(&ids, control, &mut bytes);
            let shown = stream(&tokenizer, &ids, control);
            prop_assert_eq!(shown.concat(), String::from_utf8_lossy(&bytes));
        }
    }

    /// Whatever has been shown by any id is the beginning of the text: no character is ever half there.
    #[test]
    fn every_moment_of_a_stream_shows_whole_characters(text in prose()) {
        let tokenizer = trained::tokenizer();
        let ids = encode(&tokenizer, &text, Special::Text);
        let mut shown = String::new();
        let mut taken = 0;
        for (piece, &id) in stream(&tokenizer, &ids, Control::Hide).iter().zip(&ids) {
            shown.push_str(piece);
            taken += tokenizer.token_bytes(id).map_or(0, <[u8]>::len);
            prop_assert!(text.starts_with(&shown));
            prop_assert!(taken - shown.len() <= 3, "all but an unfinished character is shown");
        }
    }
}
