//! `tokenizer.json` and its neighbours: the vocabulary, as GGUF stores it.

use super::config::{Description, Ids};
use super::json::parse;
use super::texts::Texts;
use crate::Metadata;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use wick_text::{END_NAMES, Kind};

/// Names of files, for messages.
const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const GENERATION: &str = "generation_config.json";
/// How Qwen2's tokenizer cuts text into words, in the two spellings of one expression that are met: the first as it is
/// published, the second without flags.
const SPLITS: [&str; 2] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    model: Bpe,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Bpe {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair([String; 2]),
}

/// What `tokenizer_config.json` says of tokens.
#[derive(Default, Deserialize)]
struct Config {
    bos_token: Option<Named>,
    eos_token: Option<Named>,
    pad_token: Option<Named>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    #[serde(default)]
    added_tokens_decoder: BTreeMap<String, Decoded>,
}

/// A token by its id.
#[derive(Deserialize)]
struct Decoded {
    content: String,
}

/// A token by its text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Text(String),
    Token { content: String },
}

impl Named {
    fn text(&self) -> &str {
        match self {
            Named::Text(text) => text,
            Named::Token { content } => content,
        }
    }
}

/// What `generation_config.json` says of tokens.
#[derive(Default, Deserialize)]
struct Generation {
    eos_token_id: Option<Ids>,
}

/// Adds the tokenizer's keys.
///
/// # Errors
/// It is another kind of tokenizer, contradicts itself or the model's shape, or ends sequences in more ways than a file
/// can say.
pub(crate) fn describe(
    texts: &Texts,
    description: &Description,
    metadata: &mut Metadata,
) -> Result<(), String> {
    let file: File = parse(TOKENIZER, &texts.tokenizer)?;
    let wrong = |message: String| format!("{TOKENIZER}: {message}");
    file.check_kind().map_err(wrong)?;
    let tokens = Tokens::new(&file, description.config.vocab).map_err(wrong)?;
    let merges = file.model.merges.iter().map(Merge::text).collect::<Result<Vec<String>, String>>();
    let merges = merges.map_err(wrong)?;
    tokens.check(&merges).map_err(wrong)?;
    metadata
        .str("tokenizer.ggml.model", "gpt2")
        .str("tokenizer.ggml.pre", "qwen2")
        .strings("tokenizer.ggml.tokens", &tokens.texts)
        .integers("tokenizer.ggml.token_type", &tokens.kinds)
        .strings("tokenizer.ggml.merges", &merges);
    special_tokens(texts, description, &tokens, metadata)
}

/// Adds the tokens that begin and end sequences. The texts are asked in turn: `tokenizer_config.json` first, by name.
fn special_tokens(
    texts: &Texts,
    description: &Description,
    tokens: &Tokens,
    metadata: &mut Metadata,
) -> Result<(), String> {
    let config = texts.tokenizer_config.as_deref().map(|text| parse(CONFIG, text));
    let config: Config = config.transpose()?.unwrap_or_default();
    config.check(tokens)?;
    let generation = texts.generation_config.as_deref().map(|text| parse(GENERATION, text));
    let generation: Generation = generation.transpose()?.unwrap_or_default();
    let named =
        |named: &Option<Named>| named.as_ref().map(|token| tokens.id(token.text())).transpose();
    let bos = named(&config.bos_token)?.or(description.bos);
    let pad = named(&config.pad_token)?.or(description.pad);
    let mut ends: Vec<u32> = named(&config.eos_token)?.into_iter().collect();
    let generation = generation.eos_token_id.map(Ids::into_vec).unwrap_or_default();
    for id in generation.into_iter().chain(description.eos.iter().copied()) {
        if !ends.contains(&id) {
            ends.push(id);
        }
    }
    let Some((&eos, more)) = ends.split_first() else {
        return Err(format!(
            "{CONFIG}: eos_token: a token that ends sequences expected, none found"
        ));
    };
    let is_known =
        |id: &u32| tokens.texts.get(*id as usize).is_some_and(|t| END_NAMES.contains(&t.as_str()));
    let more: Vec<u32> = more.iter().copied().filter(|id| !is_known(id)).collect();
    if more.len() > 1 {
        let known = END_NAMES.join(" and ");
        return Err(format!(
            "eos_token_id: at most two ends of a sequence besides {known} expected, {ends:?} found"
        ));
    }
    let keys = [("bos", bos), ("eos", Some(eos)), ("eot", more.first().copied()), ("padding", pad)];
    for (name, id) in keys {
        let Some(id) = id else { continue };
        tokens.check_id(name, id)?;
        metadata.u32(&format!("tokenizer.ggml.{name}_token_id"), id);
    }
    metadata.bool("tokenizer.ggml.add_bos_token", config.add_bos_token.unwrap_or(false));
    Ok(())
}

impl Config {
    /// Refuses what a file cannot say, and what contradicts `tokenizer.json`.
    fn check(&self, tokens: &Tokens) -> Result<(), String> {
        if self.add_eos_token == Some(true) {
            return Err(format!("{CONFIG}: add_eos_token: false expected, true found"));
        }
        for (id, Decoded { content }) in &self.added_tokens_decoder {
            let known = id.parse().ok().and_then(|id: usize| tokens.texts.get(id));
            if known != Some(content) {
                let known = known.map_or("nothing", |text| text.as_str());
                return Err(format!(
                    "{CONFIG}: added_tokens_decoder: {id} is {content:?}, but {known:?} in {TOKENIZER}"
                ));
            }
        }
        Ok(())
    }
}

impl File {
    /// Refuses tokenizers that cut text otherwise than Qwen2's.
    fn check_kind(&self) -> Result<(), String> {
        let Bpe { kind, continuing_subword_prefix, end_of_word_suffix, .. } = &self.model;
        if let Some(kind) = kind.as_ref().filter(|kind| *kind != "BPE") {
            return Err(format!("model: BPE expected, {kind:?} found"));
        }
        let affixes = [continuing_subword_prefix, end_of_word_suffix];
        let has_affix = affixes.into_iter().flatten().any(|affix| !affix.is_empty());
        if has_affix || self.model.byte_fallback || self.model.ignore_merges {
            return Err("model: byte-level BPE expected, without prefixes, suffixes, byte_fallback or ignore_merges".into());
        }
        if self.post_processor.as_ref().is_some_and(|found| !keeps_tokens(found)) {
            return Err(
                "post_processor: ByteLevel or none expected, one that may add tokens found".into(),
            );
        }
        // NFC is left out by all readers of GGUF.
        if let Some(other) = self.normalizer.as_ref().filter(|n| n["type"] != "NFC") {
            return Err(format!("normalizer: NFC or none expected, {} found", other["type"]));
        }
        let cuts = self.pre_tokenizer.as_ref().is_some_and(is_qwen2);
        if cuts {
            Ok(())
        } else {
            Err("pre_tokenizer: that of Qwen2 expected, another one found".into())
        }
    }
}

/// Whether a post-processor adds no tokens.
fn keeps_tokens(found: &Value) -> bool {
    match found["type"].as_str() {
        Some("ByteLevel") => true,
        Some("Sequence") => {
            found["processors"].as_array().is_some_and(|all| all.iter().all(keeps_tokens))
        }
        _ => false,
    }
}

/// Whether a pre-tokenizer is the split by Qwen2's expression, and bytes.
fn is_qwen2(found: &Value) -> bool {
    let Some([split, bytes]) = found["pretokenizers"].as_array().and_then(|all| all.first_chunk())
    else {
        return false;
    };
    let pattern = split["pattern"]["Regex"].as_str();
    let is_split = split["type"] == "Split"
        && split["behavior"] == "Isolated"
        && split["invert"] != true
        && pattern.is_some_and(|pattern| SPLITS.contains(&pattern));
    let is_bytes = bytes["type"] == "ByteLevel"
        && bytes["add_prefix_space"] != true
        && bytes["use_regex"] == false;
    is_split && is_bytes && found["pretokenizers"].as_array().is_some_and(|all| all.len() == 2)
}

impl Merge {
    /// As a file has it: left and right with a space between.
    fn text(&self) -> Result<String, String> {
        let (left, right) = match self {
            Merge::Text(text) => text.split_once(' ').unwrap_or((text, "")),
            Merge::Pair([left, right]) => (left.as_str(), right.as_str()),
        };
        let is_one = |part: &str| !part.is_empty() && !part.contains(' ');
        match is_one(left) && is_one(right) {
            true => Ok(format!("{left} {right}")),
            false => Err(format!("merges: two tokens expected, {left:?} and {right:?} found")),
        }
    }
}

/// All tokens in the order of their ids, padded to the embedding's rows as llama.cpp's converter does it.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<i32>,
    ids: HashMap<String, u32>,
}

impl Tokens {
    fn new(file: &File, entries: usize) -> Result<Tokens, String> {
        let added =
            file.added_tokens.iter().map(|added| (added.content.as_str(), added.id, added.kind()));
        let normal = file.model.vocab.iter().map(|(text, &id)| (text.as_str(), id, Kind::Normal));
        let mut places: Vec<Option<(&str, Kind)>> = vec![None; entries];
        for (text, id, kind) in normal.chain(added) {
            let too_large =
                || format!("{text:?} has id {id}, but config.json has a vocab_size of {entries}");
            let place = places.get_mut(id as usize).ok_or_else(too_large)?;
            match place {
                Some((other, _)) if *other != text => {
                    return Err(format!("{text:?} and {other:?} have the same id, {id}"));
                }
                _ => *place = Some((text, kind)),
            }
        }
        let mut tokens = Tokens { texts: Vec::new(), kinds: Vec::new(), ids: HashMap::new() };
        for (id, place) in places.into_iter().enumerate() {
            let (text, kind) = match place {
                Some((text, kind)) => (text.to_owned(), kind),
                None => (format!("[PAD{id}]"), Kind::Unused),
            };
            if let Some(other) = tokens.ids.insert(text.clone(), id as u32) {
                return Err(format!("{text:?} has two ids, {other} and {id}"));
            }
            tokens.texts.push(text);
            tokens.kinds.push(kind as i32);
        }
        Ok(tokens)
    }

    /// The id of a token that `tokenizer_config.json` names.
    fn id(&self, text: &str) -> Result<u32, String> {
        let missing = || format!("{CONFIG}: {text:?} is no token of {TOKENIZER}");
        self.ids.get(text).copied().ok_or_else(missing)
    }

    /// Checks that they are a tokenizer.
    fn check(&self, merges: &[String]) -> Result<(), String> {
        let vocabulary = wick_text::Vocabulary {
            tokens: self.texts.iter().map(String::as_bytes),
            merges: merges.iter().map(String::as_bytes),
            kinds: Some(self.kinds.iter().copied()),
            bos: None,
            eos: None,
            eot: None,
            add_bos: false,
        };
        wick_text::Tokenizer::new(vocabulary).map(drop).map_err(|error| error.to_string())
    }

    fn check_id(&self, name: &str, id: u32) -> Result<(), String> {
        let most = self.texts.len();
        let refusal = || format!("{name}_token_id: an id below {most} expected, {id} found");
        if (id as usize) < most { Ok(()) } else { Err(refusal()) }
    }
}

impl Added {
    /// What readers take it for: a sign if it says so or looks so, else text that is always found.
    fn kind(&self) -> Kind {
        let looks_special = self.content.starts_with("<|") && self.content.ends_with("|>");
        if self.special || looks_special { Kind::Control } else { Kind::UserDefined }
    }
}
