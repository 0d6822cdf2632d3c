//! Files of earlier versions, and what later ones may add.

use crate::{damages, pack, sealed, unpack};
use wick_core::{HeadRows, Serial};
use wick_format::{Gguf, I8};
use wick_kernels::Format;
use wick_tests::gguf::{Value, Writer};
use wick_tests::tiny::Tiny;
use wick_tests::{Model, bits, golden_bytes, ids};

/// A model of one layer and two experts, which `wick pack --low-bit` of version 1 has packed.
const VERSION_1: &str = "../models/packed/version-1.gguf";

fn good() -> Vec<u8> {
    pack(&[&Tiny::default().to_bytes()], HeadRows::Exact)
}

fn identity(bytes: &[u8]) -> String {
    let files = [Gguf::parse(bytes).unwrap()];
    wick_format::Model::new(&files).unwrap().packed().unwrap().identity().to_string()
}

#[test]
fn files_of_version_1_are_read() {
    let old = golden_bytes(VERSION_1);
    let gguf = Gguf::parse(old).unwrap();
    assert_eq!(gguf.get("wick.pack.version").unwrap().u32(), Ok(1));
    assert_eq!(damages(old), Ok(vec![]));
    let model: &'static [u8] = unpack(old).unwrap().leak();
    let new: &'static [u8] = pack(&[model], HeadRows::Exact).leak();
    let [old_model, model, new_model] = [old, model, new].map(|bytes| Model::read(&[bytes]));
    let ids = ids(20, model.config.vocab);
    let expected = bits(&model.logits(&ids, 20, &Serial));
    for packed in [old_model, new_model] {
        assert!(bits(&packed.logits(&ids, 20, &Serial)) == expected);
    }
    assert_ne!(identity(old), identity(new));
    // Files of this version are not taken for those.
    let mut writer = Writer::from(&Gguf::parse(new).unwrap());
    writer.set("wick.pack.version", Value::U32(1));
    let error = damages(&writer.to_bytes()).unwrap_err();
    assert!(error.starts_with("header, metadata and tensor table: CRC-32 "), "{error}");
}

/// Whatever is changed anywhere: in the metadata, in what nobody reads, between tensors.
#[test]
fn no_byte_can_be_changed_unnoticed() {
    let good = good();
    let head = Gguf::parse(&good).unwrap().data_offset();
    let mut bytes = good.clone();
    for at in (0..head).chain((head..good.len()).step_by(61)) {
        bytes[at] ^= 1 << (at % 8);
        assert!(damages(&bytes).is_ok_and(|found| !found.is_empty()) || damages(&bytes).is_err());
        bytes[at] = good[at];
    }
}

#[test]
fn changed_metadata_are_another_model() {
    let good = good();
    let changed = |key: &str, value: Value| {
        let mut writer = Writer::from(&Gguf::parse(&good).unwrap());
        writer.set(key, value);
        writer.to_bytes()
    };
    assert_eq!(changed("general.architecture", "smallthinker".into()), good);
    for (key, value) in [
        ("smallthinker.rope.freq_base", Value::F32(9999.0)),
        ("tokenizer.chat_template", "{{ messages }}".into()),
    ] {
        let bytes = changed(key, value);
        for error in [damages(&bytes).unwrap_err(), unpack(&bytes).unwrap_err()] {
            assert!(error.starts_with("header, metadata and tensor table: CRC-32 "), "{error}");
            assert!(error.ends_with("is damaged or was changed: copy or pack it again"), "{error}");
        }
        let sealed = sealed(bytes);
        assert_eq!(damages(&sealed), Ok(vec![]));
        assert_ne!(identity(&sealed), identity(&good));
    }
    assert_eq!(identity(&good), identity(&good.clone()));
}

/// A section of a later version is checked and otherwise ignored.
#[test]
fn unknown_sections_are_ignored() {
    let good = good();
    let mut writer = Writer::from(&Gguf::parse(&good).unwrap());
    let data: Vec<u8> = (0..5000u32).map(|i| (i * 7) as u8).collect();
    let checksum = crc32fast::hash(&data);
    writer.add("wick.later", Format::F32, &[data.len()], data.clone());
    writer.tensor("wick.later").number = I8;
    for (key, value) in
        [("wick.pack.layouts", Value::from("section")), ("wick.pack.crc32", Value::U32(checksum))]
    {
        let found = writer.entries.iter_mut().find(|(k, _)| k == key.as_bytes()).unwrap();
        let Value::Array(_, values) = &mut found.1 else { panic!("{key} is an array") };
        values.push(value);
    }
    let bytes = sealed(writer.to_bytes());
    assert_eq!(damages(&bytes), Ok(vec![]));
    assert_eq!(unpack(&bytes), unpack(&good));
    let files = [Gguf::parse(&bytes).unwrap()];
    let model = wick_format::Model::new(&files).unwrap();
    assert_eq!(model.unused(2).count(), 0);
    assert_eq!(model.packed().unwrap().section("later"), Some(&data[..]));
    assert_eq!(model.packed().unwrap().section("sketch"), None);
    assert_eq!(files[0].front_len(), Gguf::parse(&good).unwrap().front_len());
    let [with, without] = [bytes.clone(), good].map(|bytes| Model::read(&[bytes.leak()]));
    let ids = ids(20, with.config.vocab);
    assert!(bits(&with.logits(&ids, 20, &Serial)) == bits(&without.logits(&ids, 20, &Serial)));
    let at = bytes.windows(data.len()).position(|window| window == data).unwrap();
    let mut damaged = bytes;
    damaged[at + 100] ^= 1;
    let found = damages(&damaged).unwrap();
    assert!(found.len() == 1 && found[0].to_string().starts_with("wick.later, at byte "));
}
