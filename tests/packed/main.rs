//! Packed files: nothing is lost, the same bits come out, and damage is found.

mod broken;
mod damage;
mod head_rows;
mod versions;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::LazyLock;
use wick_core::{
    Arrangement, Config, Down, ExpertKey, HeadRows, KvFormat, LeastRecent, Location, Options, Part,
    Section, Serial, TensorName, arranged_bytes,
};
use wick_format::{EXTENT_ALIGNMENT, Error, Gguf, Overrides, SplitName, Value as Read};
use wick_kernels::{Format, Layout};
use wick_linux::{Cpus, Pool, all_kernels};
use wick_prepare::{Damage, Pack, Unpack, verify};
use wick_tests::gguf::{Tensor, Value, Writer};
use wick_tests::store::MemoryStore;
use wick_tests::tiny::Tiny;
use wick_tests::{Model, bits, golden_bytes, ids, step};

static TWO: LazyLock<Pool> = LazyLock::new(|| Pool::new(2, &Cpus::detect()));

/// Packs a model for these rows of the LM head.
fn pack(parts: &[&[u8]], head_rows: HeadRows) -> Vec<u8> {
    in_file(|path| {
        let files: Vec<Gguf<'_>> = parts.iter().map(|part| Gguf::parse(part).unwrap()).collect();
        let pack = Pack::new(wick_format::Model::new(&files).unwrap(), head_rows).unwrap();
        let mut read = 0;
        let written = pack.write(path, |done| {
            read += done.len() as u64;
            ControlFlow::Continue(())
        });
        assert_eq!(read, pack.bytes());
        written.unwrap()
    })
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let files = [Gguf::parse(bytes).map_err(|e| e.to_string())?];
    let model = wick_format::Model::new(&files).map_err(|e| e.to_string())?;
    let unpack = Unpack::new(model).map_err(|e| e.to_string())?;
    let mut error = None;
    let bytes = in_file(|path| match unpack.write(path, |_| ControlFlow::Continue(())) {
        Ok(written) => written,
        Err(e) => {
            error = Some(e.to_string());
            fs::write(path, []).unwrap();
            0
        }
    });
    error.map_or(Ok(bytes), Err)
}

/// The same file with the checksum that its head has by now, if it has one.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let key = b"wick.pack.head_crc32";
    let found = bytes.windows(key.len()).position(|window| window == key);
    let (Some(found), Ok(gguf)) = (found, Gguf::parse(&bytes)) else { return bytes };
    let (head, at) = (gguf.head().len(), found + key.len() + 4);
    bytes[at..at + 4].fill(0);
    let checksum = crc32fast::hash(&bytes[..head]);
    bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// What `write` writes, whose size it returns; it is alone in its folder.
fn in_file(write: impl FnOnce(&Path) -> u64) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let size = write(&path);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, size);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    bytes
}

/// All that `verify` finds.
fn damages(bytes: &[u8]) -> Result<Vec<Damage>, String> {
    let files = [Gguf::parse(bytes).map_err(|e| e.to_string())?];
    let model = wick_format::Model::new(&files).map_err(|e| e.to_string())?;
    let mut all = Vec::new();
    let checked = verify(model, |damage| all.push(damage), |_| ControlFlow::Continue(()));
    checked.map(|_| all).map_err(|e| e.to_string())
}

/// What the parts of a file say together.
fn contents(parts: &[&[u8]]) -> (Vec<(Vec<u8>, Value)>, Vec<Tensor>) {
    let parts = parts.iter().map(|part| Writer::from(&Gguf::parse(part).unwrap()));
    let mut parts: Vec<Writer> = parts.collect();
    let tensors = parts.iter().flat_map(|part| part.tensors.clone()).collect();
    let mut entries = std::mem::take(&mut parts[0].entries);
    entries.retain(|(key, _)| !key.starts_with(b"split."));
    (entries, tensors)
}

fn golden(name: &str) -> Vec<&'static [u8]> {
    let file = format!("{name}.gguf");
    match SplitName::parse(&file) {
        None => vec![golden_bytes(&file)],
        Some(name) => {
            (1..=name.count).map(|part| golden_bytes(&name.sibling(part).to_string())).collect()
        }
    }
}

/// Every committed model: formats, windows, PowerInfer's, one in two parts, and nano.
fn committed() -> Vec<(String, Vec<&'static [u8]>)> {
    let names = [
        "f16-softmax-untied",
        "f32-sigmoid-tied",
        "legacy-mix",
        "no-gating-key",
        "partial-rope",
        "powerinfer",
        "q2_k",
        "q3_k_m",
        "q4_0-q6_k-output",
        "q4_0-tied",
        "q4_k_m",
        "q5_k_m",
        "q8_0",
        "split-00001-of-00002",
        "window4096",
        "window8",
        "../models/nano/nano",
    ];
    names.map(|name| (name.to_owned(), golden(name))).into()
}

/// Shapes that some layout does not fit.
fn odd() -> Vec<(&'static str, Tiny)> {
    let base = Tiny::default();
    let config = base.config;
    let mixed = |format, formats: &[_]| Tiny { format, formats: formats.to_vec(), ..base.clone() };
    let shaped = |config: Config| Tiny { config, ..base.clone() };
    let narrow = Config { hidden: 48, head: 32, heads: 4, ..config };
    let thin = Config { expert_width: 36, ..config };
    vec![
        ("as it is", base.clone()),
        (
            "rows in no groups",
            shaped(Config { vocab: 291, head: 20, rope_dims: 20, heads: 8, ..config }),
        ),
        (
            "downs of 48 rows",
            Tiny { config: narrow, ..mixed(Format::F16, &[("ffn_down_exps", Format::Q4_0)]) },
        ),
        (
            "36 neurons",
            Tiny { config: thin, ..mixed(Format::Q4_0, &[("ffn_down_exps", Format::F32)]) },
        ),
        ("one expert", shaped(Config { experts: 1, active: 1, ..config })),
        ("one layer", Tiny { tied: false, ..shaped(Config { layers: 1, ..config }) }),
        ("gates of Q8_0", mixed(Format::Q4_0, &[("ffn_gate_exps", Format::Q8_0)])),
        ("downs by neuron", Tiny { down_by_neuron: true, profiler: Some(32), ..base.clone() }),
        ("hidden as wide", shaped(Config { expert_width: 64, ..config })),
    ]
}

fn odd_bytes() -> Vec<(String, Vec<&'static [u8]>)> {
    let leak = |tiny: &Tiny| -> Vec<&'static [u8]> { vec![tiny.to_bytes().leak()] };
    odd().iter().map(|(name, tiny)| ((*name).to_owned(), leak(tiny))).collect()
}

/// The outputs that a model can be packed for.
fn outputs(parts: &[&[u8]]) -> Vec<HeadRows> {
    let profiler = parts
        .iter()
        .any(|part| Gguf::parse(part).unwrap().tensor("lm_head_profiler.weight").is_some());
    if profiler { vec![HeadRows::Exact, HeadRows::Profiler] } else { vec![HeadRows::Exact] }
}

/// Everything, for these rows of the LM head; what is arranged already stays.
fn whole(head_rows: HeadRows) -> Arrangement {
    Arrangement { head_rows, experts: true, moved: false, section: Section::Whole }
}

#[test]
fn packing_can_be_undone() {
    for (name, parts) in committed().into_iter().chain(odd_bytes()) {
        for head_rows in outputs(&parts) {
            let packed = pack(&parts, head_rows);
            assert_eq!(damages(&packed), Ok(vec![]), "{name}");
            let unpacked = unpack(&packed).unwrap();
            assert!(contents(&[&unpacked]) == contents(&parts), "{name}");
            if name == "q4_0-tied" {
                assert!(unpacked == parts[0], "the very file");
            }
        }
    }
}

#[test]
fn everything_is_kept() {
    let mut writer = Writer { alignment: 64, ..Tiny::default().writer() };
    writer.entries.insert(3, (b"general.alignment".into(), Value::U32(64)));
    writer.set("a.nested", Value::Array(wick_format::Kind::Array, vec![Value::array([1u8, 2])]));
    writer.set("a.float", f64::NAN.to_bits()).set("b.bool", true).set("c", vec![0xffu8]);
    let data = vec![7; 3 * 4];
    let tensor =
        Tensor { name: b"extra.i32".into(), dims: vec![3], number: 26, data, offset: None };
    writer.tensors.insert(5, tensor);
    writer.add("blk.7.extra.weight", Format::Q4_0, &[32, 8], vec![5; 18 * 8]);
    writer.tensors.reverse();
    let bytes = writer.to_bytes();
    let packed = pack(&[&bytes], HeadRows::Exact);
    assert!(contents(&[&unpack(&packed).unwrap()]) == contents(&[&bytes]));
    let gguf = Gguf::parse(&packed).unwrap();
    assert_eq!((gguf.version(), gguf.alignment()), (3, EXTENT_ALIGNMENT));
    let keys: Vec<&str> = gguf.entries().map(|entry| entry.key).collect();
    let before: Vec<&str> = keys.iter().copied().filter(|key| !key.starts_with("wick.")).collect();
    let original = Gguf::parse(&bytes).unwrap();
    assert!(original.entries().map(|entry| entry.key).eq(before.iter().copied()));
    assert_eq!(keys[..before.len()], before, "wick's keys come last");
    let files = [gguf];
    let model = wick_format::Model::new(&files).unwrap();
    let unused: Vec<&str> = model.unused(2).map(|tensor| tensor.name()).collect();
    assert_eq!(unused, ["blk.7.extra.weight", "extra.i32"]);
}

#[test]
fn packed_models_give_the_same_bits() {
    for (name, parts) in committed().into_iter().chain(odd_bytes()) {
        let model = Model::read(&parts);
        let ids = ids(40, model.config.vocab);
        let packed = Model::read(&[pack(&parts, HeadRows::Exact).leak()]);
        assert_eq!(packed.config, model.config, "{name}");
        assert_eq!(packed.weights.bytes(), model.weights.bytes(), "{name}");
        assert_eq!(arranged_bytes(packed.weights, whole(HeadRows::Exact)), 0, "{name}");
        let expected = bits(&model.logits(&ids, 1, &Serial));
        for kernels in all_kernels() {
            let found = bits(&packed.with(kernels).logits(&ids, 9, &*TWO));
            assert!(found == expected, "{name}: {}", kernels.name());
        }
    }
}

#[test]
fn packed_models_can_be_moved() {
    for name in ["q4_0-tied", "window8", "powerinfer"] {
        let bytes: &'static [u8] = pack(&golden(name), HeadRows::Exact).leak();
        let packed = Model::read(&[bytes]);
        let ids = ids(20, packed.config.vocab);
        let expected = bits(&packed.logits(&ids, 5, &Serial));
        let moved = packed.arranged_as(Arrangement { moved: true, ..whole(HeadRows::Exact) });
        let file = bytes.as_ptr_range();
        for layer in &moved.weights.layers {
            for expert in Part::ALL.map(|part| layer.experts(part).expert(1)) {
                let is_arranged = expert.layout() != Layout::Rows;
                assert!(is_arranged != file.contains(&expert.bytes().as_ptr()), "{name}");
            }
        }
        assert!(bits(&moved.logits(&ids, 5, &Serial)) == expected, "{name}");
    }
}

#[test]
fn matrices_stand_as_the_kernels_want_them() {
    let packed = Model::read(&[pack(&golden("q4_0-tied"), HeadRows::Exact).leak()]);
    assert!(packed.weights.is_tied());
    assert_eq!(packed.weights.lm_head().layout(), Layout::Grouped);
    for layer in &packed.weights.layers {
        let attention = [layer.q, layer.k, layer.v, layer.o].map(|matrix| matrix.layout());
        assert_eq!(attention, [Layout::Grouped; 4]);
        let experts = Part::ALL.map(|part| layer.experts(part).layout());
        assert_eq!(experts, [Layout::Grouped, Layout::Split, Layout::Columns]);
        assert!(matches!(layer.down, Down::Outputs(_)));
    }
}

/// Each expert is one piece: gate, up and down, each at a multiple of 4096, with zeros after it.
#[test]
fn experts_are_pieces_of_the_file() {
    for (name, parts) in [("window8", golden("window8")), ("q4_k_m", golden("q4_k_m"))] {
        let bytes = pack(&parts, HeadRows::Exact);
        let files = [Gguf::parse(&bytes).unwrap()];
        let model = wick_format::Model::new(&files).unwrap();
        let config = model.config(Overrides::default()).unwrap();
        let (packed, weights) = (model.packed().unwrap(), model.weights(&config).unwrap());
        let mut at = files[0].front_len();
        for (number, layer) in weights.layers.iter().enumerate() {
            let place = packed.layer(&config, number).unwrap();
            let locations = model.expert_locations(&config, number).unwrap();
            let location =
                |part: Part| model.location(&config, TensorName::of_layer(number, part.role()));
            assert_eq!(locations, Part::ALL.map(|part| location(part).unwrap()));
            for expert in 0..config.experts {
                for part in Part::ALL {
                    let offset = place.offset(expert, part);
                    assert_eq!(offset, at, "{name}");
                    let Location { file, offset: first, stride } = locations[part as usize];
                    assert_eq!((file, first + stride * expert as u64), (0, at), "{name}");
                    let matrix = layer.experts(part).expert(expert).bytes();
                    assert!(matrix == &bytes[offset as usize..][..matrix.len()]);
                    let sum = packed.checksum(ExpertKey { layer: number, expert }, part);
                    assert_eq!(sum, Some(crc32fast::hash(matrix)));
                    let end = offset as usize + matrix.len();
                    at = end.next_multiple_of(EXTENT_ALIGNMENT) as u64;
                    assert!(bytes[end..at as usize].iter().all(|&byte| byte == 0));
                }
            }
            let beyond = ExpertKey { layer: number, expert: config.experts };
            assert_eq!(packed.checksum(beyond, Part::Gate), None);
        }
        assert_eq!(at, bytes.len() as u64);
    }
}

/// The front of a file is enough for an engine that reads experts through a store.
#[test]
fn the_front_is_enough_to_stream() {
    for name in ["window8", "powerinfer", "q4_k_m"] {
        let bytes: &'static [u8] = pack(&golden(name), HeadRows::Exact).leak();
        let len = bytes.len() as u64;
        let front = Gguf::parse(bytes).unwrap().front_len() as usize;
        assert!(front.is_multiple_of(EXTENT_ALIGNMENT) && front < bytes.len());
        let whole = Model::read(&[bytes]);
        let gguf = Gguf::parse_front(&bytes[..front], len).unwrap();
        assert_eq!((gguf.file_len(), gguf.front_len()), (len, front as u64));
        let files: &'static [Gguf<'static>] = vec![gguf].leak();
        let model = wick_format::Model::new(files).unwrap();
        let config = model.config(Overrides::default()).unwrap();
        let weights = Box::leak(Box::new(model.weights(&config).unwrap()));
        let packed = model.packed().unwrap();
        for layer in 0..config.layers {
            let place = packed.layer(&config, layer).unwrap();
            assert!(place.bytes().is_none() && place.start >= front as u64);
        }
        assert!(packed.layer(&config, config.layers).is_err());

        let ids = ids(30, config.vocab);
        let expected = bits(&whole.logits(&ids, 30, &Serial));
        let store = Box::leak(Box::new(MemoryStore::new(whole.weights, 3, 1)));
        let head_rows = HeadRows::Exact;
        let options = Options {
            context: 30,
            sequences: 1,
            batch: 30,
            logits: 30,
            head_rows,
            kv: KvFormat::default(),
        };
        let model = Model { weights, ..whole };
        let mut engine = model.streaming(options, store, &LeastRecent, &Serial);
        step(&mut engine, 0, &ids);
        let found: Vec<u32> = (0..30).flat_map(|i| bits(engine.logits(i).unwrap())).collect();
        assert!(found == expected, "{name}");
    }
}

/// With the head alone at hand everything has its place; with less, more is asked for.
#[test]
fn a_front_may_be_read_bit_by_bit() {
    for bytes in [pack(&golden("q4_0-tied"), HeadRows::Exact), golden_bytes("q8_0.gguf").to_vec()] {
        let (len, whole) = (bytes.len() as u64, Gguf::parse(&bytes).unwrap());
        let mut at_hand = 100;
        let head = loop {
            match Gguf::parse_front(&bytes[..at_hand], len) {
                Ok(gguf) => break gguf,
                Err(Error::Cut { .. }) => at_hand += 100,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(at_hand < whole.data_offset() + 100);
        assert_eq!(head.front_len(), whole.front_len());
        for (a, b) in head.tensors().zip(whole.tensors()) {
            assert_eq!((a.name(), a.range()), (b.name(), b.range()));
        }
        let files = [head];
        let model = wick_format::Model::new(&files).unwrap();
        let config = model.config(Overrides::default()).unwrap();
        let error = model.weights(&config).unwrap_err().to_string();
        let start = files[0].tensor("token_embd.weight").unwrap().range().unwrap().start;
        let expected = format!(
            "token_embd.weight: begins at byte {start} or ends beyond what was read of the file"
        );
        assert_eq!(error, expected);
    }
    let bytes = Tiny::default().to_bytes();
    let error = Gguf::parse_front(&bytes[..20_000], 30_000).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("the file has 30000"), "{error}");
}

#[test]
fn what_is_broken_off_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let packed = pack(&golden("q4_0-tied"), HeadRows::Exact);
    for stop in [1, 20, 60] {
        let mut left = stop;
        let mut flow = |_: &[u8]| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let files = [Gguf::parse(golden("q4_0-tied")[0]).unwrap()];
        let pack = Pack::new(wick_format::Model::new(&files).unwrap(), HeadRows::Exact).unwrap();
        let error = pack.write(&path, &mut flow).unwrap_err();
        assert!(matches!(error, wick_prepare::Error::Interrupted));
        left = stop;
        let mut flow = |_: &[u8]| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let files = [Gguf::parse(&packed).unwrap()];
        let unpack = Unpack::new(wick_format::Model::new(&files).unwrap()).unwrap();
        let error = unpack.write(&path, &mut flow).unwrap_err();
        assert!(matches!(error, wick_prepare::Error::Interrupted));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let refusal = |bytes: &[u8], head_rows| {
        let files = [Gguf::parse(bytes).unwrap()];
        let model = wick_format::Model::new(&files).unwrap();
        Pack::new(model, head_rows).map(|_| ()).unwrap_err().to_string()
    };
    let packed = pack(&golden("q8_0"), HeadRows::Exact);
    assert_eq!(refusal(&packed, HeadRows::Exact), "the file is packed already");
    let error = refusal(golden("q8_0")[0], HeadRows::Profiler);
    assert!(error.contains("lm_head_profiler.weight"), "{error}");
    let mut writer = Tiny::default().writer();
    writer.add("extra", Format::F32, &[256], vec![0; 1024]);
    writer.tensor("extra").number = 20;
    let error = refusal(&writer.to_bytes(), HeadRows::Exact);
    assert_eq!(error, "extra: a type of known size expected, ggml type 20 found");
    assert_eq!(unpack(golden("q8_0")[0]), Err("the file is not packed".into()));
    assert_eq!(damages(golden("q8_0")[0]), Err("the file is not packed".into()));
}

/// Elements are found wherever they stand.
#[test]
fn arrays_are_read_at_any_index() {
    let mut writer = Writer::default();
    writer.set("n", Value::array((0..100).map(|n| n * 7_000_000u32)));
    writer.set("s", Value::array((0..100).map(|n| "x".repeat(n))));
    let bytes = writer.to_bytes();
    let gguf = Gguf::parse(&bytes).unwrap();
    let (n, s) = (gguf.get("n").unwrap(), gguf.get("s").unwrap());
    for i in 0..102 {
        assert_eq!(n.integers().unwrap().nth(i), (i < 100).then_some(i as i64 * 7_000_000));
        assert_eq!(s.strings().unwrap().nth(i).map(<[u8]>::len), (i < 100).then_some(i));
        let value = s.array().unwrap().iter().nth(i);
        assert_eq!(value.is_some(), i < 100);
        assert!(value.is_none_or(|value| matches!(value, Read::String(x) if x.len() == i)));
    }
    let mut rest = n.integers().unwrap();
    assert_eq!((rest.nth(97), rest.len()), (Some(97 * 7_000_000), 2));
    assert_eq!((rest.nth(1), rest.next()), (Some(99 * 7_000_000), None));
}
