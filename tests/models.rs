//! Good files: what is written is read, and models have the shape that their files say.

use proptest::prelude::*;
use wick_core::{
    Config, Down, ExpertMatrices, Gating, HeadRows, Location, Role, TensorName, Traffic, Window,
};
use wick_format::{Gguf, Kind, Model, Overrides, Split, SplitName};
use wick_kernels::Format;
use wick_tests::gguf::{Value, Writer};
use wick_tests::tiny::Tiny;
use wick_tests::{golden_bytes, golden_path};

/// The shape of a model whose file is whole.
fn config_of(bytes: &[u8]) -> Config {
    let files = [Gguf::parse(bytes).unwrap()];
    Model::new(&files).unwrap().config(Overrides::default()).unwrap()
}

fn golden_config(name: &str) -> Config {
    config_of(golden_bytes(&format!("{name}.gguf")))
}

/// The shape of [`Tiny::default`] with a change to its file.
fn edited(edit: impl FnOnce(&mut Writer)) -> Config {
    let mut writer = Tiny::default().writer();
    edit(&mut writer);
    config_of(&writer.to_bytes())
}

#[test]
fn golden_models_load() {
    let mut count = 0;
    for entry in std::fs::read_dir(golden_path("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".gguf") || SplitName::parse(&name).is_some() {
            continue;
        }
        let files = [Gguf::parse(golden_bytes(&name)).unwrap()];
        let model = Model::new(&files).unwrap();
        let config = model.config(Overrides::default()).unwrap();
        let weights = model.weights(&config).unwrap();
        weights.validate(&config).unwrap();
        assert_eq!(model.unused(config.layers).count(), 0, "{name}");
        let data: usize = model.tensors().map(|t| t.bytes().unwrap().len()).sum();
        assert_eq!(weights.bytes(), data, "{name}");
        count += 1;
    }
    assert!(count >= 8, "{count} models");
}

#[test]
fn golden_models_have_the_shapes_they_say() {
    let expected = Config {
        layers: 3,
        hidden: 64,
        heads: 3,
        kv_heads: 1,
        head: 32,
        rope_dims: 32,
        rope_base: 1.5e6,
        experts: 8,
        active: 3,
        expert_width: 96,
        gating: Gating::Sigmoid,
        vocab: 320,
        context: 8192,
        rms_eps: 1e-6,
        window: None,
    };
    assert_eq!(golden_config("q4_0-tied"), expected);
    assert_eq!(golden_config("window8").window, Some(Window { size: 8, period: 4 }));
    assert_eq!(golden_config("f16-softmax-untied").gating, Gating::Softmax);
    assert_eq!(golden_config("no-gating-key").gating, Gating::Sigmoid);
    assert_eq!(golden_config("partial-rope").rope_dims, 16);
}

#[test]
fn a_model_of_powerinfer_has_neurons_and_a_profiler() {
    let files = [Gguf::parse(golden_bytes("powerinfer.gguf")).unwrap()];
    let model = Model::new(&files).unwrap();
    let config = model.config(Overrides::default()).unwrap();
    let weights = model.weights(&config).unwrap();
    assert!(weights.layers.iter().all(|layer| matches!(layer.down, Down::Neurons(_))));
    let profiler = weights.profiler.unwrap();
    assert_eq!((profiler.fc1.rows(), profiler.fc1.cols()), (128, config.hidden));
    assert_eq!((profiler.fc2.rows(), profiler.fc2.cols()), (config.vocab, 128));
    let whole = model.tensor("lm_head_profiler.weight").unwrap().bytes().unwrap();
    assert_eq!([profiler.fc1.bytes(), profiler.fc2.bytes()].concat(), whole);
}

#[test]
fn a_split_model_is_the_model() {
    let name = SplitName::parse("split-00001-of-00002.gguf").unwrap();
    let files: Vec<Gguf<'_>> = (1..=name.count)
        .map(|part| Gguf::parse(golden_bytes(&name.sibling(part).to_string())).unwrap())
        .collect();
    assert_eq!(files[1].split(), Ok(Some(Split { number: 1, count: 2, tensors: 22 })));
    let model = Model::new(&files).unwrap();
    let config = model.config(Overrides::default()).unwrap();
    model.weights(&config).unwrap().validate(&config).unwrap();

    // The first part may have metadata alone, as llama.cpp's tool can write it.
    let mut parts = Tiny::default().writer().split(8);
    let mut head = Writer { tensors: Vec::new(), ..parts[0].clone() };
    parts[0].entries.clear();
    head.set("split.count", 4u16);
    for (part, number) in parts.iter_mut().zip(1u16..) {
        part.set("split.no", number).set("split.count", 4u16).set("split.tensors.count", 22i32);
    }
    parts.insert(0, head);
    let bytes: Vec<Vec<u8>> = parts.iter().map(Writer::to_bytes).collect();
    let files: Vec<Gguf<'_>> = bytes.iter().map(|part| Gguf::parse(part).unwrap()).collect();
    let model = Model::new(&files).unwrap();
    assert_eq!(model.config(Overrides::default()), Ok(Tiny::default().config));
    assert!(model.weights(&Tiny::default().config).is_ok());
}

/// The bytes of every tensor stand in the file where the model says, each expert's by themselves.
#[test]
fn tensors_lie_where_the_model_says() {
    let split = ["split-00001-of-00002.gguf", "split-00002-of-00002.gguf"];
    for names in [&["f16-softmax-untied.gguf"][..], &["powerinfer.gguf"], &split] {
        let parse = |name: &&str| Gguf::parse(golden_bytes(name)).unwrap();
        let files: Vec<Gguf<'_>> = names.iter().map(parse).collect();
        let model = Model::new(&files).unwrap();
        let config = model.config(Overrides::default()).unwrap();
        let weights = model.weights(&config).unwrap();
        let bytes = |Location { file, offset, .. }: Location, len| {
            &files[file].bytes()[offset as usize..][..len]
        };
        let mut count = 0;
        for name in TensorName::all(config.layers) {
            let Some(tensor) = model.tensor(&name.to_string()) else { continue };
            let location = model.location(&config, name).unwrap();
            let stride = location.stride as usize;
            match name.experts() {
                None => assert!(bytes(location, stride) == tensor.bytes().unwrap(), "{name}"),
                Some((layer, part)) => {
                    assert_eq!(
                        model.expert_locations(&config, layer).unwrap()[part as usize],
                        location
                    );
                    for expert in 0..config.experts {
                        let matrix = weights.layers[layer].experts(part).expert(expert);
                        let offset = location.offset + (expert * stride) as u64;
                        let found = bytes(Location { offset, ..location }, matrix.bytes().len());
                        assert!(found == matrix.bytes(), "{name}, expert {expert}");
                    }
                }
            }
            count += 1;
        }
        assert_eq!(count, model.tensors().count());
        let has_lm_head = model.tensor("output.weight").is_some();
        assert_eq!(weights.is_tied(), !has_lm_head);
        assert_eq!(model.location(&config, TensorName::once(Role::LmHead)).is_ok(), has_lm_head);
    }
}

#[test]
fn sizes_have_their_defaults() {
    let tiny = Tiny::default().config;
    let without = |key: &str| edited(|w| _ = w.remove(&format!("smallthinker.{key}")));
    assert_eq!(without("expert_gating_func").gating, Gating::Sigmoid);
    assert_eq!(without("rope.dimension_count").rope_dims, tiny.head);
    assert_eq!(without("attention.value_length"), tiny);
    assert_eq!(without("feed_forward_length"), tiny);
    assert_eq!(without("expert_feed_forward_length"), tiny);
    let no_tokens = edited(|w| _ = w.remove("tokenizer.ggml.tokens"));
    assert_eq!(no_tokens, tiny);
    let of_hidden = edited(|w| {
        w.remove("smallthinker.attention.key_length").remove("smallthinker.attention.value_length");
        w.remove("smallthinker.rope.dimension_count");
        w.set("smallthinker.attention.head_count", 2u32);
    });
    assert_eq!((of_hidden.heads, of_hidden.head), (2, 32));
    let of_heads = edited(|w| _ = w.remove("smallthinker.attention.head_count_kv"));
    assert_eq!(of_heads.kv_heads, 3);
}

#[test]
fn numbers_may_be_written_in_several_ways() {
    let tiny = Tiny::default().config;
    let with =
        |key: &str, value: Value| edited(|w| _ = w.set(&format!("smallthinker.{key}"), value));
    assert_eq!(with("block_count", 2u8.into()), tiny);
    assert_eq!(with("block_count", 2i64.into()), tiny);
    assert_eq!(with("attention.head_count", Value::array([3i32, 3])), tiny);
    assert_eq!(with("attention.head_count_kv", Value::array([1u64, 1])), tiny);
    assert_eq!(with("rope.freq_base", 1.5e6f64.into()), tiny);
    assert_eq!(with("rope.freq_base_swa", 1.5e6f32.into()), tiny);
    assert_eq!(with("rope.scaling.type", "none".into()), tiny);
    assert_eq!(with("rope.scaling.factor", 1.0f32.into()), tiny);
    assert_eq!(with("feed_forward_length", 7u32.into()), tiny, "feed_forward_length is not used");
    assert_eq!(with("attention.sliding_window", 0u32.into()), tiny, "0 is no window");
}

#[test]
fn a_caller_may_know_the_gating_better() {
    let bytes = Tiny::default().to_bytes();
    let files = [Gguf::parse(&bytes).unwrap()];
    let overrides = Overrides { gating: Some(Gating::Softmax) };
    let config = Model::new(&files).unwrap().config(overrides).unwrap();
    assert_eq!(config.gating, Gating::Softmax);
}

#[test]
fn windows_follow_the_pattern() {
    let mut tiny = Tiny::default();
    tiny.config.layers = 6;
    let period = |pattern: Option<Value>| {
        let mut writer = tiny.writer();
        writer.set("smallthinker.attention.sliding_window", 100u32);
        if let Some(pattern) = pattern {
            writer.set("smallthinker.attention.sliding_window_pattern", pattern);
        }
        let window = config_of(&writer.to_bytes()).window.unwrap();
        assert_eq!(window.size, 100);
        window.period
    };
    let bools = |windowed: [u8; 6]| Some(Value::array(windowed.map(|w| w == 1)));
    assert_eq!(period(None), 4);
    assert_eq!(period(Some(3u32.into())), 3);
    assert_eq!(period(bools([0, 1, 1, 1, 0, 1])), 4);
    assert_eq!(period(bools([0, 1, 0, 1, 0, 1])), 2);
    assert_eq!(period(bools([0, 0, 0, 0, 0, 0])), 1);
    assert_eq!(period(bools([0, 1, 1, 1, 1, 1])), 6);
}

#[test]
fn dimensions_of_one_may_be_missing_or_added() {
    let mut tiny = Tiny::default();
    (tiny.config.experts, tiny.config.active) = (1, 1);
    let mut writer = tiny.writer();
    for tensor in &mut writer.tensors {
        match tensor.dims[..] {
            [size] => tensor.dims = vec![size, 1, 1],
            [.., 1] => _ = tensor.dims.pop(),
            _ => (),
        }
    }
    let bytes = writer.to_bytes();
    let files = [Gguf::parse(&bytes).unwrap()];
    let model = Model::new(&files).unwrap();
    assert_eq!(model.config(Overrides::default()), Ok(tiny.config));
    model.weights(&tiny.config).unwrap().validate(&tiny.config).unwrap();
}

#[test]
fn odd_shapes_load() {
    for format in Format::ALL {
        for (width, hidden) in [(256, 256), (512, 256), (256, 768)] {
            let mut tiny = Tiny { format, tied: false, ..Tiny::default() };
            (tiny.config.hidden, tiny.config.expert_width) = (hidden, width);
            (tiny.config.heads, tiny.config.head, tiny.config.rope_dims) = (4, 64, 64);
            (tiny.config.layers, tiny.config.experts, tiny.config.vocab) = (1, 2, 3);
            for down_by_neuron in [false, width != hidden] {
                tiny.down_by_neuron = down_by_neuron;
                let bytes = tiny.to_bytes();
                let files = [Gguf::parse(&bytes).unwrap()];
                let model = Model::new(&files).unwrap();
                assert_eq!(model.config(Overrides::default()), Ok(tiny.config));
                let weights = model.weights(&tiny.config).unwrap();
                weights.validate(&tiny.config).unwrap();
                assert_eq!(matches!(weights.layers[0].down, Down::Neurons(_)), down_by_neuron);
                assert_eq!(weights.lm_head().format(), format);
            }
        }
    }
}

#[test]
fn tensors_that_are_not_used_do_not_matter() {
    let mut writer = Tiny::default().writer();
    writer.add("rope_freqs.weight", Format::F32, &[16], vec![0; 64]);
    writer.add("blk.2.attn_q.weight", Format::F32, &[8], vec![0; 32]);
    writer.add("blk.01.attn_q.weight", Format::F32, &[8], vec![0; 32]);
    writer.add("blk.2.attn_q.bias", Format::F32, &[8], vec![0; 32]);
    writer.tensor("blk.2.attn_q.bias").number = 999;
    let bytes = writer.to_bytes();
    let files = [Gguf::parse(&bytes).unwrap()];
    let model = Model::new(&files).unwrap();
    let config = model.config(Overrides::default()).unwrap();
    model.weights(&config).unwrap();
    let unused: Vec<&str> = model.unused(config.layers).map(|tensor| tensor.name()).collect();
    let expected =
        ["rope_freqs.weight", "blk.2.attn_q.weight", "blk.01.attn_q.weight", "blk.2.attn_q.bias"];
    assert_eq!(unused, expected);
    assert_eq!(model.tensor("blk.2.attn_q.bias").unwrap().range(), None);
}

#[test]
fn rope_scaling_by_one_is_none() {
    for (kind, factor) in [("none", 4.0f32), ("linear", 1.0), ("linear", 0.0)] {
        let mut writer = Tiny::default().writer();
        writer.set("smallthinker.rope.scaling.type", kind);
        writer.set("smallthinker.rope.scaling.factor", factor);
        assert_eq!(config_of(&writer.to_bytes()), Tiny::default().config, "{kind} {factor}");
    }
    let mut writer = Tiny::default().writer();
    writer.set("smallthinker.rope.scaling.type", "linear");
    assert_eq!(config_of(&writer.to_bytes()), Tiny::default().config);
}

#[test]
fn version_2_and_other_alignments_are_read() {
    let mut writer = Tiny::default().writer();
    (writer.version, writer.alignment) = (2, 4096);
    writer.set("general.alignment", 4096u32);
    let bytes = writer.to_bytes();
    let gguf = Gguf::parse(&bytes).unwrap();
    assert_eq!((gguf.version(), gguf.alignment()), (2, 4096));
    assert!(gguf.tensors().all(|tensor| tensor.range().unwrap().start % 4096 == 0));
    assert_eq!(config_of(&bytes), Tiny::default().config);
}

#[test]
fn an_empty_file_of_the_right_kind_is_read() {
    let bytes = Writer::default().to_bytes();
    let gguf = Gguf::parse(&bytes).unwrap();
    assert_eq!((gguf.entries().len(), gguf.tensor_count()), (0, 0));
}

/// The largest tables that are read, in an order that is no order.
#[test]
fn the_largest_tables_are_read() {
    let mut writer = Writer::default();
    let scattered = |n: usize| (0..n).map(move |i| i * 1001 % n);
    for i in scattered(wick_format::MAX_ENTRIES) {
        writer.set(&format!("key.{i}"), i as u32);
    }
    for i in scattered(wick_format::MAX_TENSORS) {
        writer.add(&format!("tensor.{i}"), Format::F32, &[1], (i as u32).to_le_bytes().into());
    }
    let bytes = writer.to_bytes();
    let gguf = Gguf::parse(&bytes).unwrap();
    for i in 0..wick_format::MAX_ENTRIES {
        assert_eq!(gguf.get(&format!("key.{i}")).unwrap().u32(), Ok(i as u32));
    }
    for i in 0..wick_format::MAX_TENSORS {
        let tensor = gguf.tensor(&format!("tensor.{i}")).unwrap();
        assert_eq!(tensor.bytes().unwrap(), (i as u32).to_le_bytes());
    }
    assert!(gguf.get("key.512").is_none() && gguf.tensor("tensor.2048").is_none());
}

/// A number, a bool or a string of a type.
fn plain(kind: Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::U8 => any::<u8>().prop_map(Value::U8).boxed(),
        Kind::I8 => any::<i8>().prop_map(Value::I8).boxed(),
        Kind::U16 => any::<u16>().prop_map(Value::U16).boxed(),
        Kind::I16 => any::<i16>().prop_map(Value::I16).boxed(),
        Kind::U32 => any::<u32>().prop_map(Value::U32).boxed(),
        Kind::I32 => any::<i32>().prop_map(Value::I32).boxed(),
        Kind::F32 => any::<f32>().prop_map(Value::F32).boxed(),
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        Kind::I64 => any::<i64>().prop_map(Value::I64).boxed(),
        Kind::F64 => any::<f64>().prop_map(Value::F64).boxed(),
        Kind::String | Kind::Array => {
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::String).boxed()
        }
    }
}

/// With all experts and all neurons everything is read but the other rows of the embedding; an
/// inactive neuron saves its row of `up`, and of `down` where that has one for it.
#[test]
fn a_token_reads_what_it_uses() {
    for (name, neuron_has_down) in [("f16-softmax-untied", false), ("powerinfer", true)] {
        let wick_tests::Model { config, weights, .. } = wick_tests::Model::golden(name);
        let all = config.experts * config.expert_width;
        let rows = |count| (HeadRows::Exact, count);
        let traffic =
            |neurons| Traffic::of_token(weights, config.experts, rows(config.vocab), |_| neurons);
        let (embedding, layer) = (&weights.embedding, &weights.layers[0]);
        let profiler = weights.profiler.map_or(0, |p| p.fc1.bytes().len() + p.fc2.bytes().len());
        let row = embedding.row_bytes(0, 1).len();
        let unread = if weights.is_tied() { 0 } else { embedding.bytes().len() } + profiler;
        assert_eq!(traffic(all).total() as usize, weights.bytes() - unread + row, "{name}");

        let of_neuron = |matrices: &ExpertMatrices<'_>| (matrices.size() / all) as u64;
        let down = if neuron_has_down { of_neuron(layer.down.matrices()) } else { 0 };
        let saved = traffic(all).total() - traffic(all - 1).total();
        assert_eq!(saved, config.layers as u64 * (of_neuron(&layer.up) + down), "{name}");

        // Two tokens share everything but their rows of the embedding.
        let two = Traffic::of_step(weights, 2, |_| config.experts, rows(2 * config.vocab), |_| all);
        assert_eq!(two.total(), traffic(all).total() + row as u64, "{name}");
    }
}

/// A value of any type, with arrays as deep as they are read.
fn value() -> BoxedStrategy<Value> {
    let kind = prop::sample::select(Kind::ALL.to_vec());
    let kind = kind.prop_filter("arrays are added below", |kind| *kind != Kind::Array);
    let flat = kind.prop_flat_map(|kind| {
        let array = prop::collection::vec(plain(kind), 0..5);
        prop_oneof![plain(kind), array.prop_map(move |values| Value::Array(kind, values))]
    });
    let nest = |inner: BoxedStrategy<Value>| {
        let arrays = inner.prop_filter("an array", |value| value.kind() == Kind::Array);
        let nested = prop::collection::vec(arrays, 0..3);
        nested.prop_map(|values| Value::Array(Kind::Array, values))
    };
    let flat = flat.boxed();
    let two = prop_oneof![flat.clone(), nest(flat)].boxed();
    let three = prop_oneof![two.clone(), nest(two)].boxed();
    prop_oneof![three.clone(), nest(three)].boxed()
}

fn tensor() -> impl Strategy<Value = (Format, Vec<usize>)> {
    let dims = prop::collection::vec(1usize..4, 1..=4);
    (prop::sample::select(Format::ALL.to_vec()), dims).prop_map(|(format, mut dims)| {
        dims[0] *= format.block_len();
        (format, dims)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_is_read(
        entries in prop::collection::btree_map("[a-zé.]{0,12}", value(), 0..8),
        tensors in prop::collection::btree_map("[a-z.0-9]{0,12}", tensor(), 0..8),
        version in 2u32..=3,
        alignment in prop::sample::select(vec![8usize, 16, 32, 64, 1024]),
    ) {
        let mut writer = Writer { version, alignment, ..Writer::default() };
        writer.set("general.alignment", alignment as u32);
        entries.into_iter().for_each(|(key, value)| _ = writer.set(&key, value));
        for (i, (name, (format, dims))) in tensors.into_iter().enumerate() {
            let rows: usize = dims[1..].iter().product();
            let data = vec![i as u8; rows * format.row_bytes(dims[0]).unwrap()];
            writer.add(&name, format, &dims, data);
        }
        let bytes = writer.to_bytes();
        let gguf = Gguf::parse(&bytes).unwrap();
        let read = Writer::from(&gguf);
        prop_assert_eq!(&read, &writer);
        for (key, value) in &writer.entries {
            let key = std::str::from_utf8(key).unwrap();
            prop_assert_eq!(&Value::from(gguf.get(key).unwrap().value), value);
        }
        for tensor in &writer.tensors {
            let name = std::str::from_utf8(&tensor.name).unwrap();
            prop_assert_eq!(gguf.tensor(name).unwrap().bytes().unwrap(), &tensor.data);
        }
    }
}

/// A file that is no file of wick's may have anything where the kind of its tokenizer is named.
#[test]
fn a_foreign_tokenizer_is_named_in_a_short_line() {
    let mut writer = Tiny::default().writer();
    writer.set("tokenizer.ggml.pre", format!("a\u{1b}[2J\n{}", "b".repeat(500)));
    let bytes = writer.to_bytes();
    let gguf = Gguf::parse(&bytes).unwrap();
    let said = wick_session::tokenizer(&gguf).unwrap_err().to_string();
    assert!(said.starts_with("tokenizer.ggml.pre: qwen2 expected, \"a\\u{1b}[2J\\nbbb"), "{said}");
    assert!(said.ends_with("bbb…\" found"), "{said}");
}
