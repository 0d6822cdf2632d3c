//! Broken files: each is refused with a message that says what is wrong, none panics, and reading
//! them allocates nothing.

mod bytes;
mod cases;
mod keys;
mod splits;
mod tables;
mod tensors;

use cases::Broken;
use wick_format::{Error, Gguf, Model, Overrides, Value as Read};
use wick_tests::counting::{Counting, thread_bytes};
use wick_tests::gguf::Writer;
use wick_tests::random::Random;
use wick_tests::tiny::Tiny;

#[global_allocator]
static COUNTING: Counting = Counting;

/// What is said of types that wick does not compute with, `[works]` below.
const WORKS: &str = "; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K are: quantize the \
                     model to Q4_0";
/// What is said of files that end too early, `[again]` below.
const AGAIN: &str = ": the file is incomplete or damaged: download it again";

fn all() -> Vec<Broken> {
    let groups = [
        bytes::headers,
        bytes::foreign,
        bytes::values,
        tables::tables,
        keys::missing_keys,
        keys::changed_keys,
        tensors::missing_tensors,
        tensors::unknown_tensors,
        tensors::types,
        tensors::shapes,
        splits::splits,
    ];
    groups.into_iter().flat_map(|group| group()).collect()
}

/// Reads everything that can be read of a model. `parts` has room for all files.
fn load<'m>(files: &'m [Vec<u8>], parts: &mut Vec<Gguf<'m>>) -> Result<(), Error<'m>> {
    for file in files {
        parts.push(Gguf::parse(file)?);
    }
    for gguf in &*parts {
        gguf.entries().for_each(|entry| walk(entry.value));
        gguf.tensors().for_each(|tensor| _ = tensor.bytes().map(<[u8]>::len));
    }
    let model = Model::new(parts)?;
    let config = model.config(Overrides::default())?;
    model.weights(&config)?.validate(&config).expect("weights that were checked by name");
    model.unused(config.layers).for_each(drop);
    Ok(())
}

/// Visits each value of nested arrays.
fn walk(value: Read<'_>) {
    if let Read::Array(array) = value {
        assert_eq!(array.iter().map(walk).count(), array.len());
    }
}

/// The error that files are refused with, after it was seen that nothing was allocated.
fn refusal(files: &[Vec<u8>]) -> Option<String> {
    let mut parts = Vec::with_capacity(files.len());
    let before = thread_bytes();
    let result = load(files, &mut parts);
    let allocated = thread_bytes() - before;
    assert_eq!(allocated, 0, "bytes allocated");
    let message = result.err()?.to_string();
    assert!(message.len() < 300 && !message.contains(char::is_control), "{message}");
    Some(message)
}

#[test]
fn broken_files_are_refused() {
    let all = all();
    let mut names: Vec<&str> = all.iter().map(|broken| broken.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len(), "each name once");
    assert!(all.len() >= 60);
    for Broken { name, files, message } in all {
        let expected = message.replace('~', "smallthinker.").replace("[again]", AGAIN);
        let expected = expected.replace("[works]", WORKS);
        assert_eq!(refusal(&files), Some(expected), "{name}");
    }
}

#[test]
fn the_good_files_are_good() {
    assert_eq!(refusal(&[Tiny::default().to_bytes()]), None);
    let parts: Vec<Vec<u8>> =
        Tiny::default().writer().split(8).iter().map(Writer::to_bytes).collect();
    assert_eq!(parts.len(), 3);
    assert_eq!(refusal(&parts), None);
}

/// Cut anywhere, a file is refused: at each byte of the head, and at many in the data.
#[test]
fn truncated_files_are_refused() {
    let bytes = Tiny::default().to_bytes();
    let head = Tiny::default().writer().head().len();
    for len in (0..head).chain((head..bytes.len()).step_by(97)).chain([bytes.len() - 1]) {
        let message = refusal(&[bytes[..len].to_vec()]).unwrap_or_else(|| panic!("{len} bytes"));
        let said = message.contains("incomplete") || len < 8 && message.contains("bytes needed");
        assert!(said, "{len} bytes: {message}");
    }
}

/// Whatever bytes a file has, nothing panics.
#[test]
fn random_damage_never_panics() {
    let good = Tiny::default().to_bytes();
    let head = Tiny::default().writer().head().len();
    let mut random = Random(7);
    let mut refused = 0;
    let mut files = [good.clone()];
    for _ in 0..4000 {
        files[0].clone_from(&good);
        for _ in 0..=random.below(8) {
            // Most damage where most is decided: header, numbers and tensor table.
            let end = [64, 1024, head, head, good.len()][random.below(5)];
            let at = [random.below(end), head - 1 - random.below(1500)][random.below(2)];
            files[0][at] = [random.bits() as u8, 0, 0xff, files[0][at] ^ 1 << random.below(8)]
                [random.below(4)];
        }
        if random.below(4) == 0 {
            files[0].truncate(random.below(good.len()));
        }
        refused += usize::from(refusal(&files).is_some());
    }
    assert!(refused > 1000, "{refused} of 4000 refused");
}
