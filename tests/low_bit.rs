//! Low-bit copies of experts: packed beside them, found damaged, used where the engine is told to, and
//! without a trace where not.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;
use wick_core::{
    Approximation, Decaying, Engine, HeadRows, KvFormat, Logits, Options, Parallel, Part, Serial,
    Token,
};
use wick_format::{Gguf, Overrides};
use wick_linux::{Caching, Catalogue, Cpus, FileStore, LowBit, ModelFile, Pool, kernels};
use wick_prepare::{Damage, Pack, Unpack, verify};
use wick_tests::{Model, bits, expert_locations, golden_bytes, ids, largest_difference, range};

const NANO: &str = "../models/nano/nano.gguf";
const NONE: Approximation = Approximation::NONE;
const LOW: Approximation = Approximation { low_bit: true, ..NONE };

/// The bytes of nano, packed with copies; making these takes longest.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    pack(golden_bytes(NANO), &path, true).unwrap();
    fs::read(path).unwrap()
});

/// nano, packed with copies, in a folder of its own.
struct Packed {
    folder: TempDir,
    model: Model,
    files: &'static [ModelFile],
    low_bit: LowBit,
}

fn pack(bytes: &'static [u8], path: &Path, low_bit: bool) -> Result<(), String> {
    let files = [Gguf::parse(bytes).unwrap()];
    let mut pack = Pack::new(wick_format::Model::new(&files).unwrap(), HeadRows::Exact).unwrap();
    if low_bit {
        pack = pack.with_low_bit().map_err(|e| e.to_string())?;
    }
    let mut read = 0;
    let count = |done: &[u8]| {
        read += done.len() as u64;
        ControlFlow::Continue(())
    };
    pack.write(path, count).unwrap();
    assert_eq!(read, pack.bytes());
    Ok(())
}

impl Packed {
    fn new() -> Packed {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        fs::write(&path, &*BYTES).unwrap();
        let files: &'static [ModelFile] = vec![ModelFile::open(&path).unwrap()].leak();
        let model = Model::read(&[&files[0]]).with(kernels());
        let gguf = [Gguf::parse(&files[0]).unwrap()];
        let file = wick_format::Model::new(&gguf).unwrap();
        let packed = file.packed().unwrap();
        let layer =
            |layer| packed.low_bit(&model.config, layer).unwrap().map(|layer| layer.locations());
        let layers: Vec<_> = (0..model.config.layers).map(layer).collect();
        assert!(layers.iter().all(Option::is_some));
        let low_bit = LowBit { layers, checksums: packed.low_bit_checksums().collect() };
        Packed { folder, model, files, low_bit }
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("model")).unwrap()
    }

    fn engine(&self, slots: usize, copies: bool) -> Engine<'static> {
        let caching = Caching::Direct;
        let (files, experts) = (self.files, expert_locations(&self.files[0]));
        let catalogue = Catalogue::new(self.model.weights, files, &experts, Vec::new(), caching);
        let mut catalogue = catalogue.unwrap();
        if copies {
            catalogue = catalogue.with_low_bit(self.low_bit.clone());
        }
        let store = Box::leak(Box::new(FileStore::new(catalogue, slots).unwrap()));
        let options = Options {
            context: 64,
            sequences: 1,
            batch: 32,
            logits: 32,
            head_rows: HeadRows::Exact,
            kv: KvFormat::default(),
        };
        let policy: &'static Decaying = Box::leak(Box::new(Decaying::default()));
        self.model.streaming(options, store, policy, &Serial as &'static dyn Parallel)
    }

    fn experts(&self) -> usize {
        self.model.config.layers * self.model.config.experts
    }

    fn ids(&self) -> Vec<u32> {
        ids(60, self.model.config.vocab)
    }
}

fn logits(
    engine: &mut Engine<'_>,
    ids: &[u32],
    batch: usize,
    approximation: Approximation,
) -> Vec<f32> {
    engine.truncate(0, 0).unwrap();
    let token = |id: &u32| Token { approximation, ..Token::new(*id, 0, Logits::All) };
    let mut all = Vec::new();
    for chunk in ids.chunks(batch) {
        engine.step(&chunk.iter().map(token).collect::<Vec<_>>()).unwrap();
        (0..chunk.len()).for_each(|i| all.extend_from_slice(engine.logits(i).unwrap()));
    }
    all
}

fn damages(bytes: &[u8]) -> Vec<Damage> {
    let files = [Gguf::parse(bytes).unwrap()];
    let mut all = Vec::new();
    let model = wick_format::Model::new(&files).unwrap();
    verify(model, |damage| all.push(damage), |_| ControlFlow::Continue(())).unwrap();
    all
}

#[test]
fn copies_stand_beside_the_model_and_are_no_part_of_it() {
    let packed = Packed::new();
    let (folder, bytes) = (packed.folder.path(), packed.bytes());
    assert_eq!(damages(&bytes), []);
    pack(golden_bytes(NANO), &folder.join("plain"), false).unwrap();
    let plain = fs::read(folder.join("plain")).unwrap();
    let data = |bytes: &[u8]| Gguf::parse(bytes).unwrap().data_offset();
    let experts = &plain[data(&plain)..];
    assert!(bytes[data(&bytes)..].starts_with(experts), "copies come after all else");
    assert!(!Gguf::parse(&plain).unwrap().entries().any(|entry| entry.key.contains("tier")));
    let files = [Gguf::parse(&bytes).unwrap()];
    let model = wick_format::Model::new(&files).unwrap();
    assert_eq!(model.unused(packed.model.config.layers).count(), 0);
    let unpacked = folder.join("unpacked");
    let flow = |_: &[u8]| ControlFlow::Continue(());
    Unpack::new(model).unwrap().write(&unpacked, flow).unwrap();
    assert!(fs::read(&unpacked).unwrap() == golden_bytes(NANO));
    // Experts of other formats have no copies.
    let error = pack(golden_bytes("q8_0.gguf"), &folder.join("other"), true).unwrap_err();
    assert!(error.contains("none found"), "{error}");
}

/// More threads than a layer has experts for, in the end.
#[test]
fn any_number_of_threads_packs_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let files = [Gguf::parse(golden_bytes(NANO)).unwrap()];
    let model = wick_format::Model::new(&files).unwrap();
    let pack = Pack::new(model, HeadRows::Exact).unwrap().with_low_bit().unwrap();
    let pool = Pool::new(5, &Cpus::detect());
    pack.with_threads(&pool).write(&path, |_| ControlFlow::Continue(())).unwrap();
    assert!(fs::read(path).unwrap() == *BYTES);
}

#[test]
fn damaged_copies_are_named() {
    let packed = Packed::new();
    let good = packed.bytes();
    let files = [Gguf::parse(&good).unwrap()];
    let model = wick_format::Model::new(&files).unwrap();
    let config = model.config(Overrides::default()).unwrap();
    let place = model.packed().unwrap().low_bit(&config, 3).unwrap().unwrap();
    for part in Part::ALL {
        let at = place.end(5, part) as usize - 1;
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let found = damages(&bytes);
        assert_eq!(found.len(), 1);
        let expected = format!("blk.3.{}.weight, expert 5, at byte ", part.tensor());
        assert!(found[0].to_string().starts_with(&expected), "{}", found[0]);
        bytes[at] ^= 1;
        bytes[at + 1] ^= 1;
        assert_eq!(damages(&bytes).len(), 1, "padding");
    }
}

#[test]
fn without_the_option_the_bits_are_the_same() {
    let packed = Packed::new();
    let ids = packed.ids();
    let expected = bits(&packed.model.logits(&ids, 1, &Serial));
    for (slots, copies) in [(6, true), (packed.experts() / 3, true), (40, false)] {
        let mut engine = packed.engine(slots, copies);
        assert!(bits(&logits(&mut engine, &ids, 1, NONE)) == expected, "{slots} slots");
        assert_eq!(engine.expert_figures().unwrap().low_bit, 0);
    }
    // Nor with it, where there are no copies.
    let mut engine = packed.engine(20, false);
    assert!(bits(&logits(&mut engine, &ids, 1, LOW)) == expected);
    assert_eq!(engine.expert_figures().unwrap().low_bit, 0);
}

#[test]
fn copies_come_near_and_give_way() {
    let packed = Packed::new();
    let ids = packed.ids();
    let expected = packed.model.logits(&ids, 1, &Serial);
    for slots in [6, 40, packed.experts()] {
        let mut engine = packed.engine(slots, true);
        let found = logits(&mut engine, &ids, 1, LOW);
        assert!(engine.expert_figures().unwrap().low_bit > 0);
        let off = largest_difference(&found, &expected) / range(&expected);
        assert!(off > 0.0 && off < MOST, "{slots} slots: {off} of the range");
        // A prompt is computed with the experts themselves, read in place of copies.
        assert!(bits(&logits(&mut engine, &ids, 20, NONE)) == bits(&expected), "{slots} slots");
    }
    // All that this text wants is there, so that copies can only be read on a wrong guess.
    let mut engine = packed.engine(packed.experts(), true);
    logits(&mut engine, &ids, 20, NONE);
    assert!(bits(&logits(&mut engine, &ids, 1, LOW)) == bits(&expected));
}

/// Parts of the range of nano's logits by which copies may change one of them.
const MOST: f32 = 0.5;
