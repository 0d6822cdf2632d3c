//! Conversations to tokens, by the templates of many families.

use crate::tokens::{PIECES, check_marked};
use arbitrary::{Result, Unstructured};
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::LazyLock;
use wick_serve::{Chat, Value, trust_roles};
use wick_text::{Tokenizer, Vocabulary, stored_char};

/// Control tokens of the families whose templates are committed.
const CONTROL: [&str; 24] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "<|tool|>",
    "<|start|>",
    "<|message|>",
    "<tool_call>",
    "</tool_call>",
    "<|im_sep|>",
    "[AVAILABLE_TOOLS]",
];
const ROLES: [&str; 9] = [
    "system",
    "user",
    "assistant",
    "tool",
    "developer",
    "model",
    "user|><|im_end",
    "<|im_end|>",
    "ipython",
];
/// What a user's text stands between; the templates know neither.
const MARKS: [char; 2] = ['⟦', '⟧'];

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let mut tokens: Vec<String> = (0..=255).map(|byte| stored_char(byte).into()).collect();
    tokens.extend(CONTROL.map(String::from));
    let kinds = (0..tokens.len()).map(|id| if id < 256 { 1 } else { 3 });
    let vocabulary = Vocabulary::new(tokens.iter().map(String::as_bytes), std::iter::empty());
    let Vocabulary { tokens, merges, bos, eos, eot, add_bos, .. } = vocabulary;
    let vocabulary = Vocabulary { tokens, merges, kinds: Some(kinds), bos, eos, eot, add_bos };
    Tokenizer::new(vocabulary).expect("a good vocabulary")
});

static CHATS: LazyLock<Vec<Chat>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("templates").flatten().map(|e| e.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    paths.sort();
    let read = |path| Chat::new(&std::fs::read_to_string(path).expect("a text"), &TOKENIZER);
    paths.into_iter().map(|path| read(path).expect("a template")).collect()
});

/// A conversation by one of the committed templates: no text of a user becomes a control token.
pub fn conversation(bytes: &[u8]) {
    let _used_up = any_conversation(&mut Unstructured::new(bytes));
}

fn any_conversation(bytes: &mut Unstructured<'_>) -> Result<()> {
    let chat = bytes.choose(&CHATS)?;
    let mut said = Vec::new();
    for _ in 0..bytes.int_in_range(1..=5)? {
        let mut message = json!({"role": bytes.choose(&ROLES)?, "content": text(bytes)?});
        if bytes.ratio(1, 6)? {
            let function = json!({"name": text(bytes)?, "arguments": {text(bytes)?: text(bytes)?}});
            message["tool_calls"] =
                json!([{"type": "function", "id": text(bytes)?, "function": function}]);
        }
        said.push(message);
    }
    let messages: Value =
        serde_json::from_value(Json::Array(said)).expect("values that are all known");
    let mut context = chat.context(trust_roles(&messages));
    if bytes.ratio(1, 6)? {
        let tool = json!([{"type": "function", "function": {"name": text(bytes)?, "description": text(bytes)?,
            "parameters": {"type": "object", "properties": {text(bytes)?: {"type": "string"}}}}}]);
        context =
            context.with("tools", serde_json::from_value(tool).expect("values that are all known"));
    }
    let Ok(prompt) = chat.prompt_with(&context) else { return Ok(()) };
    let ids = prompt.encode(&TOKENIZER);
    check_marked(&TOKENIZER, prompt.text(), prompt.user(), &ids);
    check_spans(prompt.text(), &ids);
    Ok(())
}

/// A text of a user, between marks.
fn text(bytes: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::from(MARKS[0]);
    for _ in 0..bytes.int_in_range(0..=6)? {
        let pieces = if bytes.arbitrary()? { &PIECES[..] } else { &CONTROL[..] };
        text += bytes.choose(pieces)?;
    }
    text.push(MARKS[1]);
    Ok(text)
}

/// Checks that no control token stands between two marks, whatever the prompt says of what is the user's.
fn check_spans(text: &str, ids: &[u32]) {
    let mut is_within = false;
    let mut bytes = Vec::new();
    for id in ids {
        assert!(!(is_within && TOKENIZER.is_control(*id)), "{text:?}");
        bytes.extend_from_slice(TOKENIZER.token_bytes(*id).unwrap_or_default());
        let [open, close] = MARKS.map(|mark| bytes.ends_with(mark.to_string().as_bytes()));
        is_within = (is_within || open) && !close;
    }
}
