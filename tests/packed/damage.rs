//! Files that were packed well and damaged later.

use crate::{damages, golden, pack, unpack};
use wick_core::{ExpertKey, HeadRows, Part, StoreReason};
use wick_format::{Gguf, Model, Overrides};
use wick_prepare::Damage;
use wick_tests::random::Random;
use wick_tests::tiny::Tiny;

/// Where each kind of thing lies, by name.
fn places(bytes: &[u8]) -> Vec<(String, usize)> {
    let files = [Gguf::parse(bytes).unwrap()];
    let model = Model::new(&files).unwrap();
    let config = model.config(Overrides::default()).unwrap();
    let packed = model.packed().unwrap();
    let mut all = Vec::new();
    for tensor in model.tensors().filter(|tensor| tensor.name().ends_with(".weight")) {
        let range = tensor.range().unwrap();
        all.push((tensor.name().to_owned(), range.start));
        all.push((tensor.name().to_owned(), range.end - 1));
        if !range.end.is_multiple_of(4096) {
            all.push(("padding".into(), range.end));
            all.push(("padding".into(), range.end.next_multiple_of(4096) - 1));
        }
    }
    for layer in 0..config.layers {
        let place = packed.layer(&config, layer).unwrap();
        for (expert, part) in (0..config.experts).flat_map(|e| Part::ALL.map(|part| (e, part))) {
            let name = format!("blk.{layer}.{}.weight, expert {expert},", part.tensor());
            let (start, end) = (place.offset(expert, part), place.end(expert, part));
            all.push((name.clone(), start as usize));
            all.push((name, end as usize - 1));
            if !end.is_multiple_of(4096) {
                all.push(("padding".into(), end as usize));
            }
        }
    }
    all
}

#[test]
fn every_flipped_bit_is_named() {
    let good = pack(&golden("q4_0-tied"), HeadRows::Exact);
    let places = places(&good);
    assert!(places.len() > 100);
    let mut bytes = good.clone();
    for (i, (name, at)) in places.into_iter().enumerate() {
        bytes[at] ^= 1 << (i % 8);
        let found = damages(&bytes).unwrap();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        let message = found[0].to_string();
        assert!(message.starts_with(&name) && message.contains("at byte "), "{name}: {message}");
        if matches!(found[0], Damage::Padding { .. }) {
            assert!(message.contains(&format!("byte {at}: 0 expected")), "{message}");
        } else {
            let refused = unpack(&bytes).unwrap_err();
            assert_eq!(refused, message);
        }
        bytes[at] = good[at];
    }
}

#[test]
fn all_damage_is_found_at_once() {
    let mut bytes = pack(&golden("powerinfer"), HeadRows::Profiler);
    let places = places(&bytes);
    let expert = places.iter().rfind(|(name, _)| name.contains("ffn_down_exps")).unwrap().1;
    let dense = places.iter().find(|(name, _)| name == "lm_head_profiler.weight").unwrap().1;
    bytes[expert] ^= 1;
    bytes[dense] ^= 1;
    let found = damages(&bytes).unwrap();
    let [Damage::Tensor { name, .. }, Damage::Expert(error)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(name, "lm_head_profiler.weight");
    let (ExpertKey { layer, expert }, part) = error.at.unwrap();
    assert!(layer > 0 && expert > 0 && part == Part::Down);
    assert!(matches!(error.reason, StoreReason::Checksum { .. }));
}

/// Cut anywhere, a file is refused.
#[test]
fn truncated_files_are_refused() {
    let bytes = pack(&[&Tiny::default().to_bytes()], HeadRows::Exact);
    let head = Gguf::parse(&bytes).unwrap().data_offset();
    // The last part ends in zeros that belong to the experts' tensor.
    for len in (0..head).step_by(7).chain((head..bytes.len()).step_by(997)).chain([bytes.len() - 1])
    {
        let error = damages(&bytes[..len]).unwrap_err();
        assert!(error.contains("incomplete") || len < 8, "{len} bytes: {error}");
    }
}

/// Whatever bytes a file has, nothing panics, and tensors that are damaged are never unpacked.
#[test]
fn random_damage_never_panics() {
    let good = pack(&[&Tiny::default().to_bytes()], HeadRows::Exact);
    let head = Gguf::parse(&good).unwrap().data_offset();
    let keys = good.windows(17).position(|bytes| bytes == b"wick.pack.version").unwrap();
    let mut random = Random(11);
    let mut refused = 0;
    let mut bytes = good.clone();
    for _ in 0..2000 {
        bytes.clone_from(&good);
        for _ in 0..=random.below(3) {
            // Most damage where most is decided: wick's keys and the tensor table.
            let at = match random.below(8) {
                0 => random.below(good.len()),
                1 => random.below(head),
                _ => keys + random.below(head - keys),
            };
            bytes[at] =
                [random.bits() as u8, 0, 0xff, bytes[at] ^ 1 << random.below(8)][random.below(4)];
        }
        let found = damages(&bytes);
        let bad = found.is_err() || found.is_ok_and(|found| !found.is_empty());
        refused += usize::from(bad);
        if random.below(8) == 0 {
            let _either = unpack(&bytes);
        }
    }
    assert!(refused > 1000, "{refused} of 2000 refused");
}
