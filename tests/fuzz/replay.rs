//! What a fuzzer has found goes well, on any toolchain; and so does each of it with some bytes changed.

use std::fs;
use std::path::{Path, PathBuf};
use wick_fuzz::TARGETS;
use wick_tests::random::Random;

/// What was found for a target, in the order of names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn the_corpus_goes_well() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "{name}");
        for (path, bytes) in &files {
            println!("{}", path.display());
            target(bytes);
        }
    }
}

#[test]
fn so_does_what_is_near_to_it() {
    let mut random = Random(21);
    for (name, target) in TARGETS {
        let files = corpus(name);
        for _ in 0..40 {
            let mut bytes = files[random.below(files.len())].1.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() + 1);
                match random.below(3) {
                    0 => bytes.insert(at, random.bits() as u8),
                    1 => bytes.truncate(at),
                    _ => bytes
                        .iter_mut()
                        .skip(at)
                        .take(1)
                        .for_each(|byte| *byte = random.bits() as u8),
                }
            }
            target(&bytes);
        }
    }
}
