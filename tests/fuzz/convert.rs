//! Published weights and what lies beside them.

use std::fs;
use std::sync::LazyLock;
use wick_prepare::{Checkpoint, ConvertRule, Error, Predictor, Texts, convert};
use wick_tests::golden_path;

/// Bytes of weights at most that are made up for a table.
const MOST: usize = 1 << 20;
const RULE: ConvertRule = ConvertRule { format: None, lm_head: None, is_pure: false };

/// A small checkpoint: its texts, and its shards by name.
struct Published {
    texts: Texts,
    shards: Vec<(String, Vec<u8>)>,
}

static PUBLISHED: LazyLock<[Published; 2]> = LazyLock::new(|| {
    ["small", "large"].map(|name| {
        let folder = golden_path("published").join(name);
        let paths = wick_prepare::shards(&folder).expect("committed shards");
        let shards =
            paths.iter().map(|path| (path.display().to_string(), fs::read(path).expect("a shard")));
        Published {
            texts: Texts::read(&folder).expect("committed texts"),
            shards: shards.collect(),
        }
    })
});

/// Any bytes as a file of safetensors, and any text as the table of one.
pub fn checkpoint(bytes: &[u8]) {
    read(bytes);
    let end =
        serde_json::from_slice::<serde_json::Value>(bytes).ok().map_or(0, |table| end(&table));
    let mut file = (bytes.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(bytes);
    file.resize(file.len() + end.min(MOST), 0);
    read(&file);
}

/// What is wrong, in a few words. They may be of the file: whoever shows them makes a line of them.
fn check(error: &Error) {
    assert!(error.to_string().len() < 4096, "{error}");
}

/// Where the data ends that a table tells of.
fn end(table: &serde_json::Value) -> usize {
    let tensors = table.as_object().into_iter().flat_map(|table| table.values());
    let ends = tensors.filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    ends.max().unwrap_or(0) as usize
}

fn read(file: &[u8]) {
    let small = &PUBLISHED[0];
    match Checkpoint::parse([("model.safetensors", file)]) {
        Ok(found) => match convert("a", &small.texts, &found, None, RULE) {
            Ok(model) => assert!(model.tensors() > 0),
            Err(error) => check(&error),
        },
        Err(error) => check(&error),
    }
    if let Err(error) = Predictor::parse("profiler", file) {
        check(&error);
    }
}

/// Any texts beside the weights, parted by a byte of 0.
pub fn texts(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let Published { texts, shards } = &PUBLISHED[usize::from(choice % 2)];
    let mut texts = texts.clone();
    let mut given =
        rest.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    let mut next = || given.next().filter(|text| !text.is_empty());
    texts.config = next().unwrap_or(texts.config);
    texts.tokenizer = next().unwrap_or(texts.tokenizer);
    texts.tokenizer_config = next().or(texts.tokenizer_config);
    texts.generation_config = next().or(texts.generation_config);
    texts.chat_template = next().or(texts.chat_template);
    let shards = shards.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let checkpoint = Checkpoint::parse(shards).expect("committed shards");
    if let Err(error) = convert("a", &texts, &checkpoint, None, RULE) {
        check(&error);
    }
}
