//! Tiny random SmallThinker models, for tests that need no golden figures.

use crate::gguf::{Value, Writer};
use crate::random::Random;
use wick_core::{Config, Gating, Role, TensorName};
use wick_kernels::Format;

/// A random model of any shape.
#[derive(Clone, Debug)]
pub struct Tiny {
    /// Its shape.
    pub config: Config,
    /// The format of its matrices.
    pub format: Format,
    /// Other formats, by the name of the tensor without layer and `.weight`.
    pub formats: Vec<(&'static str, Format)>,
    /// Whether the embedding is the LM head too.
    pub tied: bool,
    /// Whether the experts' way down has a row for each neuron, as PowerInfer's files do.
    pub down_by_neuron: bool,
    /// Rank of the predictor of the LM head's rows, if the model has one.
    pub profiler: Option<usize>,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Default for Tiny {
    /// Two layers, Q4_0, 288 tokens, tied; every size is another one.
    fn default() -> Tiny {
        Tiny {
            config: Config {
                layers: 2,
                hidden: 64,
                heads: 3,
                kv_heads: 1,
                head: 32,
                rope_dims: 32,
                rope_base: 1.5e6,
                experts: 4,
                active: 2,
                expert_width: 160,
                gating: Gating::Sigmoid,
                vocab: 288,
                context: 512,
                rms_eps: 1e-6,
                window: None,
            },
            format: Format::Q4_0,
            formats: Vec::new(),
            tied: true,
            down_by_neuron: false,
            profiler: None,
            seed: 1,
        }
    }
}

impl Tiny {
    /// The file of the model, still to be written.
    pub fn writer(&self) -> Writer {
        let mut writer = Writer::default();
        self.add_keys(&mut writer);
        add_tokenizer(&mut writer, self.config.vocab);
        self.add_tensors(&mut writer);
        writer
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.writer().to_bytes()
    }

    fn add_keys(&self, writer: &mut Writer) {
        let c = &self.config;
        writer.set("general.architecture", "smallthinker").set("general.name", "tiny");
        let gating = match c.gating {
            Gating::Softmax => 1,
            Gating::Sigmoid => 2,
        };
        for (key, number) in [
            ("block_count", c.layers),
            ("context_length", c.context),
            ("embedding_length", c.hidden),
            ("feed_forward_length", c.expert_width),
            ("expert_feed_forward_length", c.expert_width),
            ("attention.head_count", c.heads),
            ("attention.head_count_kv", c.kv_heads),
            ("attention.key_length", c.head),
            ("attention.value_length", c.head),
            ("rope.dimension_count", c.rope_dims),
            ("expert_count", c.experts),
            ("expert_used_count", c.active),
            ("expert_gating_func", gating),
        ] {
            writer.set(&format!("smallthinker.{key}"), number as u32);
        }
        writer.set("smallthinker.attention.layer_norm_rms_epsilon", c.rms_eps);
        writer.set("smallthinker.rope.freq_base", c.rope_base);
        if let Some(window) = c.window {
            writer.set("smallthinker.attention.sliding_window", window.size as u32);
            if window.period != 4 {
                let period = window.period as u32;
                writer.set("smallthinker.attention.sliding_window_pattern", period);
            }
        }
    }

    fn add_tensors(&self, writer: &mut Writer) {
        let mut random = Random(self.seed);
        for name in TensorName::all(self.config.layers) {
            match name.role {
                Role::LmHead if self.tied => (),
                // It stands at the end.
                Role::Profiler => (),
                role => {
                    let shape = role.shape_in(&self.config, self.down_by_neuron);
                    self.add(writer, &mut random, name, shape.dims());
                }
            }
        }
        if let Some(rank) = self.profiler {
            let dims = [rank * (self.config.hidden + self.config.vocab), 1];
            self.add(writer, &mut random, TensorName::once(Role::Profiler), &dims);
        }
    }

    fn add(&self, writer: &mut Writer, random: &mut Random, name: TensorName, dims: &[usize]) {
        let role = name.role;
        let chosen = self.formats.iter().find(|(stem, _)| *stem == role.stem());
        let usual = if role.is_plain() { Format::F32 } else { self.format };
        let format = chosen.map_or(usual, |&(_, format)| format);
        let rows = dims[1..].iter().product();
        let scale = if dims.len() == 1 { 1.5 } else { 2.0 / (dims[0] as f32).sqrt() };
        let data = random.weights(format, rows, dims[0], scale);
        writer.add(&name.to_string(), format, dims, data);
    }
}

/// A tokenizer of `vocab` tokens: the bytes, pairs of small letters with their merges, padding, and
/// at the end the two tokens that end a text and a turn.
fn add_tokenizer(writer: &mut Writer, vocab: usize) {
    const ENDS: [&str; 2] = ["<|endoftext|>", "<|im_end|>"];
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8);
    let ends = vocab.saturating_sub(ENDS.len());
    let (mut tokens, mut kinds, mut merges) = (Vec::new(), Vec::new(), Vec::new());
    for id in 0..vocab {
        let (token, kind) = match id {
            _ if id >= ends => (ENDS[id - ends].to_owned(), 3),
            0..256 => (wick_text::stored_char(id as u8).to_string(), 1),
            256..932 => {
                let (first, second) = (letter((id - 256) / 26), letter(id - 256));
                merges.push(format!("{first} {second}"));
                (format!("{first}{second}"), 1)
            }
            _ => (format!("[PAD{id}]"), 5),
        };
        tokens.push(token.into());
        kinds.push(Value::I32(kind));
    }
    let merges = merges.into_iter().map(Value::from).collect();
    writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "qwen2");
    writer.set("tokenizer.ggml.tokens", Value::Array(wick_format::Kind::String, tokens));
    writer.set("tokenizer.ggml.token_type", Value::Array(wick_format::Kind::I32, kinds));
    writer.set("tokenizer.ggml.merges", Value::Array(wick_format::Kind::String, merges));
    writer.set("tokenizer.ggml.eos_token_id", (vocab - 1) as u32);
    writer.set("tokenizer.ggml.add_bos_token", false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use crate::{Model, bits, ids, step};
    use wick_core::{HeadRows, KvFormat, LeastRecent, Options, Serial, Window};
    use wick_linux::{Cpus, Pool};

    /// From the file to the logits by all that the core does, with as little work as may be: so that Miri can do it, too.
    #[test]
    fn the_smallest_model_is_computed_alike_in_every_way() {
        let window = Some(Window { size: 2, period: 2 });
        let shape = Config {
            hidden: 32,
            heads: 2,
            head: 32,
            experts: 3,
            active: 2,
            ..Tiny::default().config
        };
        let config = Config { expert_width: 32, vocab: 260, context: 8, window, ..shape };
        let model = Model::read(&[Tiny { config, ..Tiny::default() }.to_bytes().leak()]);
        let pool: &'static Pool = Box::leak(Box::new(Pool::new(2, &Cpus::detect())));
        let ids = ids(4, config.vocab);
        for kv in [KvFormat::F16, KvFormat::Q8_0] {
            let model = model.keeping(kv);
            let expected = bits(&model.logits(&ids, 1, &Serial));
            assert!(bits(&model.logits(&ids, 4, pool)) == expected, "two threads, {kv:?}");
            assert!(
                bits(&model.arranged().logits(&ids, 2, &Serial)) == expected,
                "arranged, {kv:?}"
            );
            let options = Options {
                context: 4,
                sequences: 1,
                batch: 2,
                logits: 2,
                head_rows: HeadRows::Exact,
                kv,
            };
            let store = Box::leak(Box::new(MemoryStore::new(model.weights, 3, 1)));
            let mut engine = model.streaming(options, store, &LeastRecent, pool);
            let mut found = Vec::new();
            for pair in ids.chunks(2) {
                step(&mut engine, 0, pair);
                (0..2).for_each(|i| found.extend(bits(engine.logits(i).unwrap())));
            }
            assert!(found == expected, "streamed, {kv:?}");
        }
    }
}
