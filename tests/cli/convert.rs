//! `wick convert`, with published weights at toy size (`tests/models/published.py`): what is made of them.

mod refused;

use crate::program::{fails, golden, stdout, wick, wick_with};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;
use wick_format::Gguf;

/// Both layouts: as the 4B's (BF16, tied, two shards), as the 21B's (F16, windows, its own LM head).
const NAMES: [&str; 2] = ["small", "large"];
const IDS: &str = "5 280 17 99 271 3 64 200 150 31 260 44";

fn published(name: &str) -> PathBuf {
    golden("published").join(name)
}

/// A copy of a folder with published weights, to be changed.
struct Copy {
    temporary: TempDir,
    name: &'static str,
}

impl Copy {
    fn of(name: &'static str) -> Copy {
        let copy = Copy { temporary: tempfile::tempdir().unwrap(), name };
        fs::create_dir(copy.file("")).unwrap();
        for entry in fs::read_dir(published(name)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.file(path.file_name().unwrap().to_str().unwrap())).unwrap();
        }
        copy
    }

    fn file(&self, name: &str) -> PathBuf {
        self.temporary.path().join(self.name).join(name)
    }

    fn out(&self) -> String {
        self.temporary.path().join("out.gguf").display().to_string()
    }

    fn convert(&self, more: &[&str]) -> Output {
        let (folder, out) = (self.file("").display().to_string(), self.out());
        wick(&[&["convert", &folder, "-o", &out][..], more].concat())
    }

    /// Changes a text of JSON.
    fn change(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&fs::read(self.file(file)).unwrap()).unwrap();
        change(&mut value);
        fs::write(self.file(file), value.to_string()).unwrap();
    }

    fn refuses(&self, code: i32, text: &str) {
        fails(&self.convert(&[]), code, text);
        let left = fs::read_dir(self.temporary.path()).unwrap().count();
        assert_eq!(left, 1, "nothing is left behind");
    }
}

/// Everything that a file says, by keys and names.
fn contents(path: &Path) -> BTreeMap<String, String> {
    let bytes = fs::read(path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let keys = gguf.entries().map(|entry| (entry.key.to_owned(), format!("{:?}", entry.value)));
    let tensors = gguf.tensors().map(|tensor| {
        let digest = digest(tensor.bytes().unwrap());
        let found = format!("{} of type {}: {digest:x}", tensor.dims(), tensor.number());
        (format!("tensor {}", tensor.name()), found)
    });
    keys.chain(tensors).collect()
}

/// Tells bytes apart.
fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn floats(path: &Path) -> Vec<f32> {
    fs::read(path).unwrap().as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

#[test]
fn files_are_those_of_another_converter() {
    for name in NAMES {
        let copy = Copy::of(name);
        for threads in ["1", "2"] {
            let said = stdout(&copy.convert(&["--threads", threads]));
            assert!(said.contains(" tensors, ") && said.contains(" bits a weight, "), "{said}");
            let (found, expected) =
                (contents(Path::new(&copy.out())), contents(&published(&format!("{name}.gguf"))));
            for (key, expected) in &expected {
                assert_eq!(found.get(key), Some(expected), "{name}: {key}");
            }
            assert_eq!(found.len(), expected.len(), "{name}: {:?}", found.keys());
        }
    }
}

#[test]
fn logits_are_those_of_the_original_weights() {
    for name in NAMES {
        let copy = Copy::of(name);
        stdout(&copy.convert(&["--type", "f32"]));
        let (model, out) = (copy.out(), copy.file("logits.f32"));
        stdout(&wick(&["logits", "-m", &model, "--ids", IDS, "--out", &out.display().to_string()]));
        let (found, expected) = (floats(&out), floats(&published(&format!("{name}.numpy.f32"))));
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0f32, |a, b| a.max(b.abs()));
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() <= 1e-3 * largest, "{name}: {a} found, {b} expected");
        }
    }
}

/// Types are as if the file had been quantized afterwards.
#[test]
fn conversion_to_a_type_is_conversion_and_quantization() {
    for name in NAMES {
        let copy = Copy::of(name);
        let plain = copy.file("plain.gguf").display().to_string();
        stdout(&copy.convert(&["--type", "f32"]));
        fs::rename(copy.out(), &plain).unwrap();
        for options in [
            &["--type", "q4_0"][..],
            &["--type", "q4_0", "--pure"],
            &["--type", "q8_0", "--output-type", "f16"],
            &["--type", "f16"],
        ] {
            let (quantized, converted) = (copy.file("quantized.gguf"), copy.out());
            let out = quantized.display().to_string();
            stdout(&wick(&[&["quantize", &plain, "-o", &out][..], options].concat()));
            stdout(&copy.convert(options));
            assert_eq!(contents(&quantized), contents(Path::new(&converted)), "{name} {options:?}");
            stdout(&wick(&["run", "-m", &converted, "-n", "3", "hi"]));
        }
    }
}

/// Nothing stands between a folder and a packed file.
#[test]
fn a_converted_model_is_packed_at_once() {
    for name in NAMES {
        let copy = Copy::of(name);
        let [plain, packed, unpacked] =
            ["plain", "packed", "unpacked"].map(|name| copy.file(name).display().to_string());
        for options in [&["--type", "q4_0"][..], &[]] {
            stdout(&copy.convert(options));
            fs::rename(copy.out(), &plain).unwrap();
            stdout(&copy.convert(&[&["--pack", "--threads", "3"][..], options].concat()));
            stdout(&wick(&["pack", &plain, "-o", &packed]));
            assert!(fs::read(&packed).unwrap() == fs::read(copy.out()).unwrap(), "{name}");
            stdout(&wick(&["quantize", &plain, "-o", &copy.out(), "--type", "q8_0", "--pack"]));
            stdout(&wick(&["pack", "--verify", &copy.out()]));
            stdout(&wick(&["unpack", &packed, "-o", &unpacked]));
            assert!(fs::read(&unpacked).unwrap() == fs::read(&plain).unwrap(), "{name}");
        }
    }
}

/// Tokens are those of the original tokenizer, and a chat is what the template makes of it.
#[test]
fn a_converted_model_chats() {
    for name in NAMES {
        let copy = Copy::of(name);
        stdout(&copy.convert(&[]));
        let model = copy.out();
        let text = b"<|im_start|>the flame<tool_call>";
        let ids = stdout(&wick_with(text, &["tokenize", "-m", &model]));
        assert!(ids.contains("298") && ids.contains("301"), "{ids}");
        let inspect = stdout(&wick(&["inspect", "--json", &model]));
        let report: Value = serde_json::from_str(&inspect).unwrap();
        assert_eq!(report["name"], name);
        assert_eq!(report["tokenizer"]["end"], json!([297, 299]));
        assert_eq!(report["tokenizer"]["chat_template"], true);
        stdout(&wick(&["run", "-m", &model, "-n", "3", "hi"]));
    }
}

/// A safetensors file.
fn write_shard(path: &Path, tensors: &[(&str, &str, &[usize], &[u8])]) {
    let (mut table, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend(*bytes);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        table.insert((*name).into(), entry);
    }
    let mut head = Value::Object(table).to_string().into_bytes();
    head.resize(head.len().next_multiple_of(8), b' ');
    fs::write(path, [&(head.len() as u64).to_le_bytes()[..], &head, &data].concat()).unwrap();
}

#[test]
fn a_predictor_is_taken_over() {
    let copy = Copy::of("small");
    let (rank, hidden, vocab) = (32, 32, 320);
    let values = |seed: usize, len: usize| -> Vec<u8> {
        let value = |i: usize| ((i * 31 + seed) % 17) as f32 / 16.0 - 0.5;
        (0..len).flat_map(|i| value(i).to_le_bytes()).collect()
    };
    let (first, second) = (values(1, rank * hidden), values(2, vocab * rank));
    let file = copy.file("../predictor.safetensors");
    let path = file.display().to_string();
    write_shard(
        &file,
        &[
            ("a.weight", "F32", &[vocab, rank], &second),
            ("b.weight", "F32", &[rank, hidden], &first),
        ],
    );
    stdout(&copy.convert(&["--type", "q4_0", "--lm-head", &path]));
    let (model, converted) = (copy.out(), contents(Path::new(&copy.out())));
    assert!(converted["tensor lm_head_profiler.weight"].contains("of type 2"), "{converted:?}");
    stdout(&wick(&["run", "-m", &model, "--output", "profiler", "-n", "3", "hi"]));
    // A file that has one lends it as it is.
    let other = copy.file("../other.gguf").display().to_string();
    fs::rename(&model, &other).unwrap();
    stdout(&copy.convert(&["--type", "f16", "--lm-head", &other]));
    let again = contents(Path::new(&copy.out()));
    assert_eq!(
        again["tensor lm_head_profiler.weight"],
        converted["tensor lm_head_profiler.weight"]
    );

    fs::remove_file(copy.out()).unwrap();
    let nothing: [(&str, &str, &[usize], &[u8]); 2] =
        [("a.weight", "F32", &[0, hidden], &[]), ("b.weight", "F32", &[vocab, 0], &[])];
    write_shard(&file, &nothing);
    fails(&copy.convert(&["--lm-head", &path]), 3, "no features found");
    write_shard(&file, &[("a.weight", "F32", &[rank, hidden], &first)]);
    fails(
        &copy.convert(&["--lm-head", &path]),
        3,
        "two matrices of N x 32 and 320 x N weights expected",
    );
    let without = published("small.gguf").display().to_string();
    fails(&copy.convert(&["--lm-head", &without]), 3, "no lm_head_profiler.weight is in it");
}
