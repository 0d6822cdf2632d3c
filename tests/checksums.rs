//! All logits of a text as one number, for nano, every golden model and a slice of the 4B's shape: the same for every kernel, any
//! threads, streamed or not, alone or beside others, and on every machine.
//!
//! The numbers stand in `golden/checksums.txt`. `ci/checksums` goes all ways on all machines and makes a table of them.

use std::fs;
use std::sync::LazyLock;
use wick_core::{
    Config, Engine, HeadRows, KvFormat, LeastRecent, Logits, Options, Parallel, Serial, Token,
    Window,
};
use wick_format::SplitName;
use wick_kernels::Kernels;
use wick_linux::{Cpus, Pool, all_kernels, kernels};
use wick_tests::store::MemoryStore;
use wick_tests::tiny::Tiny;
use wick_tests::{Model, golden_bytes, golden_path, ids, some};

/// Tokens of the text: most windows see less. What is wide takes its time.
fn length(model: &Model) -> usize {
    if model.config.hidden > 1000 { 16 } else { 80 }
}
/// Tokens of a step.
const BATCH: usize = 16;

static TWO: LazyLock<Pool> = LazyLock::new(|| Pool::new(2, &Cpus::detect()));
static FOUR: LazyLock<Pool> = LazyLock::new(|| Pool::new(4, &Cpus::detect()));

/// How logits are come by.
#[derive(Clone, Copy)]
struct Way {
    kernels: &'static Kernels,
    pool: &'static dyn Parallel,
    is_streamed: bool,
    /// Sequences that are computed together.
    sequences: usize,
}

impl Way {
    /// All there are on this machine.
    fn all() -> impl Iterator<Item = Way> {
        let pools = || [&Serial as &'static dyn Parallel, &*TWO, &*FOUR].into_iter();
        all_kernels().into_iter().flat_map(move |kernels| {
            pools().flat_map(move |pool| {
                [(false, 1), (false, 4), (true, 1), (true, 4)].map(|(is_streamed, sequences)| Way {
                    kernels,
                    pool,
                    is_streamed,
                    sequences,
                })
            })
        })
    }

    fn engine(self, model: &Model) -> Engine<'static> {
        let options = Options {
            context: length(model),
            sequences: self.sequences,
            batch: BATCH,
            logits: BATCH,
            head_rows: HeadRows::Exact,
            kv: model.kv,
        };
        let model = model.with(self.kernels);
        if !self.is_streamed {
            return model.engine(options, self.pool);
        }
        let slots = (model.config.layers * model.config.experts).div_ceil(2);
        let store = Box::leak(Box::new(MemoryStore::new(model.weights, slots, 1)));
        model.streaming(options, store, &LeastRecent, self.pool)
    }

    /// CRC-32 of all logits of the first sequence; the others hold other texts.
    fn checksum(self, model: &Model) -> u32 {
        let (mut engine, mut hash) = (self.engine(model), crc32fast::Hasher::new());
        let (len, each) = (length(model), BATCH / self.sequences);
        let ids = ids(len, model.config.vocab);
        for from in (0..len).step_by(each) {
            let token = |sequence: usize, at: usize| {
                Token::new(ids[(at + 7 * sequence) % len], sequence, Logits::All)
            };
            let batch = (0..self.sequences)
                .flat_map(|sequence| (from..from + each).map(move |at| token(sequence, at)));
            engine.step(&batch.collect::<Vec<_>>()).unwrap();
            for logit in (0..each).flat_map(|i| engine.logits(i).unwrap()) {
                hash.update(&logit.to_le_bytes());
            }
        }
        hash.finalize()
    }
}

/// Two layers of the 4B's shape with few experts and tokens.
fn slice() -> Model {
    let config = Config {
        layers: 2,
        hidden: 1536,
        heads: 12,
        kv_heads: 2,
        head: 128,
        rope_dims: 128,
        experts: 4,
        active: 2,
        expert_width: 768,
        window: Some(Window { size: 10, period: 4 }),
        ..Tiny::default().config
    };
    Model::read(&[Tiny { config, ..Tiny::default() }.to_bytes().leak()])
}

/// A golden model, from its file or from all parts of which this is the first.
fn golden(file: &str) -> Option<(String, Model)> {
    let name = file.strip_suffix(".gguf")?;
    let Some(split) = SplitName::parse(file) else {
        return Some((name.into(), Model::golden(name)));
    };
    let part = |part| golden_bytes(&split.sibling(part).to_string());
    let parts: Vec<_> = (1..=split.count).map(part).collect();
    (split.sibling(1).to_string() == file).then(|| ("split".into(), Model::read(&parts)))
}

fn models() -> Vec<(String, Model)> {
    let files = fs::read_dir(golden_path("")).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut models: Vec<_> = files.filter_map(|file| golden(&file)).collect();
    models.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, model) in [("nano", Model::golden("../models/nano/nano")), ("slice", slice())] {
        models.push((name.into(), model));
        models.push((format!("{name}-kv-q8_0"), model.keeping(KvFormat::Q8_0)));
    }
    models
}

#[test]
fn logits_are_those_of_every_machine() {
    let way = Way { kernels: kernels(), pool: &Serial, is_streamed: false, sequences: 1 };
    let lines = models().into_iter().map(|(name, model)| (name, way.checksum(&model.arranged())));
    let found: String = lines.map(|(name, sum)| format!("{name} {sum:08x}\n")).collect();
    let expected = fs::read_to_string(golden_path("checksums.txt")).unwrap();
    assert!(found == expected, "these are found, in golden/checksums.txt are others:\n{found}");
}

/// Every kernel with the models that `WICK_WAYS` names, or `all`; the best one with a model where nobody asks.
#[test]
fn every_way_has_the_same_logits() {
    let expected = fs::read_to_string(golden_path("checksums.txt")).unwrap();
    let asked = std::env::var("WICK_WAYS").ok();
    let is_asked = |name: &str| match &asked {
        Some(names) => names.split(' ').any(|asked| asked == name || asked == "all"),
        None => name == "window8",
    };
    let is_taken = |way: &Way| asked.is_some() || way.kernels.name() == kernels().name();
    let most = if asked.is_some() { usize::MAX } else { some(12) };
    for (name, model) in models().into_iter().filter(|(name, _)| is_asked(name)) {
        let model = model.arranged();
        for way in Way::all().filter(is_taken).take(most) {
            let sum = way.checksum(&model);
            println!("way {} {} {name} {sum:08x}", std::env::consts::ARCH, way.kernels.name());
            let is_expected = expected.contains(&format!("{name} {sum:08x}\n"));
            assert!(asked.is_some() || is_expected, "{name}: {sum:08x}");
        }
    }
}
