//! The tokenizer as a whole, on small vocabularies.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use crate::{
    Control, Detokenizer, Error, Kind, Scratch, Special, Tokenizer, Vocabulary, stored_char,
};

/// A vocabulary that can be spoiled: the 256 bytes, then a few merged and special tokens.
#[derive(Clone)]
struct Parts {
    tokens: Vec<Vec<u8>>,
    kinds: Option<Vec<i32>>,
    merges: Vec<Vec<u8>>,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    add_bos: bool,
}

const MERGED: [&str; 5] = ["ab", "bc", "abc", "Ġa", "aa"];
const MERGES: [&str; 5] = ["b c", "a b", "a bc", "Ġ a", "a a"];
const SPECIAL: [(&str, i32); 7] = [
    ("<|endoftext|>", 3),
    ("<|im_start|>", 3),
    ("<|im_end|>", 3),
    ("<tool>", 4),
    ("<tool>é", 4),
    ("<unk>", 2),
    ("[PAD268]", 5),
];
const END_OF_TEXT: u32 = 261;
const IM_START: u32 = 262;
const IM_END: u32 = 263;
const TOOL: u32 = 264;
const UNKNOWN: u32 = 266;
const PAD: u32 = 267;

impl Parts {
    fn good() -> Self {
        let bytes = (0..=255).map(|byte| stored_char(byte).to_string());
        let merged = MERGED.iter().map(|&token| token.to_owned());
        let special = SPECIAL.iter().map(|&(token, _)| token.to_owned());
        let mut kinds = vec![1; 256 + MERGED.len()];
        kinds.extend(SPECIAL.iter().map(|&(_, kind)| kind));
        Parts {
            tokens: bytes.chain(merged).chain(special).map(String::into_bytes).collect(),
            kinds: Some(kinds),
            merges: MERGES.iter().map(|merge| merge.as_bytes().to_vec()).collect(),
            bos: Some(END_OF_TEXT),
            eos: Some(IM_END),
            eot: None,
            add_bos: false,
        }
    }

    fn build(&self) -> Result<Tokenizer, Error> {
        Tokenizer::new(Vocabulary {
            tokens: self.tokens.iter().map(Vec::as_slice),
            merges: self.merges.iter().map(Vec::as_slice),
            kinds: self.kinds.as_ref().map(|kinds| kinds.iter().copied()),
            bos: self.bos,
            eos: self.eos,
            eot: self.eot,
            add_bos: self.add_bos,
        })
    }

    fn tokenizer(&self) -> Tokenizer {
        self.build().expect("a good vocabulary")
    }

    /// The error after a change to the good parts.
    fn spoiled(change: impl FnOnce(&mut Parts)) -> Error {
        let mut parts = Parts::good();
        change(&mut parts);
        parts.build().expect_err("a broken vocabulary")
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, special: Special) -> Vec<u32> {
    let mut ids = Vec::new();
    tokenizer.encode(text, special, &mut ids);
    ids
}

fn decode(tokenizer: &Tokenizer, ids: &[u32], control: Control) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokenizer.decode(ids, control, &mut bytes);
    bytes
}

#[test]
fn merges_go_by_rank_then_from_the_left() {
    let tokenizer = Parts::good().tokenizer();
    let id = |text| tokenizer.id_of(text).unwrap();
    assert_eq!(encode(&tokenizer, "abc", Special::Text), [id("abc")]);
    assert_eq!(encode(&tokenizer, "aabb", Special::Text), [id("a"), id("ab"), id("b")]);
    assert_eq!(encode(&tokenizer, "aaaaa", Special::Text), [id("aa"), id("aa"), id("a")]);
    assert_eq!(encode(&tokenizer, "ab ab", Special::Text), [id("ab"), id(" "), id("ab")]);
    assert_eq!(encode(&tokenizer, "c a", Special::Text), [id("c"), id(" a")]);
    assert_eq!(encode(&tokenizer, "", Special::Text), []);
}

#[test]
fn special_tokens_are_found_leftmost_and_longest() {
    let tokenizer = Parts::good().tokenizer();
    let text = "a<|im_start|><|im_start|<tool><tool>é<unk>";
    let parsed = encode(&tokenizer, text, Special::Parse);
    assert_eq!(parsed[..2], [97, IM_START]);
    assert_eq!(parsed[parsed.len() - 3..], [TOOL, TOOL + 1, UNKNOWN]);
    assert_eq!(decode(&tokenizer, &parsed, Control::Show), text.as_bytes());
    assert_eq!(decode(&tokenizer, &parsed, Control::Hide), "a<|im_start|<tool><tool>é".as_bytes());
}

#[test]
fn control_tokens_in_plain_text_stay_text() {
    let tokenizer = Parts::good().tokenizer();
    let ids = encode(&tokenizer, "<|im_start|><tool><unk>", Special::Text);
    assert!(!ids.iter().any(|&id| tokenizer.is_control(id)));
    assert!(ids.contains(&TOOL), "user-defined tokens are found in any text");
    assert_eq!(decode(&tokenizer, &ids, Control::Hide), b"<|im_start|><tool><unk>");
}

#[test]
fn control_tokens_that_touch_a_users_text_stay_text() {
    use core::slice::from_ref;
    let tokenizer = Parts::good().tokenizer();
    let encode = |text: &str, user: &[core::ops::Range<usize>]| {
        let mut ids = Vec::new();
        tokenizer.encode_marked(text, user, &mut ids);
        ids
    };
    let text = "<|im_start|>ab<|im_start|>ab";
    let [parsed, plain] =
        [Special::Parse, Special::Text].map(|special| self::encode(&tokenizer, text, special));
    assert_eq!(encode(text, &[]), parsed);
    assert_eq!(encode(text, from_ref(&(0..text.len()))), plain);
    assert_eq!(encode(text, &[12..14, 26..28]), parsed, "between control tokens");
    for user in [14..26, 14..15, 25..26, 18..20] {
        let ids = encode(text, from_ref(&user));
        assert_eq!(ids[0], IM_START);
        assert_eq!(ids.iter().filter(|&&id| id == IM_START).count(), 1);
    }
    // A mark splits no word: the merges are those of the whole text.
    assert_eq!(encode("abc", from_ref(&(0..1))), encode("abc", &[]));
    assert_eq!(encode("abc", from_ref(&(1..2))), encode("abc", &[]));
    assert_eq!(
        encode("<tool>", from_ref(&(0..6))),
        [TOOL],
        "user-defined tokens are found in any text"
    );
}

#[test]
fn a_longer_control_token_hides_no_shorter_user_token() {
    let mut parts = Parts::good();
    parts.tokens.push(b"<tool>!".to_vec());
    parts.kinds.as_mut().unwrap().push(3);
    let tokenizer = parts.tokenizer();
    assert_eq!(encode(&tokenizer, "<tool>!", Special::Parse), [PAD + 1]);
    assert_eq!(encode(&tokenizer, "<tool>!", Special::Text)[0], TOOL);
}

#[test]
fn tokens_answer_for_themselves() {
    let tokenizer = Parts::good().tokenizer();
    assert_eq!(tokenizer.len(), 268);
    assert!(!tokenizer.is_empty());
    assert_eq!(tokenizer.token_bytes(tokenizer.id_of(" a").unwrap()), Some(b" a".as_slice()));
    assert_eq!(tokenizer.token_bytes(0), Some([0].as_slice()));
    assert_eq!(tokenizer.token_bytes(PAD), Some(b"[PAD268]".as_slice()));
    assert_eq!(tokenizer.token_bytes(PAD + 1), None);
    assert_eq!(tokenizer.kind(TOOL), Some(Kind::UserDefined));
    assert_eq!(tokenizer.id_of("<|im_start|>"), Some(IM_START));
    assert_eq!((tokenizer.id_of("[PAD268]"), tokenizer.id_of("nothing")), (None, None));
    assert!(
        tokenizer.is_control(IM_END)
            && !tokenizer.is_control(TOOL)
            && !tokenizer.is_control(u32::MAX)
    );
    assert!(
        tokenizer.is_end(IM_END) && tokenizer.is_end(END_OF_TEXT) && !tokenizer.is_end(IM_START)
    );
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.prefix()),
        (Some(END_OF_TEXT), Some(IM_END), None)
    );
}

#[test]
fn bos_is_the_prefix_where_the_file_asks_for_it() {
    let parts = Parts { add_bos: true, ..Parts::good() };
    assert_eq!(parts.tokenizer().prefix(), Some(END_OF_TEXT));
}

#[test]
fn without_types_control_tokens_are_known_by_name_and_id() {
    let parts = Parts { kinds: None, eot: Some(UNKNOWN), ..Parts::good() };
    let tokenizer = parts.tokenizer();
    let control: Vec<u32> = (0..268).filter(|&id| tokenizer.is_control(id)).collect();
    assert_eq!(control, [END_OF_TEXT, IM_START, IM_END, UNKNOWN]);
    assert_eq!(encode(&tokenizer, "<|im_start|>ab", Special::Parse)[0], IM_START);
}

#[test]
fn end_tokens_are_control_tokens_whatever_their_type() {
    let mut parts = Parts { eos: None, ..Parts::good() };
    parts.kinds.as_mut().unwrap()[IM_END as usize] = 1;
    let tokenizer = parts.tokenizer();
    assert!(tokenizer.is_control(IM_END) && tokenizer.is_end(IM_END));
}

#[test]
fn hidden_tokens_do_not_disturb_a_character() {
    let tokenizer = Parts::good().tokenizer();
    let mut detokenizer = Detokenizer::new(Control::Hide);
    let ids = [0xe2, IM_END, PAD, u32::MAX, 0x82, 0xac];
    let shown: Vec<String> =
        ids.iter().map(|&id| detokenizer.push(&tokenizer, id).to_owned()).collect();
    assert_eq!(shown.concat(), "€");
    assert_eq!(shown[..5].concat(), "");
}

#[test]
fn harmless_oddities_pass() {
    let mut parts = Parts::good();
    let oddities: [(&str, i32); 5] =
        [("", 1), ("", 3), ("[PAD268]", 5), ("ab", 4), ("one space", 4)];
    for (token, kind) in oddities {
        parts.tokens.push(token.as_bytes().to_vec());
        parts.kinds.as_mut().unwrap().push(kind);
    }
    let tokenizer = parts.tokenizer();
    assert_eq!(tokenizer.token_bytes(268), Some(b"".as_slice()));
    assert_eq!(encode(&tokenizer, "one space", Special::Text), [272]);
    assert_eq!(tokenizer.id_of(""), None);
}

#[test]
fn broken_tokens_are_refused() {
    type Change = fn(&mut Parts);
    let cases: [(Change, Error); 9] = [
        (|parts| parts.tokens[3] = b"\xc4".to_vec(), Error::TokenNotUtf8 { token: 3, valid: 0 }),
        (
            |parts| parts.tokens[262] = b"<|\xff".to_vec(),
            Error::TokenNotUtf8 { token: 262, valid: 2 },
        ),
        (
            |parts| parts.tokens[257] = b"b c".to_vec(),
            Error::TokenCharacter { token: 257, found: ' ' },
        ),
        (
            |parts| parts.tokens[257] = b"ab".to_vec(),
            Error::RepeatedToken { token: 257, first: 256 },
        ),
        (
            |parts| parts.tokens[263] = b"<|im_start|>".to_vec(),
            Error::RepeatedToken { token: 263, first: 262 },
        ),
        (|parts| parts.tokens[65] = b"AAA".to_vec(), Error::MissingByte { byte: 65 }),
        (|parts| parts.tokens[65].clear(), Error::MissingByte { byte: 65 }),
        (|parts| parts.kinds.as_mut().unwrap()[65] = 5, Error::MissingByte { byte: 65 }),
        (|parts| parts.kinds.as_mut().unwrap()[7] = 7, Error::UnknownKind { token: 7, found: 7 }),
    ];
    for (change, error) in cases {
        assert_eq!(Parts::spoiled(change), error);
    }
    let empty = Parts {
        tokens: vec![],
        kinds: None,
        merges: vec![],
        bos: None,
        eos: None,
        ..Parts::good()
    };
    assert_eq!(empty.build().unwrap_err(), Error::MissingByte { byte: 0 });
}

#[test]
fn broken_kinds_and_ids_are_refused() {
    let kinds =
        |change: fn(&mut Vec<i32>)| Parts::spoiled(|parts| change(parts.kinds.as_mut().unwrap()));
    assert_eq!(kinds(|kinds| kinds.truncate(9)), Error::KindCount { tokens: 268, found: 9 });
    assert_eq!(kinds(|kinds| kinds.resize(500, 1)), Error::KindCount { tokens: 268, found: 269 });
    let absurd = Some(u32::MAX);
    let error = |name, id| Error::SpecialId { name, id, tokens: 268 };
    let adds = |parts: &mut Parts| (parts.bos, parts.add_bos) = (absurd, true);
    assert_eq!(Parts::spoiled(adds), error("bos", u32::MAX));
    assert_eq!(Parts::spoiled(|parts| (parts.bos, parts.add_bos) = (None, true)), Error::NoBos);
}

#[test]
fn special_ids_that_nothing_uses_are_taken_for_missing() {
    let (bos, eos, eot) = (Some(u32::MAX), Some(268), Some(300));
    let tokenizer = Parts { bos, eos, eot, ..Parts::good() }.tokenizer();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.prefix()), (None, None, None));
    let absent: Vec<(&str, u32)> = tokenizer.absent().collect();
    assert_eq!(absent, [("bos", u32::MAX), ("eos", 268), ("eot", 300)]);
    assert!(tokenizer.is_end(IM_END) && !tokenizer.is_end(268));
    assert_eq!(Parts::good().tokenizer().absent().count(), 0);
}

#[test]
fn broken_merges_are_refused() {
    let merge = |stored: &[u8]| Parts::spoiled(|parts| parts.merges[1] = stored.to_vec());
    for malformed in ["", " ", "ab", "a ", " b", "a b c", "a  b", "a \u{4e00}"] {
        assert_eq!(merge(malformed.as_bytes()), Error::MergeForm { merge: 1 }, "{malformed:?}");
    }
    assert_eq!(merge(b"a \xff"), Error::MergeForm { merge: 1 });
    assert_eq!(merge(b"zz b"), Error::MergeToken { merge: 1, part: "left part" });
    assert_eq!(merge(b"b zz"), Error::MergeToken { merge: 1, part: "right part" });
    assert_eq!(merge(b"b a"), Error::MergeToken { merge: 1, part: "result" });
    assert_eq!(merge(b"b c"), Error::RepeatedMerge { merge: 1, first: 0 });
}

#[test]
fn no_merge_makes_a_control_token() {
    let mut parts = Parts::good();
    parts.tokens[262] = b"bca".to_vec();
    parts.merges.push(b"bc a".to_vec());
    assert_eq!(parts.build().unwrap_err(), Error::MergeToken { merge: 5, part: "result" });
}

#[test]
fn errors_say_what_where_and_how_much() {
    let cases = [
        (
            Error::KindCount { tokens: 9, found: 7 },
            "token types: 9 expected, one for each token, 7 found",
        ),
        (
            Error::TokenCharacter { token: 5, found: ' ' },
            "token 5: characters of the byte alphabet expected, U+0020 found",
        ),
        (Error::MissingByte { byte: 10 }, "a token for each byte expected, none found for 0x0a"),
        (
            Error::SpecialId { name: "eos", id: 7, tokens: 5 },
            "eos token id: below 5 expected, 7 found",
        ),
    ];
    for (error, text) in cases {
        assert_eq!(format!("{error}"), text);
    }
}

/// Random numbers below a limit; the same in every run.
pub(crate) fn random() -> impl FnMut(usize) -> usize {
    let mut state = 1_u64;
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

/// The ids of a text whose parts come one by one.
fn encode_in_parts(tokenizer: &Tokenizer, parts: &[&str], special: Special) -> Vec<u32> {
    let (mut scratch, mut ids, mut held) = (Scratch::new(), Vec::new(), String::new());
    for part in parts {
        held.push_str(part);
        let settled = tokenizer.encode_part(&held, special, &mut scratch, &mut ids);
        held.drain(..settled);
    }
    tokenizer.encode_with(&held, special, &mut scratch, &mut ids);
    ids
}

#[test]
fn a_text_in_parts_has_the_ids_of_the_whole() {
    let tokenizer = Parts::good().build().unwrap();
    let mut random = random();
    let words = "a b abc é ! ' 's 're 1 < <| <|im_start|> |im_end|> <tool> <tool>é > \u{301}";
    let white = [" ", "  ", "\n", "\r\n", "\t", "\u{3000}"];
    let words: Vec<&str> = words.split(' ').chain(white).collect();
    for _ in 0..3000 {
        let parts: Vec<&str> = (0..random(12)).map(|_| words[random(words.len())]).collect();
        let text = parts.concat();
        for special in [Special::Parse, Special::Text] {
            let mut whole = Vec::new();
            tokenizer.encode(&text, special, &mut whole);
            assert_eq!(encode_in_parts(&tokenizer, &parts, special), whole, "{parts:?}");
            let letters: Vec<&str> = text.split("").collect();
            assert_eq!(encode_in_parts(&tokenizer, &letters, special), whole, "{text:?}");
        }
    }
}

/// The 256 bytes, random tokens of the letters a, b, c and merges of them in random order.
fn random_tokenizer(random: &mut impl FnMut(usize) -> usize) -> Tokenizer {
    let bytes = (0..=255).map(|byte| stored_char(byte).to_string());
    let mut tokens: Vec<Vec<u8>> = bytes.map(String::into_bytes).collect();
    let mut known: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    let mut merges = Vec::new();
    while merges.len() < 40 {
        let (left, right) = (&known[random(known.len())], &known[random(known.len())]);
        let joined = format!("{left}{right}");
        if joined.len() <= 9 && !known.contains(&joined) {
            merges.push(format!("{left} {right}").into_bytes());
            tokens.push(joined.clone().into_bytes());
            known.push(joined);
        }
    }
    for at in (1..merges.len()).rev() {
        merges.swap(at, random(at + 1));
    }
    let (tokens, merges) = (tokens.iter().map(Vec::as_slice), merges.iter().map(Vec::as_slice));
    Tokenizer::new(Vocabulary::new(tokens, merges)).unwrap()
}

#[test]
fn a_word_merged_in_windows_has_the_ids_of_the_whole() {
    let mut random = random();
    let mut scratch = Scratch::new();
    for _ in 0..300 {
        let tokenizer = random_tokenizer(&mut random);
        for _ in 0..30 {
            let letters = 1 + random(3);
            let word: Vec<u8> = (0..random(90)).map(|_| b'a' + random(letters) as u8).collect();
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            tokenizer.merge(&word, &mut scratch, &mut whole);
            tokenizer.encode_word(&word, 1 + random(20), &mut scratch, &mut parts);
            assert_eq!(parts, whole, "{:?}", String::from_utf8_lossy(&word));
        }
    }
}

#[test]
fn little_is_left_of_a_part() {
    let tokenizer = Parts::good().build().unwrap();
    let mut ids = Vec::new();
    let text = "ab abc, ab! ".repeat(1000);
    let settled = tokenizer.encode_part(&text, Special::Parse, &mut Scratch::new(), &mut ids);
    assert!(text.len() - settled < 30, "{} of {}", settled, text.len());
}

/// Any bytes in any field: an error or a tokenizer that works, never a panic.
#[test]
fn mutated_vocabularies_never_panic() {
    let mut random = random();
    let mut refused = 0;
    for _ in 0..2000 {
        let mut parts = Parts::good();
        for _ in 0..=random(3) {
            let list = if random(2) == 0 { &mut parts.tokens } else { &mut parts.merges };
            let at = random(list.len());
            match random(4) {
                0 => list[at] = (0..random(6)).map(|_| random(256) as u8).collect(),
                1 => drop(list.remove(at)),
                2 => list[at] = list[random(list.len())].clone(),
                _ => parts.kinds.as_mut().unwrap()[at] = random(8) as i32,
            }
        }
        let Ok(tokenizer) = parts.build() else {
            refused += 1;
            continue;
        };
        let text = "abc <|im_start|><tool>é\r\n it's 12";
        for special in [Special::Parse, Special::Text] {
            let ids = encode(&tokenizer, text, special);
            assert_eq!(decode(&tokenizer, &ids, Control::Show), text.as_bytes());
        }
    }
    assert!((200..1990).contains(&refused), "{refused} of 2000 refused");
}
