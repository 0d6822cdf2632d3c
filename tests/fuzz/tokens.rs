//! Text to tokens and back.

use arbitrary::{Result, Unstructured};
use std::ops::Range;
use std::sync::LazyLock;
use wick_format::Gguf;
use wick_tests::golden_bytes;
use wick_text::{Control, Detokenizer, Special, Tokenizer, Vocabulary, stored_char};

/// The tokenizer of nano.
pub(crate) static NANO: LazyLock<Tokenizer> = LazyLock::new(|| {
    let gguf = Gguf::parse(golden_bytes("../models/nano/nano.gguf")).expect("a committed file");
    wick_session::tokenizer(&gguf).expect("a good vocabulary")
});

/// Control tokens, parts of them, and what may stand around them.
pub(crate) const PIECES: [&str; 16] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|",
    "|>",
    "im_end",
    "<|im_",
    "end|>",
    "<",
    ">",
    "|",
    "_",
    " ",
    "\n",
    "é🙂",
    "user",
];

/// A text of pieces and of anything.
pub(crate) fn text(bytes: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::new();
    for _ in 0..bytes.int_in_range(0..=12)? {
        match bytes.arbitrary::<u8>()? {
            choice if usize::from(choice) < 8 * PIECES.len() => {
                text += PIECES[usize::from(choice) % PIECES.len()]
            }
            _ => text += bytes.arbitrary::<&str>()?,
        }
    }
    Ok(text)
}

/// A text of which some is a user's: it comes back as it was, and nothing of the user's becomes a control token.
pub fn marked(bytes: &[u8]) {
    let _used_up = marked_text(&mut Unstructured::new(bytes));
}

fn marked_text(bytes: &mut Unstructured<'_>) -> Result<()> {
    let (mut all, mut user) = (String::new(), Vec::new());
    for i in 0..bytes.int_in_range(1..=6)? {
        let start = all.len();
        all += &text(bytes)?;
        if i % 2 == 1 && all.len() > start {
            user.push(start..all.len());
        }
    }
    let mut ids = Vec::new();
    NANO.encode_marked(&all, &user, &mut ids);
    check_marked(&NANO, &all, &user, &ids);
    Ok(())
}

/// Checks that ids are this text, and that none of the user's became a control token.
pub(crate) fn check_marked(tokenizer: &Tokenizer, text: &str, user: &[Range<usize>], ids: &[u32]) {
    let mut at = 0;
    for id in ids {
        let found = tokenizer.token_bytes(*id).expect("a token of the vocabulary");
        assert_eq!(text.as_bytes().get(at..at + found.len()), Some(found), "{text:?} at {at}");
        let touches = user.iter().any(|user| user.start < at + found.len() && at < user.end);
        assert!(
            !(touches && tokenizer.is_control(*id)),
            "{text:?} {user:?}: control token at {at}"
        );
        at += found.len();
    }
    assert_eq!(at, text.len(), "{text:?}");
}

/// A vocabulary that may be anything, and a text for it.
pub fn vocabulary(bytes: &[u8]) {
    let _used_up = any_vocabulary(&mut Unstructured::new(bytes));
}

fn any_vocabulary(bytes: &mut Unstructured<'_>) -> Result<()> {
    let mut tokens: Vec<String> = (0..=255).map(|byte| stored_char(byte).into()).collect();
    let mut kinds = vec![1; tokens.len()];
    let mut merges: Vec<String> = Vec::new();
    for _ in 0..bytes.int_in_range(0..=24)? {
        match bytes.int_in_range(0..=3)? {
            0 => {
                (
                    tokens.push(bytes.arbitrary::<&str>()?.into()),
                    kinds.push(bytes.int_in_range(0..=7)?),
                )
                    .1
            }
            1 => merges.push(bytes.arbitrary::<&str>()?.into()),
            _ => {
                let (a, b) = (bytes.choose(&tokens)?.clone(), bytes.choose(&tokens)?.clone());
                if bytes.arbitrary()? && !tokens.contains(&(a.clone() + &b)) {
                    tokens.push(a.clone() + &b);
                    kinds.push(1);
                }
                merges.push(format!("{a} {b}"));
            }
        }
    }
    let tokenizer = Tokenizer::new(Vocabulary {
        tokens: tokens.iter().map(String::as_bytes),
        merges: merges.iter().map(String::as_bytes),
        kinds: bytes.ratio(7, 8)?.then(|| kinds.iter().copied()),
        bos: bytes.arbitrary()?,
        eos: bytes.arbitrary()?,
        eot: None,
        add_bos: bytes.arbitrary()?,
    });
    match tokenizer {
        Ok(tokenizer) => {
            check_round_trip(&tokenizer, &text(bytes)?, bytes.peek_bytes(16).unwrap_or_default())
        }
        Err(error) => crate::load::check(&error),
    }
    Ok(())
}

/// A text comes back from its tokens; and what comes token by token is what comes at once.
fn check_round_trip(tokenizer: &Tokenizer, text: &str, more: &[u8]) {
    for special in [Special::Text, Special::Parse] {
        let mut ids = Vec::new();
        tokenizer.encode(text, special, &mut ids);
        let all = 0..if special == Special::Text { text.len() } else { 0 };
        check_marked(tokenizer, text, std::slice::from_ref(&all), &ids);
        ids.extend(more.iter().map(|id| u32::from(*id)));
        for control in [Control::Show, Control::Hide] {
            let (mut decoded, mut stream) = (Vec::new(), Detokenizer::new(control));
            tokenizer.decode(&ids, control, &mut decoded);
            let mut streamed: String =
                ids.iter().map(|id| stream.push(tokenizer, *id).to_owned()).collect();
            streamed += stream.finish();
            assert_eq!(streamed, String::from_utf8_lossy(&decoded));
        }
    }
}
