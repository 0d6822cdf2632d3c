//! Files of models.

use crate::edit::{edit, edit_all};
use crate::load::load;
use arbitrary::{Result, Unstructured};
use std::sync::LazyLock;
use wick_core::{Config, Window};
use wick_format::Gguf;
use wick_kernels::Format;
use wick_tests::gguf::Writer;
use wick_tests::golden_bytes;
use wick_tests::tiny::Tiny;

/// Small models of several shapes, well-formed.
static SMALL: LazyLock<[Writer; 3]> = LazyLock::new(|| {
    let config =
        Config { layers: 1, hidden: 32, expert_width: 32, experts: 2, ..Tiny::default().config };
    let window = Some(Window { size: 2, period: 2 });
    let windowed = Config { layers: 4, window, ..config };
    [
        Tiny { config, ..Tiny::default() }.writer(),
        Tiny { config: windowed, tied: false, down_by_neuron: true, ..Tiny::default() }.writer(),
        Tiny { config, format: Format::F32, profiler: Some(32), ..Tiny::default() }.writer(),
    ]
});

/// A packed file without a checksum of its head, which would hide everything else that is wrong.
static PACKED: LazyLock<Writer> = LazyLock::new(|| {
    let bytes = golden_bytes("../models/packed/version-1.gguf");
    Writer::from(&Gguf::parse(bytes).expect("a committed file"))
});

/// Any bytes as a file.
pub fn gguf(bytes: &[u8]) {
    load(&[bytes.to_vec()]);
}

/// A well-formed file with other keys, values and tensors.
pub fn metadata(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let mut writer = SMALL[usize::from(*choice) % SMALL.len()].clone();
    let _used_up = edit_all(&mut writer, &mut Unstructured::new(rest));
    load(&[writer.to_bytes()]);
}

/// The same of a packed file.
pub fn packed(bytes: &[u8]) {
    let mut writer = PACKED.clone();
    let _used_up = edit_all(&mut writer, &mut Unstructured::new(bytes));
    load(&[writer.to_bytes()]);
}

/// The same of the parts of a split one, in any order.
pub fn split(bytes: &[u8]) {
    let mut parts = SMALL[0].split(8);
    let _used_up = edit_parts(&mut parts, &mut Unstructured::new(bytes));
    load(&parts.iter().map(Writer::to_bytes).collect::<Vec<_>>());
}

fn edit_parts(parts: &mut Vec<Writer>, bytes: &mut Unstructured<'_>) -> Result<()> {
    while !bytes.is_empty() && !parts.is_empty() {
        let (one, other) = (bytes.choose_index(parts.len())?, bytes.choose_index(parts.len())?);
        match bytes.int_in_range(0..=9)? {
            0 => parts.swap(one, other),
            1 if parts.len() < 6 => parts.push(parts[one].clone()),
            2 => drop(parts.remove(one)),
            _ => edit(&mut parts[one], bytes)?,
        }
    }
    Ok(())
}
