//! Damage that still parses: what is not finite is found where it first appears, by all kernels, and nobody else's
//! sequence notices.

use wick_core::{
    Damage, ExpertKey, HeadRows, KvFormat, Logits, Oddity, Options, Origin, Part, Role, Serial,
    StepError, TensorName, Token,
};
use wick_format::{Gguf, Overrides};
use wick_kernels::Format;
use wick_linux::all_kernels;
use wick_tests::gguf::Writer;
use wick_tests::tiny::Tiny;
use wick_tests::{Model, bits, ids, some};

/// NaN and infinities, in half precision.
const ODD: [u16; 3] = [0x7E00, 0x7C00, 0xFC00];

/// Those that there is time for.
fn odd() -> impl Iterator<Item = u16> {
    ODD.into_iter().take(some(ODD.len()))
}

const FORMATS: [Format; 13] = Format::ALL;

/// A model whose rows are whole blocks of every format.
fn tiny(format: Format) -> Tiny {
    let mut tiny = Tiny { format, tied: false, ..Tiny::default() };
    let config = &mut tiny.config;
    (config.hidden, config.heads, config.head, config.rope_dims) = (256, 8, 32, 32);
    (config.kv_heads, config.expert_width) = (2, 256);
    tiny
}

/// The file of a model; scales of Q6_K that were too small for a half are the least that is normal.
fn file(tiny: &Tiny) -> Writer {
    let mut writer = tiny.writer();
    for tensor in writer.tensors.iter_mut().filter(|t| t.number == Format::Q6_K.ggml()) {
        for block in tensor.data.chunks_exact_mut(Format::Q6_K.block_bytes()) {
            block[scale_at(Format::Q6_K)..].copy_from_slice(&0x0400u16.to_le_bytes());
        }
    }
    writer
}

/// Where a block keeps its scale in half precision.
fn scale_at(format: Format) -> usize {
    match format {
        Format::Q2_K => 80,
        Format::Q3_K => 108,
        Format::Q6_K => 208,
        _ => 0,
    }
}

/// Makes the first weights of every row of a tensor odd.
fn spoil(writer: &mut Writer, name: &str, format: Format, odd: u16) {
    let tensor = writer.tensor(name);
    let row = format.row_bytes(tensor.dims[0] as usize).unwrap();
    for row in tensor.data.chunks_exact_mut(row) {
        match format {
            Format::F32 => {
                row[..4].copy_from_slice(&(u32::from(half_to_upper(odd)) << 16).to_le_bytes())
            }
            Format::BF16 => row[..2].copy_from_slice(&half_to_upper(odd).to_le_bytes()),
            _ => row[scale_at(format)..][..2].copy_from_slice(&odd.to_le_bytes()),
        }
    }
}

/// The upper half of the single that is as odd.
fn half_to_upper(odd: u16) -> u16 {
    match odd {
        0x7E00 => 0x7FC0,
        0x7C00 => 0x7F80,
        _ => 0xFF80,
    }
}

fn read(writer: &Writer) -> Model {
    Model::read(&[writer.to_bytes().leak()])
}

fn options(head_rows: HeadRows, kv: KvFormat) -> Options {
    Options { context: 16, sequences: 2, batch: 8, logits: 8, head_rows, kv }
}

/// The damage that a step of several tokens finds.
fn damage(model: &Model, head_rows: HeadRows) -> Damage {
    let mut engine = model.engine(options(head_rows, model.kv), &Serial);
    let logits = head_rows.logits(1);
    let batch: Vec<Token> =
        ids(5, model.config.vocab).iter().map(|id| Token::new(*id, 0, logits)).collect();
    let Err(StepError::Damaged(damage)) = engine.step(&batch) else { panic!("not found") };
    assert_eq!(engine.len(0), 0, "the sequence is as it was");
    assert!((0..5).all(|i| engine.failure(i) == Some(StepError::Damaged(damage))));
    assert!((0..5).all(|i| engine.logits(i).is_none()));
    damage
}

fn not_finite(origin: Origin) -> Damage {
    Damage { origin, oddity: Oddity::NotFinite }
}

/// Whether damage is that of the tensor, which has the experts of a layer or none.
fn is_of(damage: Damage, name: TensorName) -> bool {
    match name.role.part() {
        Some(Part::Gate | Part::Up) => {
            let Origin::Neurons(ExpertKey { layer, .. }) = damage.origin else { return false };
            Some(layer) == name.layer && damage.oddity == Oddity::NotFinite
        }
        _ => damage == not_finite(Origin::Tensor(name)),
    }
}

/// Each tensor with odd scales, in each format, laid out both ways, and multiplied by each variant.
#[test]
fn what_is_not_finite_is_found_where_it_appears() {
    for format in FORMATS {
        let tiny = tiny(format);
        let names = [
            TensorName::once(Role::Embedding),
            TensorName::of_layer(1, Role::Query),
            TensorName::of_layer(0, Role::Key),
            TensorName::of_layer(1, Role::Value),
            TensorName::of_layer(0, Role::AttnOutput),
            TensorName::of_layer(1, Role::Router),
            TensorName::of_layer(0, Role::Gate),
            TensorName::of_layer(1, Role::Up),
            TensorName::of_layer(0, Role::Down),
            TensorName::of_layer(1, Role::Down),
            TensorName::once(Role::LmHead),
        ];
        for name in names {
            for odd in odd() {
                let mut writer = file(&tiny);
                let stored = if name.role == Role::Router { Format::F32 } else { format };
                spoil(&mut writer, &name.to_string(), stored, odd);
                let model = read(&writer);
                for model in [model, model.arranged()] {
                    for kernels in all_kernels() {
                        let found = damage(&model.with(kernels), HeadRows::Exact);
                        let who = kernels.name();
                        assert!(is_of(found, name), "{format} {name} {odd:#x} {who}: {found}");
                    }
                }
            }
        }
    }
}

/// PowerInfer's orientation of downs.
#[test]
fn rows_of_neurons_are_looked_at_too() {
    for odd in ODD {
        let tiny = Tiny { down_by_neuron: true, ..tiny(Format::Q4_0) };
        let mut writer = tiny.writer();
        let name = TensorName::of_layer(0, Role::Down);
        spoil(&mut writer, &name.to_string(), Format::Q4_0, odd);
        for kernels in all_kernels() {
            let found = damage(&read(&writer).with(kernels), HeadRows::Exact);
            assert_eq!(found, not_finite(Origin::Tensor(name)), "{odd:#x} {}", kernels.name());
        }
    }
}

/// Values that are finite, but more than the KV cache can hold.
#[test]
fn keys_beyond_the_cache_are_found() {
    for (kv, large, enough) in [(KvFormat::F16, 1e6f32, 1e3f32), (KvFormat::Q8_0, 1e9, 1e6)] {
        for role in [Role::Key, Role::Value] {
            let name = TensorName::of_layer(1, role);
            let model = |scale: f32| {
                let tiny = Tiny { formats: vec![(role.stem(), Format::F32)], ..tiny(Format::Q4_0) };
                let mut writer = tiny.writer();
                for weight in writer.tensor(&name.to_string()).data.as_chunks_mut::<4>().0 {
                    *weight = (f32::from_le_bytes(*weight) * scale).to_le_bytes();
                }
                read(&writer).keeping(kv)
            };
            let found = damage(&model(large), HeadRows::Exact);
            assert_eq!(found, not_finite(Origin::Tensor(name)), "{kv:?}");
            let ids = ids(3, 288);
            assert!(model(enough).logits(&ids, 1, &Serial).iter().all(|logit| logit.is_finite()));
        }
    }
}

/// One row of the LM head that is not finite: the same whether all rows are multiplied, or those that a
/// sketch names.
#[test]
fn coarse_and_exact_find_the_same() {
    for format in FORMATS {
        let tiny = tiny(format);
        for odd in odd() {
            let (mut writer, mut whole) = (file(&tiny), file(&tiny));
            spoil(&mut whole, "output.weight", format, odd);
            let row = format.row_bytes(256).unwrap();
            let spoiled = &whole.tensor("output.weight").data[7 * row..8 * row];
            writer.tensor("output.weight").data[7 * row..8 * row].copy_from_slice(spoiled);
            let model = read(&writer);
            let exact = damage(&model, HeadRows::Exact);
            assert_eq!(exact, not_finite(Origin::Tensor(TensorName::once(Role::LmHead))));
            for kernels in all_kernels() {
                let coarse = model.arranged_for(HeadRows::Coarse).with(kernels);
                let found = damage(&coarse, HeadRows::Coarse);
                assert_eq!(found, exact, "{format} {odd:#x} {}", kernels.name());
            }
        }
    }
}

#[test]
fn logits_that_are_all_equal_are_damage() {
    let mut writer = tiny(Format::Q4_0).writer();
    // They do not lie last: a file that ends with zeros is refused as it is.
    writer.tensor("output.weight").data.fill(0);
    let model = read(&writer);
    let origin = Origin::Tensor(TensorName::once(Role::LmHead));
    let expected = Damage { origin, oddity: Oddity::Equal };
    assert_eq!(damage(&model, HeadRows::Exact), expected);
    assert_eq!(damage(&model.arranged_for(HeadRows::Coarse), HeadRows::Coarse), expected);
}

/// A row of the embedding that one sequence's text needs.
#[test]
fn only_who_meets_damage_fails() {
    let tiny = tiny(Format::Q4_0);
    let good = read(&tiny.writer());
    let mut writer = tiny.writer();
    let row = Format::Q4_0.row_bytes(256).unwrap();
    writer.tensor("token_embd.weight").data[9 * row..][..2].copy_from_slice(&ODD[0].to_le_bytes());
    let model = read(&writer);
    let mut engine = model.engine(options(HeadRows::Exact, KvFormat::F16), &Serial);
    let batch = [(1, 0), (2, 1), (9, 0), (3, 1)].map(|(id, s)| Token::new(id, s, Logits::All));
    let found = engine.step(&batch);
    let origin = Origin::Tensor(TensorName::once(Role::Embedding));
    assert_eq!(found, Err(StepError::Damaged(not_finite(origin))));
    assert_eq!([0, 1, 2, 3].map(|i| engine.failure(i).is_some()), [true, false, true, false]);
    assert_eq!((engine.len(0), engine.len(1)), (0, 2));
    let expected = good.logits(&[2, 3], 1, &Serial);
    let row = |i| bits(engine.logits(i).unwrap());
    assert!([row(1), row(3)].concat() == bits(&expected));
}

/// Norms are small: they are looked at when a model is opened.
#[test]
fn norms_are_looked_at_at_once() {
    for (stem, layer) in [("output_norm", None), ("attn_norm", Some(1)), ("ffn_norm", Some(0))] {
        let name = match layer {
            None => format!("{stem}.weight"),
            Some(layer) => format!("blk.{layer}.{stem}.weight"),
        };
        for format in [Format::F32, Format::F16, Format::BF16] {
            let tiny = Tiny { formats: vec![(stem, format)], ..tiny(Format::Q4_0) };
            for odd in ODD {
                let mut writer = tiny.writer();
                spoil(&mut writer, &name, format, odd);
                let said = ": finite values expected, NaN or infinity found: the file is damaged: \
                            download or convert it again";
                assert_eq!(refusal(&writer), format!("{name}{said}"));
            }
            let mut writer = tiny.writer();
            writer.tensor(&name).data.fill(0);
            assert!(refusal(&writer).contains("nothing but zeros found: the file is incomplete"));
        }
    }
}

/// Room that a download took and did not fill, from anywhere in the last tensor or before it.
#[test]
fn files_that_end_with_zeros_are_refused() {
    for tied in [true, false] {
        let tiny = Tiny { tied, ..tiny(Format::Q4_0) };
        let bytes = tiny.to_bytes();
        let head = tiny.writer().head().len();
        for from in [head, (head + bytes.len()) / 2, bytes.len() - 10_000] {
            let mut cut = bytes.clone();
            cut[from..].fill(0);
            let message = refusal_of(&cut);
            assert!(message.contains("nothing but zeros from byte"), "{message}");
            assert!(message.ends_with("download it again"), "{message}");
        }
    }
}

/// The last rows of a vocabulary may belong to no token.
#[test]
fn rows_without_tokens_may_be_zero() {
    let mut writer = tiny(Format::Q4_0).writer();
    let output = writer.tensors.iter().position(|t| t.name == b"output.weight").unwrap();
    let mut output = writer.tensors.remove(output);
    let rows = output.data.len() / 288;
    output.data[280 * rows..].fill(0);
    writer.tensors.push(output);
    read(&writer);
}

fn refusal(writer: &Writer) -> String {
    refusal_of(&writer.to_bytes())
}

fn refusal_of(bytes: &[u8]) -> String {
    let files = [Gguf::parse(bytes).unwrap()];
    let model = wick_format::Model::new(&files).unwrap();
    let config = model.config(Overrides::default()).unwrap();
    model.weights(&config).map(drop).unwrap_err().to_string()
}
